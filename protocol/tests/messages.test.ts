// The message codec: round trips, bounds, and no byte string that makes a decoder throw.

import { createHash } from 'node:crypto'
import { encode } from 'cborg'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  type ClientMessage,
  clientMessage,
  decodeClientMessages,
  decodeServerMessages,
  encodeMessage,
  PROTOCOL_VERSION,
  serverMessage,
} from '../src/index.ts'
import { bytes as byteString, deviceId, fixedBytes, userId } from '../src/messages/fields.ts'

const bytes = (length: number, fill = 7) => new Uint8Array(length).fill(fill)

describe('MSG-1: a message fits its schema or is refused with a code that names the field', () => {
  const publish: ClientMessage = { type: 'publish', events: [bytes(300), bytes(200)] }

  it('MSG-1: one message and an array of messages round-trip', () => {
    expect(decodeClientMessages(encodeMessage(publish))).toEqual({ ok: true, messages: [publish] })
    const both = encode([publish, { type: 'ack', cursor: 5 }])
    expect(decodeClientMessages(both)).toEqual({ ok: true, messages: [publish, { type: 'ack', cursor: 5 }] })
  })

  it('MSG-1: a receiver accepts events with and without their bytes', () => {
    const events = {
      type: 'events' as const,
      events: [
        [1, 1, 1000, bytes(300)],
        [3, 2, 1001, bytes(16), 2, 3600, 0, bytes(32)],
      ],
      through: 4,
      at: 2000,
      head: 4,
    }
    const decoded = decodeServerMessages(encode(events))
    expect(decoded.ok && decoded.messages).toEqual([events])
  })

  it.each([
    ['unknown type', { type: 'shout' }, 'type'],
    ['missing type', { cursor: 1 }, 'type'],
    ['missing field', { type: 'ack' }, 'cursor'],
    ['extra field', { type: 'ack', cursor: 1, extra: 1 }, 'message'],
    ['negative number', { type: 'ack', cursor: -1 }, 'cursor'],
    ['wrong length', { type: 'resume', cursor: 0, log_epoch: bytes(15) }, 'log_epoch'],
    ['text for bytes', { type: 'publish', events: ['secret'] }, 'events.0'],
    ['too many events', { type: 'publish', events: Array.from({ length: 513 }, () => bytes(1)) }, 'events'],
    ['no events', { type: 'publish', events: [] }, 'events'],
    ['id beyond u32', { type: 'ping', id: 2 ** 32 }, 'id'],
    ['not a map', 5, 'message'],
  ])('MSG-1: %s', (_name, message, field) => {
    const decoded = decodeClientMessages(encode(message))
    expect(decoded).toEqual({ ok: false, code: 'invalid_message', field })
  })

  it('MSG-1: bytes have at least and at most their length', () => {
    for (const [schema, min, max] of [
      [byteString(2, 4), 2, 4],
      [fixedBytes(3), 3, 3],
      [deviceId, 16, 16],
      [userId, 32, 32],
    ] as const) {
      const isTaken = (length: number): boolean => schema.safeParse(bytes(length)).success
      expect([min - 1, min, max, max + 1].map(isTaken)).toEqual([false, true, true, false])
      expect(schema.safeParse('x'.repeat(min)).success).toBe(false)
    }
  })

  it('MSG-1: the refusal never repeats what the peer sent', () => {
    const decoded = decodeClientMessages(encode({ type: 'ack', cursor: 1, topsecret: 'topsecret' }))
    expect(JSON.stringify(decoded)).not.toContain('topsecret')
  })
})

