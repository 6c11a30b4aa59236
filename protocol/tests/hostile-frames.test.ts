// Frames made to cost their reader much: each is refused, and none takes longer than an honest frame of the same size.

import { encode } from 'cborg'
import { describe, expect, test } from 'vitest'
import { decodeClientMessages, decodeServerMessages, encodeMessage } from '../src/messages/codec.ts'

const FRAME_BYTES = 1024 * 1024

/** CBOR heads: major type and length, in the shortest form. */
function head(major: number, length: number): Buffer {
  const first = major << 5
  if (length < 24) return Buffer.from([first | length])
  if (length < 256) return Buffer.from([first | 24, length])
  if (length < 65_536) return Buffer.from([first | 25, length >> 8, length & 255])
  const bytes = Buffer.alloc(5)
  bytes[0] = first | 26
  bytes.writeUInt32BE(length, 1)
  return bytes
}
const ARRAY = 4
const MAP = 5
const TEXT = 3
const BYTES = 2

/** As many times as fit a frame of the largest size. */
const fill = (part: (index: number) => Buffer, major: number): Buffer => {
  const parts: Buffer[] = []
  let length = 0
  while (length < FRAME_BYTES) {
    const next = part(parts.length)
    parts.push(next)
    length += next.length
  }
  const count = major === MAP ? Math.floor(parts.length / 2) : parts.length
  return Buffer.concat([head(major, count), ...parts])
}

const text = (value: string): Buffer => Buffer.concat([head(TEXT, Buffer.byteLength(value)), Buffer.from(value)])
const one = Buffer.from([1])

const HOSTILE: Readonly<Record<string, Buffer>> = {
  'a map of 200 000 keys': fill((i) => (i % 2 === 0 ? text(i.toString(36).padStart(4, '0')) : one), MAP),
  'a map with one key again and again': fill((i) => (i % 2 === 0 ? text('a') : one), MAP),
  'a million numbers': fill(() => one, ARRAY),
  'empty arrays': fill(() => head(ARRAY, 0), ARRAY),
  'empty maps': fill(() => head(MAP, 0), ARRAY),
  'small maps': fill(() => Buffer.concat([head(MAP, 1), text('a'), one]), ARRAY),
  'short texts': fill(() => text('type'), ARRAY),
  'empty byte strings': fill(() => head(BYTES, 0), ARRAY),
  'arrays of arrays': fill(() => Buffer.concat([head(ARRAY, 3), one, head(ARRAY, 1), one, one]), ARRAY),
  'one long text': Buffer.concat([head(TEXT, FRAME_BYTES), Buffer.alloc(FRAME_BYTES, 'a')]),
  'one long text of no UTF-8': Buffer.concat([head(TEXT, FRAME_BYTES), Buffer.alloc(FRAME_BYTES, 0xff)]),
  'a long key': Buffer.concat([head(MAP, 1), head(TEXT, FRAME_BYTES), Buffer.alloc(FRAME_BYTES, 'a'), one]),
  'an array that never comes': Buffer.concat([head(ARRAY, 0xffffffff), Buffer.alloc(FRAME_BYTES, 1)]),
  'a map that never comes': Buffer.concat([head(MAP, 0xffffffff), Buffer.alloc(FRAME_BYTES, 1)]),
  'arrays in arrays': Buffer.alloc(FRAME_BYTES, head(ARRAY, 1)),
  'messages of every kind and none': fill(
    (i) => Buffer.from(encode({ type: i % 2 === 0 ? 'ping' : 'x', id: i })),
    ARRAY,
  ),
  'a message with fields of its own': Buffer.from(
    encode(Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`field-${i}`, i]))),
  ),
  'a publish message of numbers': Buffer.concat([
    head(MAP, 2),
    text('type'),
    text('publish'),
    text('events'),
    fill(() => one, ARRAY),
  ]),
}

/** Within the bounds of parts, and wrong in each of them. */
const WRONG: Readonly<Record<string, Uint8Array>> = {
  'a publish message of 8000 numbers': encode({ type: 'publish', events: Array.from({ length: 8000 }, () => 1) }),
  'a page of 500 wrong items': encode({
    type: 'events',
    events: Array.from({ length: 500 }, () => [1, 1]),
    through: 1,
  }),
  'a device log of 8000 numbers': encode({
    type: 'device_log',
    request_id: 1,
    entries: Array.from({ length: 8000 }, () => 1),
    head_seq: 1,
  }),
  '64 publish messages of wrong events': encode(
    Array.from({ length: 64 }, () => ({ type: 'publish', events: Array.from({ length: 120 }, () => 1) })),
  ),
}

/** 512 events that fill the frame. */
const honestPublish = encodeMessage({
  type: 'publish',
  events: Array.from({ length: 512 }, (_, i) => new Uint8Array(FRAME_BYTES / 512 - 8).fill(i)),
})
/** As many events as fit a frame when each is as small as an event can be. */
const honestMany = encode(
  Array.from({ length: 8 }, () => ({
    type: 'publish',
    events: Array.from({ length: 512 }, (_, i) => new Uint8Array(250).fill(i)),
  })),
)
const honestPage = encodeMessage({
  type: 'events',
  events: Array.from({ length: 512 }, (_, i) => [i + 1, i + 1, 1, new Uint8Array(16), i + 1, 1, 0, new Uint8Array(32)]),
  through: 512,
})

/** The median of several, in milliseconds. */
function costOf(work: () => unknown): number {
  const times = Array.from({ length: 9 }, () => {
    const startedAtMs = performance.now()
    work()
    return performance.now() - startedAtMs
  })
  return times.sort((a, b) => a - b)[4]!
}

describe('honest frames of the largest kind', () => {
  test('MSG-4: are within the bounds', () => {
    expect(decodeClientMessages(honestPublish)).toMatchObject({ ok: true })
    expect(decodeClientMessages(honestMany)).toMatchObject({ ok: true })
    expect(decodeServerMessages(honestPage)).toMatchObject({ ok: true })
    const envelopes = {
      type: 'envelopes' as const,
      request_id: 1,
      boxes: Array.from({ length: 100 }, (_, i) => ({ epoch: i + 1, box: new Uint8Array(1200) })),
      links: Array.from({ length: 800 }, (_, i) => ({ epoch: i + 1, prev_epoch: i, box: new Uint8Array(60) })),
      is_last: true,
    }
    expect(decodeServerMessages(encodeMessage(envelopes))).toMatchObject({ ok: true })
  })
})

describe('hostile frames', () => {
  // Compiled before anything is measured.
  for (let i = 0; i < 50; i++) {
    decodeClientMessages(honestMany)
    decodeServerMessages(honestPage)
  }
  const honest = Math.max(
    costOf(() => decodeClientMessages(honestMany)),
    costOf(() => decodeServerMessages(honestPage)),
  )

  test.each(Object.entries<Uint8Array>({ ...HOSTILE, ...WRONG }))(
    'MSG-4: %s: refused, at no more than four times the cost of an honest frame',
    (_, frame) => {
      for (const decode of [decodeClientMessages, decodeServerMessages]) {
        expect(decode(frame).ok).toBe(false)
        expect(costOf(() => decode(frame))).toBeLessThan(4 * honest)
      }
    },
  )
})
