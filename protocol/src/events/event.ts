// An event as bytes (PROTOCOL E): H | LP(ct) | signature. `parseEvent` is on the server's hot path: it copies no bytes and
// hashes nothing; what it returns are views into the bytes given. A checkpoint's list is `checkpoint-list.ts`.

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
import {
  CHECKPOINT_COUNT_BYTES,
  type ChainPosition,
  checkpointListBytes,
  encodeCheckpointList,
  parseCheckpointList,
} from './checkpoint-list.ts'
import { encodeFlags, hasUnknownFlags, parseFlags } from './flags.ts'
import { paddedLength } from './padding.ts'

const EVENT_VERSION = 1
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
  logHead: 133,
  ttlS: 165,
  flags: 169,
  nonce: 170,
  end: 194,
} as const

/** H without the list of a checkpoint. */
export const EVENT_HEADER_BYTES = AT.end
/** What an event's bytes hold besides its padded data and, in a checkpoint, its list. */
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
  /** The hash of that entry: every event commits to its author's view of the device log. */
  readonly logHead: Uint8Array
  /** Seconds from storing to expiry; 0 = none. */
  readonly ttlS: number
  /** Stands in for an event that was refused for good (ORD-6); it seals an empty payload. */
  readonly isTombstone: boolean
  /** An event of the client's own (`valise/*`): it has no lifetime. */
  readonly isKept: boolean
  readonly nonce: Uint8Array
  /** In a checkpoint: the chains its author has seen, sorted by device id; otherwise `undefined`. */
  readonly checkpoint: readonly ChainPosition[] | undefined
}

export interface ParsedEvent extends EventHeader {
  /** H, the associated data of the ciphertext. */
  readonly headerBytes: Uint8Array
  readonly ciphertext: Uint8Array
  /** Over the hash of `signedBytes`. */
  readonly signature: Uint8Array
  /** The byte of flags, which the leaf covers by itself. */
  readonly flags: number
  /** H | LP(ct): what the signature covers. */
  readonly signedBytes: Uint8Array
}

/** The byte of flags that a header encodes to. */
export const flagsOf = (header: Pick<EventHeader, 'isTombstone' | 'isKept' | 'checkpoint'>): number =>
  encodeFlags({
    isTombstone: header.isTombstone,
    isKept: header.isKept,
    isCheckpoint: header.checkpoint !== undefined,
  })

/** Throws a RangeError for a checkpoint's list that `parseEvent` would refuse. */
export function encodeEventHeader(header: EventHeader): Uint8Array {
  const writer = createByteWriter()
    .u8(EVENT_VERSION)
    .bytes(header.userId)
    .bytes(header.deviceId)
    .u64(header.deviceSeq)
    .bytes(header.chainPrev)
    .bytes(header.streamId)
    .bytes(header.eventId)
    .u32(header.epoch)
    .u64(header.logSeq)
    .bytes(header.logHead)
    .u32(header.ttlS)
    .u8(flagsOf(header))
    .bytes(header.nonce)
  if (header.checkpoint !== undefined) writer.bytes(encodeCheckpointList(header.checkpoint))
  return writer.finish()
}

/** H | LP(ct). */
export const encodeSignedBytes = (headerBytes: Uint8Array, ciphertext: Uint8Array): Uint8Array =>
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

/** True for bytes of a newer form than this program knows: a version or a flag that it cannot judge. */
export const isNewerEvent = (wire: Uint8Array): boolean =>
  wire.length >= MIN_EVENT_BYTES &&
  ((wire[AT.version] ?? 0) > EVENT_VERSION ||
    (wire[AT.version] === EVENT_VERSION && hasUnknownFlags(wire[AT.flags] ?? 0)))

/** The length of H; `undefined` when a checkpoint's list does not fit. */
function headerLengthOf(wire: Uint8Array, isCheckpoint: boolean): number | undefined {
  if (!isCheckpoint) return AT.end
  const listBytes = checkpointListBytes(wire.subarray(AT.end, AT.end + CHECKPOINT_COUNT_BYTES))
  return listBytes === undefined ? undefined : AT.end + listBytes
}

/**
 * Strict: `undefined` for an unknown version or flag, flags that do not go together, a length that is not exact, an
 * event_id that is no UUIDv7, a counter out of range, a ttl above `MAX_TTL_S` or on a kept event, or a checkpoint's list
 * that is not sorted. Whose event it is and whether it continues a chain is not looked at.
 */
export function parseEvent(wire: Uint8Array): ParsedEvent | undefined {
  if (wire.length < MIN_EVENT_BYTES || wire[AT.version] !== EVENT_VERSION) return undefined
  const flags = wire[AT.flags] ?? 0
  const kind = parseFlags(flags)
  if (kind === undefined || !isUuidV7At(wire, AT.eventId)) return undefined
  const headerBytes = headerLengthOf(wire, kind.isCheckpoint)
  if (headerBytes === undefined || wire.length < MIN_EVENT_BYTES - AT.end + headerBytes) return undefined
  const signedBytes = headerBytes + LENGTH_BYTES + u32At(wire, headerBytes)
  if (wire.length !== signedBytes + SIGNATURE_BYTES) return undefined

  const deviceSeq = u64At(wire, AT.deviceSeq)
  const epoch = u32At(wire, AT.epoch)
  const logSeq = u64At(wire, AT.logSeq)
  const ttlS = u32At(wire, AT.ttlS)
  if (deviceSeq < 1 || deviceSeq > Number.MAX_SAFE_INTEGER || logSeq > Number.MAX_SAFE_INTEGER) return undefined
  if (epoch < 1 || ttlS > (kind.isKept ? 0 : MAX_TTL_S)) return undefined

  const checkpoint = kind.isCheckpoint ? parseCheckpointList(wire.subarray(AT.end, headerBytes)) : undefined
  if (kind.isCheckpoint && checkpoint === undefined) return undefined
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
    logHead: wire.subarray(AT.logHead, AT.ttlS),
    ttlS,
    isTombstone: kind.isTombstone,
    isKept: kind.isKept,
    nonce: wire.subarray(AT.nonce, AT.end),
    checkpoint,
    headerBytes: wire.subarray(0, headerBytes),
    ciphertext: wire.subarray(headerBytes + LENGTH_BYTES, signedBytes),
    signature: wire.subarray(signedBytes),
    flags,
    signedBytes: wire.subarray(0, signedBytes),
  }
}
