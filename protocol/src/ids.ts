// The identifiers of docs/PROTOCOL.md as branded bytes, and their text forms.
// The casts that make a brand stand here and nowhere else.

import { equalBytes, fromHex, toHex } from './bytes.ts'

declare const brand: unique symbol
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name }

/** 32 bytes: the hash of the genesis entry of the user's device log. */
export type UserId = Branded<Uint8Array, 'UserId'>
/** 16 bytes: a UUIDv8 made of the hash of the device's public keys. */
export type DeviceId = Branded<Uint8Array, 'DeviceId'>
/** 16 bytes: a keyed hash of the stream's name, opaque to the server. */
export type StreamId = Branded<Uint8Array, 'StreamId'>
/** 16 bytes: a UUIDv7. */
export type EventId = Branded<Uint8Array, 'EventId'>

const parse = <Id extends Uint8Array>(bytes: Uint8Array, length: number): Id | undefined =>
  bytes.length === length ? (bytes as Id) : undefined

export const toUserId = (bytes: Uint8Array): UserId | undefined => parse<UserId>(bytes, 32)
export const toDeviceId = (bytes: Uint8Array): DeviceId | undefined => parse<DeviceId>(bytes, 16)
export const toStreamId = (bytes: Uint8Array): StreamId | undefined => parse<StreamId>(bytes, 16)
export const toEventId = (bytes: Uint8Array): EventId | undefined => parse<EventId>(bytes, 16)

/** The user id of a message that is not about a user yet: 32 zero bytes. */
export const noUserId = (): UserId => new Uint8Array(32) as UserId

export const isSameId = <Id extends UserId | DeviceId | StreamId | EventId>(a: Id, b: Id): boolean => equalBytes(a, b)

/** RFC 9562 §4: 8-4-4-4-12 lower-case hexadecimal digits. */
export function formatUuid(bytes: Uint8Array): string {
  const hex = toHex(bytes)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** `undefined` unless the text is a UUID in its 36-character form. */
export function parseUuid(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return undefined
  return fromHex(text.replaceAll('-', ''))
}

/** Sets version and variant (RFC 9562 §4.1, §4.2) in the first 16 bytes given. */
function toUuid(bytes: Uint8Array, version: 7 | 8): Uint8Array {
  const uuid = bytes.slice(0, 16)
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | (version << 4)
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80
  return uuid
}

/** UUIDv8 (RFC 9562 §5.8) of a hash of at least 16 bytes. */
export const deviceIdFromHash = (hash: Uint8Array): DeviceId => toUuid(hash, 8) as DeviceId

/** UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, the rest of `random` (at least 10 bytes). */
export function createEventId(timeMs: number, random: Uint8Array): EventId {
  const bytes = new Uint8Array(16)
  let rest = timeMs
  for (let i = 5; i >= 0; i--) {
    bytes[i] = rest % 256
    rest = Math.floor(rest / 256)
  }
  bytes.set(random.subarray(0, 10), 6)
  return toUuid(bytes, 7) as EventId
}

/** The Unix milliseconds in a UUIDv7. */
export function eventIdTimeMs(eventId: EventId): number {
  let timeMs = 0
  for (let i = 0; i < 6; i++) timeMs = timeMs * 256 + (eventId[i] ?? 0)
  return timeMs
}
