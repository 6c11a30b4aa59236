// The bytes of announcements: everything comes back as it was, and nothing that arrives can throw.

import { toHex } from '@valise/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type BusMessage,
  encodeBusMessage,
  MAX_ANNOUNCED_ITEM_BYTES,
  parseBusMessage,
} from '../src/bus/announcement-codec.ts'

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const count = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })
const userId = new Uint8Array(32).fill(1)
const origin = new Uint8Array(16).fill(2)

const item = (userSeq: number, wire: Uint8Array) => ({
  userSeq,
  streamSeq: 3,
  storedAtMs: 1_700_000_000_000,
  deviceId: new Uint8Array(16).fill(4),
  deviceSeq: 5,
  wire,
})

const eventsMessage: fc.Arbitrary<BusMessage> = fc
  .record({
    from: fc.integer({ min: 1, max: 2 ** 40 }),
    arrivedAtMs: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    span: fc.integer({ min: 0, max: 40 }),
    offsets: fc.option(fc.uniqueArray(fc.integer({ min: 0, max: 40 }), { maxLength: 8 })),
    wire: fc.uint8Array({ minLength: 1, maxLength: 300 }),
    streamSeq: count,
    deviceId: bytesOf(16),
    traceId: bytesOf(16),
    isTraced: fc.boolean(),
  })
  .map(({ from, arrivedAtMs, span, offsets, wire, streamSeq, deviceId, traceId, isTraced }) => ({
    type: 'events' as const,
    userId,
    from,
    to: from + span,
    arrivedAtMs,
    trace: isTraced ? { traceId: toHex(traceId), spanId: toHex(traceId.subarray(8)) } : undefined,
    items: offsets
      ?.filter((offset) => offset <= span)
      .sort((a, b) => a - b)
      .map((offset) => ({ ...item(from + offset, wire), streamSeq, deviceId })),
  }))

const message: fc.Arbitrary<BusMessage> = fc.oneof(
  eventsMessage,
  fc.record({ type: fc.constant('device_log' as const), userId: fc.constant(userId), seq: count }),
  fc.record({ type: fc.constant('device_revoked' as const), userId: fc.constant(userId), deviceId: bytesOf(16) }),
  fc.record({ type: fc.constant('account_deleted' as const), userId: fc.constant(userId) }),
  fc.record({
    type: fc.constant('session_superseded' as const),
    userId: fc.constant(userId),
    deviceId: bytesOf(16),
    sessionNumber: count,
  }),
  fc.record({
    type: fc.constant('presence' as const),
    userId: fc.constant(userId),
    deviceId: bytesOf(16),
    sessionNumber: count,
    isOnline: fc.boolean(),
    atMs: count,
  }),
  fc.record({ type: fc.constant('missed' as const), gapId: bytesOf(16) }),
)

/** Plain arrays, so that a Buffer and a Uint8Array of the same bytes compare equal. */
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, part) =>
      part instanceof Uint8Array ? { bytes: [...part] } : part?.type === 'Buffer' ? { bytes: part.data } : part,
    ),
  )

describe('announcement codec', () => {
  it('BUS-4: what is encoded is parsed as it was, with its origin', () => {
    fc.assert(
      fc.property(message, bytesOf(16), (sent, node) => {
        const parsed = parseBusMessage(encodeBusMessage(sent, node), userId)
        expect(plain(parsed?.message)).toEqual(plain(sent))
        expect(plain(parsed?.origin)).toEqual(plain(node))
      }),
    )
  })

  it('P5: no bytes make the parser throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        parseBusMessage(bytes, userId)
      }),
    )
  })

  it('P5: no change of a valid announcement makes the parser throw, and none adds or drops a byte unnoticed', () => {
    fc.assert(
      fc.property(message, fc.nat(), fc.integer({ min: 1, max: 255 }), (sent, position, change) => {
        const bytes = encodeBusMessage(sent, origin)
        expect(parseBusMessage(Buffer.concat([bytes, Buffer.from([change])]), userId)).toBeUndefined()
        const isLastItemCutOff = parseBusMessage(bytes.subarray(0, -1), userId)
        expect(isLastItemCutOff).toBeUndefined()
        const at = position % bytes.length
        bytes[at] = (bytes[at] ?? 0) ^ change
        parseBusMessage(bytes, userId)
      }),
    )
  })

  it('P5: another version or an unknown kind is refused', () => {
    const bytes = encodeBusMessage({ type: 'account_deleted', userId }, origin)
    for (const [at, value] of [
      [0, 1],
      [1, 0],
      [1, 8],
    ] as const) {
      const changed = Buffer.from(bytes)
      changed[at] = value
      expect(parseBusMessage(changed, userId)).toBeUndefined()
    }
  })

  it('P5: items out of their range or order are refused', () => {
    const encode = (from: number, to: number, seqs: number[]) =>
      parseBusMessage(
        encodeBusMessage(
          { type: 'events', userId, from, to, items: seqs.map((seq) => item(seq, origin)), arrivedAtMs: 8 },
          origin,
        ),
        userId,
      )
    expect(encode(5, 7, [5, 6, 7])).toBeDefined()
    expect(encode(5, 7, [5, 8])).toBeUndefined()
    expect(encode(5, 7, [4])).toBeUndefined()
    expect(encode(5, 7, [6, 6])).toBeUndefined()
    expect(encode(7, 5, [])).toBeUndefined()
    expect(encode(0, 5, [])).toBeUndefined()
  })

  it('P5: items travel up to 64 KiB and are left out above, while the range still travels', () => {
    const fixedBytes = 52
    const largest = item(9, new Uint8Array(MAX_ANNOUNCED_ITEM_BYTES - fixedBytes))
    const oneMore = item(9, new Uint8Array(MAX_ANNOUNCED_ITEM_BYTES - fixedBytes + 1))
    const travel = (sent: ReturnType<typeof item>) =>
      parseBusMessage(
        encodeBusMessage({ type: 'events', userId, from: 9, to: 9, items: [sent], arrivedAtMs: 8 }, origin),
        userId,
      )?.message
    expect(travel(largest)).toMatchObject({ items: [{ userSeq: 9 }] })
    expect(travel(oneMore)).toEqual({ type: 'events', userId, from: 9, to: 9, items: undefined, arrivedAtMs: 8 })
  })

  it('P1: an id of a wrong length is the caller’s bug and is said at once', () => {
    const short = new Uint8Array(15)
    expect(() => encodeBusMessage({ type: 'device_revoked', userId, deviceId: short }, origin)).toThrow(RangeError)
    expect(() => encodeBusMessage({ type: 'account_deleted', userId }, short)).toThrow(RangeError)
  })
})
