// Events as bytes and their chain (PROTOCOL E), without content: what the server sees.

import { createHash } from 'node:crypto'
import {
  assembleEvent,
  bodyHash,
  type ChainPosition,
  chainAfter,
  chainStart,
  createEventId,
  EVENT_HEADER_BYTES,
  EVENT_OVERHEAD_BYTES,
  type EventHeader,
  encodeEventHeader,
  encodeSignedBytes,
  isNewerEvent,
  leafHash,
  leafOf,
  MAX_CHECKPOINT_POSITIONS,
  MAX_TTL_S,
  nextChain,
  paddedLength,
  parseEvent,
  signEventBody,
  toDeviceId,
  toEventId,
  toStreamId,
  toUserId,
  verifyEventSignature,
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
  logHead: filled(32, 8),
  ttlS: 3600,
  isTombstone: false,
  isKept: false,
  nonce: filled(24, 9),
  checkpoint: undefined,
}
const ciphertext = filled(paddedLength(20) + 16, 10)
const signature = filled(64, 11)
const assemble = (changes: Partial<EventHeader> = {}): Uint8Array =>
  assembleEvent(encodeEventHeader({ ...header, ...changes }), ciphertext, signature)
const position = (deviceId: ChainPosition['deviceId']): ChainPosition => ({
  deviceId,
  deviceSeq: 5,
  chain: filled(32, 6),
})
const byDeviceId = (a: ChainPosition, b: ChainPosition): number => Buffer.compare(a.deviceId, b.deviceId)
const listed = (...ids: number[]): ChainPosition[] => ids.map((id) => position(toDeviceId(filled(16, id))!))
const checkpointHeader: EventHeader = { ...header, ttlS: 0, isKept: true, checkpoint: listed(1, 2, 3) }
const assembleCheckpoint = (): Uint8Array => assembleEvent(encodeEventHeader(checkpointHeader), ciphertext, signature)
const assembleTwice = (): Uint8Array => {
  const wire = assembleCheckpoint()
  wire.copyWithin(196 + 56, 196, 196 + 16)
  return wire
}
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
      ...filled(32, 8),
      ...hex('00000e10'),
      0,
      ...filled(24, 9),
    )
    expect(encodeEventHeader(header)).toEqual(expected)
    expect(expected).toHaveLength(EVENT_HEADER_BYTES)
    expect(encodeEventHeader({ ...header, isTombstone: true })[169]).toBe(1)
    expect(encodeEventHeader({ ...header, isKept: true })[169]).toBe(8)
    expect(encodeEventHeader({ ...header, isTombstone: true, isKept: true })[169]).toBe(9)
    expect(assemble()).toHaveLength(EVENT_OVERHEAD_BYTES + paddedLength(20))
  })

  test('ORD-1: an event is read as it was written', () => {
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
    const positions = fc
      .uniqueArray(bytes(16), { minLength: 1, maxLength: 5, selector: (id) => Buffer.from(id).toString('hex') })
      .map((ids) => ids.map((id) => position(toDeviceId(id)!)).sort(byDeviceId))
    const headers = fc.record({
      userId: bytes(32).map((id) => toUserId(id)!),
      deviceId: bytes(16).map((id) => toDeviceId(id)!),
      deviceSeq: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      chainPrev: bytes(32),
      streamId: bytes(16).map((id) => toStreamId(id)!),
      eventId: fc.tuple(fc.nat({ max: 2 ** 47 }), bytes(10)).map(([timeMs, random]) => createEventId(timeMs, random)),
      epoch: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
      logSeq: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
      logHead: bytes(32),
      ttlS: fc.integer({ min: 0, max: MAX_TTL_S }),
      kind: fc.oneof(
        fc.record({ isTombstone: fc.boolean(), isKept: fc.boolean(), checkpoint: fc.constant(undefined) }),
        fc.record({ isTombstone: fc.constant(false), isKept: fc.constant(true), checkpoint: positions }),
      ),
      nonce: bytes(24),
    })
    fc.assert(
      fc.property(headers, fc.uint8Array({ minLength: 144, maxLength: 600 }), bytes(64), (fields, sealed, signed) => {
        const { kind, ...rest } = fields
        const written = { ...rest, ...kind, ttlS: kind.isKept ? 0 : rest.ttlS }
        const headerBytes = encodeEventHeader(written)
        const signedBytes = encodeSignedBytes(headerBytes, sealed)
        const wire = assembleEvent(headerBytes, sealed, signed)
        const flags = headerBytes[169]
        expect(parseEvent(wire)).toEqual({
          ...written,
          headerBytes,
          ciphertext: sealed,
          signature: signed,
          flags,
          signedBytes,
        })
        // In the middle of a larger buffer, as it arrives.
        expect(parseEvent(Buffer.concat([filled(3, 0), wire, filled(3, 0)]).subarray(3, -3))).toBeDefined()
      }),
    )
  })

  const broken: readonly (readonly [string, Uint8Array])[] = [
    ['an unknown version', setByte(assemble(), 0, 2)],
    ['an unknown flag', setByte(assemble(), 169, 16)],
    ['the flag that is reserved for taking events back', setByte(assemble({ ttlS: 0 }), 169, 2)],
    ['an unknown flag beside a known one', setByte(assemble(), 169, 0x81)],
    ['a lifetime though it is kept', setByte(assemble(), 169, 8)],
    ['the checkpoint flag and no list', setByte(assemble({ ttlS: 0 }), 169, 12)],
    ['a checkpoint that is not kept', setByte(assembleCheckpoint(), 169, 4)],
    ['a checkpoint that is a tombstone', setByte(assembleCheckpoint(), 169, 13)],
    ['a list and no checkpoint flag', setByte(assembleCheckpoint(), 169, 8)],
    ['a list without positions', setByte(assembleCheckpoint(), 195, 0)],
    ['a list longer than it says', setByte(assembleCheckpoint(), 195, 2)],
    ['a list shorter than it says', setByte(assembleCheckpoint(), 195, 4)],
    ['a list of 4 GiB', setByte(assembleCheckpoint(), 194, 255)],
    ['a list that is not sorted', setByte(assembleCheckpoint(), 196, 3)],
    ['a list that names a device twice', assembleTwice()],
    ['a listed device_seq of 0', setByte(assembleCheckpoint(), 196 + 23, 0)],
    ['a byte too many', Uint8Array.of(...assemble(), 0)],
    ['a byte too few', assemble().subarray(0, -1)],
    ['a length that says more than there is', setByte(assemble(), 197, 255)],
    ['a length of 4 GiB', setByte(assemble(), 194, 255)],
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
    const body = sha256('valise event-body\0', assemble().subarray(0, -64))
    const inner = sha256('valise event-inner\0', body, signature)
    const leaf = sha256('valise event\0', Uint8Array.of(0, 0, 0x0e, 0x10, 0), inner)
    expect(bodyHash(crypto, event.signedBytes)).toEqual(body)
    expect(leafOf(crypto, event)).toEqual({ ttlS: 3600, flags: 0, inner })
    expect(leafHash(crypto, leafOf(crypto, event))).toEqual(leaf)
    expect(nextChain(crypto, filled(32, 1), filled(32, 2))).toEqual(
      sha256('valise chain\0', filled(32, 1), filled(32, 2)),
    )
    expect(chainAfter(crypto, filled(32, 1), leafOf(crypto, event))).toEqual(nextChain(crypto, filled(32, 1), leaf))
  })

  test('ORD-1: a signature proves one event at one place, after one chain', async () => {
    const signer = crypto.createSigner(filled(32, 1))
    const signedBytes = parseEvent(assemble())!.signedBytes
    const signed = await signEventBody(signer, bodyHash(crypto, signedBytes))
    const verify = (changes: Partial<EventHeader>, by = signed): boolean =>
      verifyEventSignature(crypto, signer.publicKey, { ...parseEvent(assemble(changes))!, signature: by })
    expect(verify({})).toBe(true)
    expect(verify({ deviceSeq: header.deviceSeq + 1 })).toBe(false)
    expect(verify({ chainPrev: filled(32, 4) })).toBe(false)
    expect(verify({ logHead: filled(32, 4) })).toBe(false)
    expect(verify({}, signed.subarray(0, 63))).toBe(false)
  })

  test('ORD-1: the chain covers the signature, the lifetime and the flags', () => {
    const event = parseEvent(assemble())!
    const leaf = leafOf(crypto, event)
    const chains = [
      leaf,
      leafOf(crypto, { ...event, signature: filled(64, 12) }),
      { ...leaf, ttlS: leaf.ttlS + 1 },
      { ...leaf, flags: 8 },
    ].map((each) => Buffer.from(chainAfter(crypto, filled(32, 1), each)).toString('hex'))
    expect(new Set(chains).size).toBe(chains.length)
  })
})