describe('MSG-2: CBOR is bounded and strict', () => {
  const refused = { ok: false, code: 'bad_frame' }

  it.each([
    ['deep nesting of arrays', bytes(500_000, 0x81)],
    ['deep nesting of maps', bytes(500_000, 0xa1)],
    ['deep nesting of tags', bytes(500_000, 0xc1)],
    ['a huge array length', Uint8Array.of(0x9a, 0xff, 0xff, 0xff, 0xff)],
    ['a huge map length', Uint8Array.of(0xba, 0xff, 0xff, 0xff, 0xff)],
    ['a huge byte string', Uint8Array.of(0x5a, 0xff, 0xff, 0xff, 0xff)],
    ['a 64-bit length', Uint8Array.of(0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)],
    ['an indefinite array', Uint8Array.of(0x9f, 0xff)],
    ['an indefinite array of messages', Uint8Array.of(0x9f, ...encode({ type: 'ping', id: 1 }), 0xff)],
    ['an indefinite map', Uint8Array.of(0xbf, ...encode({ type: 'ping', id: 1 }).subarray(1), 0xff)],
    ['an undefined field', Uint8Array.of(0xa3, ...encode({ type: 'ping', id: 1 }).subarray(1), 0x61, 0x61, 0xf7)],
    ['seven arrays within each other', Uint8Array.of(...bytes(7, 0x81), 0x01)],
    ['seven maps within each other', Uint8Array.of(...Array(7).fill([0xa1, 0x61, 0x61]).flat(), 0x01)],
    ['a number beyond 2^53', Uint8Array.of(0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)],
    ['a number not in shortest form', Uint8Array.of(0x18, 0x01)],
    [
      'a float that is an integer',
      Uint8Array.of(
        0xa2,
        0x64,
        ...Buffer.from('type'),
        0x63,
        ...Buffer.from('ack'),
        0x66,
        ...Buffer.from('cursor'),
        0xf9,
        0x3c,
        0x00,
      ),
    ],
    ['a double', Uint8Array.of(0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0)],
    ['duplicate keys', Uint8Array.of(0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02)],
    ['trailing bytes', Uint8Array.of(0x01, 0x01)],
    ['no bytes', new Uint8Array(0)],
    ['no messages', Uint8Array.of(0x80)],
    ['too many messages', encode(Array.from({ length: 65 }, () => ({ type: 'ping', id: 1 })))],
  ])('MSG-2: %s', (_name, payload) => {
    expect(decodeClientMessages(payload)).toEqual(refused)
  })

  it('MSG-2: what stands at the bounds is read', () => {
    const pings = Array.from({ length: 64 }, () => ({ type: 'ping', id: 1 }))
    expect(decodeClientMessages(encode(pings))).toMatchObject({ ok: true, messages: { length: 64 } })
    const invalid = { ok: false, code: 'invalid_message' }
    expect(decodeClientMessages(Uint8Array.of(...bytes(6, 0x81), 0x01))).toMatchObject(invalid)
    expect(decodeClientMessages(Uint8Array.of(...Array(6).fill([0xa1, 0x61, 0x61]).flat(), 0x01))).toMatchObject(
      invalid,
    )
  })

  it('MSG-2: no decoder throws on any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (payload) => {
        decodeClientMessages(payload)
        decodeServerMessages(payload)
      }),
      { numRuns: 2000 },
    )
  })

  it('MSG-2: no decoder throws on a valid message with any byte changed', () => {
    const payload = encodeMessage({ type: 'resume', cursor: 77, log_epoch: bytes(16) })
    for (let at = 0; at < payload.length; at++) {
      for (let value = 0; value < 256; value += 3) {
        const changed = payload.slice()
        changed[at] = value
        decodeClientMessages(changed)
      }
    }
  })
})

/** A schema that changes gets a new version and a new line here. */
const HASH_BY_VERSION = new Map([[1, 'f2141d9f1e720d9c6ab1f0f1e5857c684f0e9142ef65b120e41ca898c9873409']])

describe('MSG-3: schemas and protocol version move together', () => {
  it('MSG-3: the hash of all schemas belongs to this version', () => {
    const shape = [clientMessage, serverMessage].map((schema) => z.toJSONSchema(schema, { unrepresentable: 'any' }))
    const hash = createHash('sha256').update(JSON.stringify(shape)).digest('hex')
    expect(hash).toBe(HASH_BY_VERSION.get(PROTOCOL_VERSION))
  })
})
