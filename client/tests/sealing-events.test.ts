// Sealed events: what goes in comes out, nothing else opens, and no bytes make a parser throw.

import { readFileSync } from 'node:fs'
import {
  assembleEvent,
  chainAfter,
  chainStart,
  createEventId,
  type EventHeader,
  encodeEventHeader,
  leafOf,
  parseEvent,
  toDeviceId,
  toStreamId,
  toUserId,
  verifyEventSignature,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeContent, parseContent } from '../src/sealing/content.ts'
import { sealContentBytes } from '../src/sealing/content-cipher.ts'
import { openEvent, sealEvent } from '../src/sealing/event-seal.ts'
import { bytesOf } from './support/vectors.ts'

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte)
const userId = toUserId(filled(32, 1))!
const deviceId = toDeviceId(filled(16, 2))!
const signer = crypto.createSigner(filled(32, 3))
const contentKey = filled(32, 4)
const header: Omit<EventHeader, 'nonce'> = {
  userId,
  deviceId,
  deviceSeq: 1,
  chainPrev: chainStart(crypto, userId, deviceId),
  streamId: toStreamId(filled(16, 5))!,
  eventId: createEventId(1_700_000_000_000, filled(10, 6)),
  epoch: 1,
  logSeq: 0,
  logHead: filled(32, 8),
  ttlS: 0,
  isTombstone: false,
  isKept: false,
  checkpoint: undefined,
}
interface ContentVector {
  readonly title: string
  readonly hex: string
  readonly result: 'content' | 'unknown_version' | 'unparsable'
  readonly content?: { readonly at: number; readonly body: string; readonly type: string }
}

/** What a reader of another make must agree on, to the byte. */
const CONTENT_VECTORS: ContentVector[] = JSON.parse(
  readFileSync(new URL('content-vectors.json', import.meta.url), 'utf8'),
)

const data = new TextEncoder().encode('the diplomatic valise crosses every border unopened')

describe('sealed events', () => {
  test('ORD-1: an event opens to what was sealed, and its chain and signature hold', async () => {
    const { wire, leaf, chain } = await sealEvent(crypto, signer, contentKey, header, data)
    const event = parseEvent(wire)!
    expect(event).toMatchObject(header)
    expect(openEvent(contentKey, event)).toEqual(data)
    expect(leafOf(crypto, event)).toEqual(leaf)
    expect(chainAfter(crypto, header.chainPrev, leaf)).toEqual(chain)
    expect(verifyEventSignature(crypto, signer.publicKey, event)).toBe(true)
  })

  test('ORD-1: the same data sealed twice differs, for the nonce is random', async () => {
    const first = await sealEvent(crypto, signer, contentKey, header, data)
    const second = await sealEvent(crypto, signer, contentKey, header, data)
    expect(first.leaf).not.toEqual(second.leaf)
  })

  test('ORD-1: data of any length comes back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 3000 }), async (bytes) => {
        const { wire } = await sealEvent(crypto, signer, contentKey, header, bytes)
        expect(openEvent(contentKey, parseEvent(wire)!)).toEqual(bytes)
      }),
      { numRuns: 50 },
    )
  })

  test('ORD-6: a tombstone seals nothing, and nothing else does', async () => {
    const tombstone = { ...header, isTombstone: true }
    const { wire } = await sealEvent(crypto, signer, contentKey, tombstone, new Uint8Array(0))
    expect(openEvent(contentKey, parseEvent(wire)!)).toEqual(new Uint8Array(0))
    await expect(sealEvent(crypto, signer, contentKey, tombstone, data)).rejects.toThrow(RangeError)
    await expect(sealEvent(crypto, signer, contentKey, header, new Uint8Array(0))).rejects.toThrow(RangeError)
  })

  test('ORD-1: a flip of any byte of header or ciphertext does not open', async () => {
    const { wire } = await sealEvent(crypto, signer, contentKey, header, data)
    for (let at = 0; at < wire.length - 64; at++) {
      const flipped = wire.slice()
      flipped[at]! ^= 1 << (at % 8)
      const event = parseEvent(flipped)
      expect(event && openEvent(contentKey, event), `byte ${at}`).toBeUndefined()
    }
    expect(openEvent(filled(32, 9), parseEvent(wire)!)).toBeUndefined()
  })

  /** An event with the right tag over any padded bytes. */
  const sealPadded = (padded: Uint8Array, isTombstone = false) => {
    const nonce = filled(24, 7)
    const headerBytes = encodeEventHeader({ ...header, isTombstone, nonce })
    const wire = assembleEvent(headerBytes, sealContentBytes(contentKey, nonce, headerBytes, padded), filled(64, 0))
    return openEvent(contentKey, parseEvent(wire)!)
  }
  const padded = (length: number, dataLength: number): Uint8Array => {
    const bytes = new Uint8Array(length)
    new DataView(bytes.buffer).setUint32(0, dataLength)
    return bytes.fill(1, 4, Math.min(4 + dataLength, length))
  }

  test('ORD-1: padding is exact, and zero', () => {
    expect(sealPadded(padded(128, 124))).toEqual(filled(124, 1))
    expect(sealPadded(padded(128, 3))).toEqual(filled(3, 1))
    expect(sealPadded(padded(144, 3))).toBeUndefined()
    expect(sealPadded(padded(136, 130))).toBeUndefined()
    expect(sealPadded(padded(128, 125))).toBeUndefined()
    expect(sealPadded(padded(128, 0xffffffff))).toBeUndefined()
    for (const at of [7, 127]) {
      const dirty = padded(128, 3)
      dirty[at] = 1
      expect(sealPadded(dirty), `byte ${at}`).toBeUndefined()
    }
  })

  test('ORD-6: an event that says it is a tombstone holds nothing, and only such an event does', () => {
    expect(sealPadded(padded(128, 0), true)).toEqual(new Uint8Array(0))
    expect(sealPadded(padded(128, 1), true)).toBeUndefined()
    expect(sealPadded(padded(128, 0), false)).toBeUndefined()
  })
})