describe('a newer form', () => {
  test('ORD-1: an unknown version or flag is a newer form, and bytes that are merely wrong are not', () => {
    expect(isNewerEvent(setByte(assemble(), 0, 2))).toBe(true)
    expect(isNewerEvent(setByte(assemble(), 169, 2))).toBe(true)
    expect(isNewerEvent(setByte(assemble(), 169, 0x80))).toBe(true)
    expect(isNewerEvent(setByte(assemble(), 0, 0))).toBe(false)
    expect(isNewerEvent(setByte(assembleCheckpoint(), 169, 4))).toBe(false)
    expect(isNewerEvent(assemble().subarray(0, -1))).toBe(false)
    expect(isNewerEvent(new Uint8Array(0))).toBe(false)
  })

  test('ORD-1: a list that a parser would refuse is not written', () => {
    const encode = (checkpoint: ChainPosition[]) => () => encodeEventHeader({ ...checkpointHeader, checkpoint })
    expect(encode(listed(1, 2))).not.toThrow()
    const many = Array.from({ length: MAX_CHECKPOINT_POSITIONS + 1 }, (_, index) =>
      position(toDeviceId(Uint8Array.of(...filled(14, 0), index >> 8, index & 255))!),
    )
    expect(encode(many.slice(1))).not.toThrow()
    for (const list of [[], listed(2, 1), listed(1, 1), many]) expect(encode(list)).toThrow(RangeError)
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
