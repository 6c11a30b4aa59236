// Events as bytes and their chain (PROTOCOL E), without content: what the server sees.

import { createHash } from 'node:crypto'
import {
  assembleEvent,
  chainStart,
  createEventId,
  EVENT_HEADER_BYTES,
  EVENT_OVERHEAD_BYTES,
  type EventHeader,
  encodeEventHeader,
  encodeLeafInput,
  leafHash,
  MAX_TTL_S,
  nextChain,
  paddedLength,
  parseEvent,
  signChain,
  toDeviceId,
  toEventId,
  toStreamId,
  toUserId,
  verifyChainSignature,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte)
const header: EventHeader = {
  userId: toUserId(filled(32, 1))!,
  deviceId: toDeviceId(filled(16, 2))!,
  deviceSeq: 0x0102030405,
  chainPrev: filled(32, 3),
  streamId: toStreamId(filled(16, 4))!,
  eventId: createEventId(1_700_000_000_000, filled(10, 5)),
  epoch: 6,
  logSeq: 7,
  ttlS: 3600,
  isTombstone: false,
  nonce: filled(24, 9),
}
const ciphertext = filled(paddedLength(20) + 16, 10)
const signature = filled(64, 11)
const assemble = (changes: Partial<EventHeader> = {}): Uint8Array =>
  assembleEvent(encodeEventHeader({ ...header, ...changes }), ciphertext, signature)
const setByte = (wire: Uint8Array, at: number, value: number): Uint8Array => {
  const out = wire.slice()
  out[at] = value
  return out
}
const sha256 = (...parts: readonly (string | Uint8Array)[]): Uint8Array => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return new Uint8Array(hash.digest())
}

describe('the bytes of an event', () => {
  test('ORD-1: the header stands byte for byte as PROTOCOL E lays it out', () => {
    const hex = (text: string): number[] => [...Buffer.from(text, 'hex')]
    const expected = Uint8Array.of(
      1,
      ...filled(32, 1),
      ...filled(16, 2),
      ...hex('0000000102030405'),
      ...filled(32, 3),
      ...filled(16, 4),
      ...hex('018bcfe56800'),
      ...hex('75058505050505050505'),
      ...hex('00000006'),
      ...hex('0000000000000007'),
      ...hex('00000e10'),
      0,
      ...filled(24, 9),
    )
    expect(encodeEventHeader(header)).toEqual(expected)
    expect(expected).toHaveLength(EVENT_HEADER_BYTES)
    expect(encodeEventHeader({ ...header, isTombstone: true })[137]).toBe(1)
    expect(assemble()).toHaveLength(EVENT_OVERHEAD_BYTES + paddedLength(20))
  })

  test('ORD-1: an event is read as it was written', () => {
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
    const headers = fc.record({
      userId: bytes(32).map((id) => toUserId(id)!),
      deviceId: bytes(16).map((id) => toDeviceId(id)!),
      deviceSeq: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      chainPrev: bytes(32),
      streamId: bytes(16).map((id) => toStreamId(id)!),
      eventId: fc.tuple(fc.nat({ max: 2 ** 47 }), bytes(10)).map(([timeMs, random]) => createEventId(timeMs, random)),
      epoch: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
      logSeq: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
      ttlS: fc.integer({ min: 0, max: MAX_TTL_S }),
      isTombstone: fc.boolean(),
      nonce: bytes(24),
    })
    fc.assert(
      fc.property(headers, fc.uint8Array({ minLength: 144, maxLength: 600 }), bytes(64), (fields, sealed, signed) => {
        const headerBytes = encodeEventHeader(fields)
        const leafInput = encodeLeafInput(headerBytes, sealed)
        const wire = assembleEvent(headerBytes, sealed, signed)
        expect(parseEvent(wire)).toEqual({ ...fields, headerBytes, ciphertext: sealed, signature: signed, leafInput })
        // In the middle of a larger buffer, as it arrives.
        expect(parseEvent(Buffer.concat([filled(3, 0), wire, filled(3, 0)]).subarray(3, -3))).toBeDefined()
      }),
    )
  })

  const broken: readonly (readonly [string, Uint8Array])[] = [
    ['an unknown version', setByte(assemble(), 0, 2)],
    ['an unknown flag', setByte(assemble(), 137, 2)],
    ['an unknown flag beside a known one', setByte(assemble(), 137, 0x81)],
    ['a byte too many', Uint8Array.of(...assemble(), 0)],
    ['a byte too few', assemble().subarray(0, -1)],
    ['a length that says more than there is', setByte(assemble(), 165, 255)],
    ['a length of 4 GiB', setByte(assemble(), 162, 255)],
    ['less ciphertext than the least padding', assembleEvent(encodeEventHeader(header), filled(143, 1), signature)],
    ['device_seq 0', assemble({ deviceSeq: 0 })],
    ['a device_seq beyond 2^53', setByte(assemble(), 49, 1)],
    ['a log_seq beyond 2^53', setByte(assemble(), 125, 1)],
    ['epoch 0', assemble({ epoch: 0 })],
    ['a ttl above ten years', assemble({ ttlS: MAX_TTL_S + 1 })],
    ['an event_id that is a UUIDv4', setByte(assemble(), 105 + 6, 0x4a)],
    ['an event_id of another variant', setByte(assemble(), 105 + 8, 0xc0)],
    ['an event_id of zeros', assemble({ eventId: toEventId(filled(16, 0))! })],
    ['nothing', new Uint8Array(0)],
  ]
  test.each(broken)('ORD-1: an event with %s is none', (_title, wire) => {
    expect(parseEvent(assemble())).toBeDefined()
    expect(parseEvent(wire)).toBeUndefined()
  })

  test('ORD-1: the longest ttl is one', () => {
    expect(parseEvent(assemble({ ttlS: MAX_TTL_S }))?.ttlS).toBe(MAX_TTL_S)
  })

  test('ORD-1: no bytes make the parser throw, and what it reads is what was there', () => {
    const wire = assemble()
    const nearMiss = fc
      .tuple(fc.nat({ max: wire.length }), fc.uint8Array({ maxLength: 8 }))
      .map(([at, piece]) => Uint8Array.of(...wire.subarray(0, at), ...piece, ...wire.subarray(at + piece.length)))
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 500 }), nearMiss), (bytes) => {
        const event = parseEvent(bytes)
        if (event === undefined) return
        expect(assembleEvent(encodeEventHeader(event), event.ciphertext, event.signature)).toEqual(bytes)
      }),
      { numRuns: 500 },
    )
  })
})

