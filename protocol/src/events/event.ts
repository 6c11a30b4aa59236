// An event as bytes (PROTOCOL E): H | LP(ct) | signature. `parseEvent` is on the server's hot path: it copies nothing and
// hashes nothing; what it returns are views into the bytes given.

import { createByteWriter } from '../bytes.ts'
import {
  type DeviceId,
  type EventId,
  type StreamId,
  toDeviceId,
  toEventId,
  toStreamId,
  toUserId,
  type UserId,
} from '../ids.ts'
import { MAX_TTL_S } from '../limits.ts'
import { paddedLength } from './padding.ts'

const EVENT_VERSION = 1
const FLAG_TOMBSTONE = 1
const SIGNATURE_BYTES = 64
const LENGTH_BYTES = 4
export const EVENT_NONCE_BYTES = 24
/** The tag of XChaCha20-Poly1305. */
export const EVENT_TAG_BYTES = 16

/** Where each field of H begins. */
const AT = {
  version: 0,
  userId: 1,
  deviceId: 33,
  deviceSeq: 49,
  chainPrev: 57,
  streamId: 89,
  eventId: 105,
  epoch: 121,
  logSeq: 125,
  ttlS: 133,
  flags: 137,
  nonce: 138,
  end: 162,
} as const

export const EVENT_HEADER_BYTES = AT.end
/** What an event's bytes hold besides its padded data. */
export const EVENT_OVERHEAD_BYTES = EVENT_HEADER_BYTES + LENGTH_BYTES + EVENT_TAG_BYTES + SIGNATURE_BYTES
const MIN_EVENT_BYTES = EVENT_OVERHEAD_BYTES + paddedLength(0)

export interface EventHeader {
  readonly userId: UserId
  readonly deviceId: DeviceId
  /** 1, 2, 3 … (ORD-1). */
  readonly deviceSeq: number
  readonly chainPrev: Uint8Array
  readonly streamId: StreamId
  readonly eventId: EventId
  /** The key epoch the event is sealed under. */
  readonly epoch: number
  /** The newest entry of the device log that the device had seen. */
  readonly logSeq: number
  /** Seconds from storing to expiry; 0 = none. */
  readonly ttlS: number
  /** Stands in for an event that was refused for good (ORD-6); it seals an empty payload. */
  readonly isTombstone: boolean
  readonly nonce: Uint8Array
}

export interface ParsedEvent extends EventHeader {
  /** H, the associated data of the ciphertext. */
  readonly headerBytes: Uint8Array
  readonly ciphertext: Uint8Array
  /** Over the chain after this event. */
  readonly signature: Uint8Array
  /** H | LP(ct): what the leaf is the hash of. */
  readonly leafInput: Uint8Array
}

export function encodeEventHeader(header: EventHeader): Uint8Array {
  return createByteWriter()
    .u8(EVENT_VERSION)
    .bytes(header.userId)
    .bytes(header.deviceId)
    .u64(header.deviceSeq)
    .bytes(header.chainPrev)
    .bytes(header.streamId)
    .bytes(header.eventId)
    .u32(header.epoch)
    .u64(header.logSeq)
    .u32(header.ttlS)
    .u8(header.isTombstone ? FLAG_TOMBSTONE : 0)
    .bytes(header.nonce)
    .finish()
}

/** H | LP(ct). */
export const encodeLeafInput = (headerBytes: Uint8Array, ciphertext: Uint8Array): Uint8Array =>
  createByteWriter().bytes(headerBytes).prefixed(ciphertext).finish()

export const assembleEvent = (headerBytes: Uint8Array, ciphertext: Uint8Array, signature: Uint8Array): Uint8Array =>
  createByteWriter().bytes(headerBytes).prefixed(ciphertext).bytes(signature).finish()

const u32At = (bytes: Uint8Array, at: number): number =>
  (bytes[at] ?? 0) * 0x1000000 + (((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0))

const u64At = (bytes: Uint8Array, at: number): number => u32At(bytes, at) * 0x1_0000_0000 + u32At(bytes, at + 4)

/** `ttl_s` of an event that was parsed before. */
export const lifetimeOf = (wire: Uint8Array): number => u32At(wire, AT.ttlS)

/** RFC 9562 §5.7: version 7, variant 10. */
const isUuidV7At = (bytes: Uint8Array, at: number): boolean =>
  (bytes[at + 6] ?? 0) >> 4 === 7 && (bytes[at + 8] ?? 0) >> 6 === 2

/**
 * Strict: `undefined` for an unknown version or flag, a length that is not exact, an event_id that is no UUIDv7, a
 * counter out of range or a ttl above `MAX_TTL_S`. Whose event it is and whether it continues a chain is not looked at.
 */
export function parseEvent(wire: Uint8Array): ParsedEvent | undefined {
  if (wire.length < MIN_EVENT_BYTES || wire[AT.version] !== EVENT_VERSION) return undefined
  const leafInputBytes = EVENT_HEADER_BYTES + LENGTH_BYTES + u32At(wire, EVENT_HEADER_BYTES)
  if (wire.length !== leafInputBytes + SIGNATURE_BYTES) return undefined
  const flags = wire[AT.flags] ?? 0
  const deviceSeq = u64At(wire, AT.deviceSeq)
  const epoch = u32At(wire, AT.epoch)
  const logSeq = u64At(wire, AT.logSeq)
  const ttlS = u32At(wire, AT.ttlS)
  if ((flags & ~FLAG_TOMBSTONE) !== 0 || !isUuidV7At(wire, AT.eventId)) return undefined
  if (deviceSeq < 1 || deviceSeq > Number.MAX_SAFE_INTEGER || logSeq > Number.MAX_SAFE_INTEGER) return undefined
  if (epoch < 1 || ttlS > MAX_TTL_S) return undefined

  const userId = toUserId(wire.subarray(AT.userId, AT.deviceId))
  const deviceId = toDeviceId(wire.subarray(AT.deviceId, AT.deviceSeq))
  const streamId = toStreamId(wire.subarray(AT.streamId, AT.eventId))
  const eventId = toEventId(wire.subarray(AT.eventId, AT.epoch))
  if (userId === undefined || deviceId === undefined || streamId === undefined || eventId === undefined) {
    return undefined
  }
  return {
    userId,
    deviceId,
    deviceSeq,
    chainPrev: wire.subarray(AT.chainPrev, AT.streamId),
    streamId,
    eventId,
    epoch,
    logSeq,
    ttlS,
    isTombstone: flags === FLAG_TOMBSTONE,
    nonce: wire.subarray(AT.nonce, AT.end),
    headerBytes: wire.subarray(0, EVENT_HEADER_BYTES),
    ciphertext: wire.subarray(EVENT_HEADER_BYTES + LENGTH_BYTES, leafInputBytes),
    signature: wire.subarray(leafInputBytes),
    leafInput: wire.subarray(0, leafInputBytes),
  }
}