describe('content', () => {
  const content = { type: 'note', atMs: 1_700_000_000_000, body: Uint8Array.of(1, 2, 3) }

  test('EVT-3: content is one encoding of CBOR', () => {
    const hex = '01 a3 626174 1b0000018bcfe56800 64626f6479 43010203 6474797065 646e6f7465'.replaceAll(' ', '')
    expect(Buffer.from(encodeContent(content)).toString('hex')).toBe(hex)
    expect(parseContent(encodeContent(content))).toEqual({ type: 'content', content })
  })

  test('EVT-3: any content comes back', () => {
    const contents = fc.record({
      type: fc.string({ minLength: 1, maxLength: 64, unit: 'binary' }).filter((type) => type.length <= 64),
      atMs: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
      body: fc.uint8Array({ maxLength: 500 }),
    })
    fc.assert(
      fc.property(contents, (given) => {
        expect(parseContent(encodeContent(given))).toEqual({ type: 'content', content: given })
      }),
    )
  })

  test.each(CONTENT_VECTORS)('EVT-3: $title is $result', ({ hex, result, content: expected }) => {
    const bytes = bytesOf(hex)
    const parsed = parseContent(bytes)
    expect(parsed.type).toBe(result)
    if (parsed.type !== 'content' || expected === undefined) return
    const fields = { type: expected.type, atMs: expected.at, body: bytesOf(expected.body) }
    expect(parsed.content).toEqual(fields)
    expect(encodeContent(fields)).toEqual(bytes)
  })

  test('EVT-3: a type that has no UTF-8, or none or too many characters, is not sealed', () => {
    for (const type of ['\ud800', '', 'x'.repeat(65)]) {
      expect(() => encodeContent({ ...content, type })).toThrow(RangeError)
    }
    for (const atMs of [-1, 0.5, 2 ** 53, Number.NaN]) {
      expect(() => encodeContent({ ...content, atMs })).toThrow(RangeError)
    }
  })

  test('EVT-3: no bytes make the parser throw', () => {
    const encoded = encodeContent(content)
    const nearMiss = fc
      .tuple(fc.nat({ max: encoded.length }), fc.uint8Array({ maxLength: 6 }))
      .map(([start, piece]) =>
        Uint8Array.of(...encoded.subarray(0, start), ...piece, ...encoded.subarray(start + piece.length)),
      )
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), nearMiss), (bytes) => {
        const parsed = parseContent(bytes)
        if (parsed.type === 'content') expect(encodeContent(parsed.content)).toEqual(bytes)
        if (parsed.type === 'unknown_version') expect(bytes[0]).not.toBe(1)
      }),
      { numRuns: 1000 },
    )
  })
})