describe('the chain of a device', () => {
  test('ORD-1: the hashes are those of PROTOCOL E', () => {
    const { userId, deviceId } = header
    expect(chainStart(crypto, userId, deviceId)).toEqual(sha256('valise chain-0\0', userId, deviceId))
    const event = parseEvent(assemble())!
    expect(leafHash(crypto, event.leafInput)).toEqual(sha256('valise event\0', assemble().subarray(0, -64)))
    expect(nextChain(crypto, filled(32, 1), filled(32, 2))).toEqual(
      sha256('valise chain\0', filled(32, 1), filled(32, 2)),
    )
  })

  test('ORD-1: one signature covers every event before it', async () => {
    const signer = crypto.createSigner(filled(32, 1))
    const start = chainStart(crypto, header.userId, header.deviceId)
    const chainOf = (leaves: readonly Uint8Array[]): Uint8Array =>
      leaves.reduce((chain, leaf) => nextChain(crypto, chain, leaf), start)
    const leaves = [1, 2, 3].map((deviceSeq) => leafHash(crypto, parseEvent(assemble({ deviceSeq }))!.leafInput))
    const signed = await signChain(signer, chainOf(leaves))
    const verify = (chain: Uint8Array): boolean => verifyChainSignature(crypto, signer.publicKey, chain, signed)
    expect(verify(chainOf(leaves))).toBe(true)
    const [first, second, third] = leaves
    for (const other of [
      [first!, third!],
      [second!, first!, third!],
      [...leaves, third!],
      [filled(32, 0), second!, third!],
    ]) {
      expect(verify(chainOf(other))).toBe(false)
    }
    expect(verifyChainSignature(crypto, signer.publicKey, chainOf(leaves), signed.subarray(0, 63))).toBe(false)
  })
})

describe('padding', () => {
  test.each([
    [0, 128],
    [124, 128],
    [125, 144],
    [140, 144],
    [252, 256],
    [253, 272],
    [1000, 1024],
    [1021, 1088],
    [262_140, 262_144],
    [262_144, 270_336],
  ])('ORD-1: %i bytes of data take %i', (dataLength, padded) => {
    expect(paddedLength(dataLength)).toBe(padded)
  })

  test('ORD-1: padding holds the data, costs less than an eighth above the least, and grows with the data', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 24 }), (dataLength) => {
        const padded = paddedLength(dataLength)
        expect(padded).toBeGreaterThanOrEqual(Math.max(128, dataLength + 4))
        expect(padded).toBeLessThan(Math.max(129, (dataLength + 4) * 1.125))
        expect(paddedLength(padded - 4)).toBe(padded)
        expect(paddedLength(dataLength + 1)).toBeGreaterThanOrEqual(padded)
      }),
    )
  })
})
