// What stands inside an event: a version, then CBOR {at: ms, body: bytes, type: string} in one encoding only (RFC 8949
// §4.2: shortest forms, this order of keys). docs/PROTOCOL.md section E names every condition; tests/content-vectors.json
// shows each.

import {
  type ByteReader,
  concatBytes,
  createByteReader,
  createByteWriter,
  decodeUtf8,
  encodeUtf8,
  equalBytes,
} from '@valise/protocol'

/** UTF-16 code units of a content's type. */
export const MAX_CONTENT_TYPE_LENGTH = 64
const CONTENT_VERSION = 1

export interface EventContent {
  /** The application's name for what `body` holds. */
  readonly type: string
  /** The application's time, Unix milliseconds, by the publishing device's clock. */
  readonly atMs: number
  readonly body: Uint8Array
}

export type ParsedContent =
  | { readonly type: 'content'; readonly content: EventContent }
  /** Written by a newer program: nothing can be said about it, and nobody is to blame. */
  | { readonly type: 'unknown_version' }
  /** Of a known version, and not what `encodeContent` makes. */
  | { readonly type: 'unparsable' }

/** Streams and content types that the client keeps for itself. Events of both, and no others, are kept (PROTOCOL E). */
export const isOwnName = (name: string): boolean => name.startsWith('valise/')

/** The major types of CBOR in use (RFC 8949 §3.1). */
const MAJOR = { uint: 0, bytes: 2, text: 3 } as const
type Major = (typeof MAJOR)[keyof typeof MAJOR]

/** A map of three pairs, and the keys as text, in this order. */
const BEFORE_AT = concatBytes(Uint8Array.of(CONTENT_VERSION, 0xa3, 0x62), encodeUtf8('at'))
const BEFORE_BODY = concatBytes(Uint8Array.of(0x64), encodeUtf8('body'))
const BEFORE_TYPE = concatBytes(Uint8Array.of(0x64), encodeUtf8('type'))

/** Whether a type can be sealed and read again as it was. A lone surrogate has no UTF-8. */
export const isContentType = (type: string): boolean =>
  type.length > 0 && type.length <= MAX_CONTENT_TYPE_LENGTH && decodeUtf8(encodeUtf8(type)) === type

const isTime = (atMs: number): boolean => Number.isSafeInteger(atMs) && atMs >= 0

/** The shortest head of a number, or of what has so many bytes. */
function encodeHead(major: Major, value: number): Uint8Array {
  const kind = major << 5
  if (value < 24) return Uint8Array.of(kind | value)
  if (value <= 0xff) return Uint8Array.of(kind | 24, value)
  if (value <= 0xffff)
    return createByteWriter()
      .u8(kind | 25)
      .u16(value)
      .finish()
  if (value <= 0xffffffff)
    return createByteWriter()
      .u8(kind | 26)
      .u32(value)
      .finish()
  return createByteWriter()
    .u8(kind | 27)
    .u64(value)
    .finish()
}

/** Throws a RangeError for a type of no or too many characters, or a time that is none: the caller's bug. */
export function encodeContent({ type, atMs, body }: EventContent): Uint8Array {
  if (!isContentType(type) || !isTime(atMs))
    throw new RangeError(`expected a type of 1 to ${MAX_CONTENT_TYPE_LENGTH} characters and a time`)
  const name = encodeUtf8(type)
  return concatBytes(
    ...[BEFORE_AT, encodeHead(MAJOR.uint, atMs)],
    ...[BEFORE_BODY, encodeHead(MAJOR.bytes, body.length), body],
    ...[BEFORE_TYPE, encodeHead(MAJOR.text, name.length), name],
  )
}

/** `undefined` for another major type, or a head that is not the shortest. */
function readHead(reader: ByteReader, major: Major): number | undefined {
  const first = reader.u8()
  const size = first & 0x1f
  if (first >> 5 !== major) return undefined
  if (size < 24) return size
  const value = size === 24 ? reader.u8() : size === 25 ? reader.u16() : size === 26 ? reader.u32() : reader.u64()
  if (reader.hasFailed() || size > 27) return undefined
  return equalBytes(encodeHead(major, value).subarray(0, 1), Uint8Array.of(first)) ? value : undefined
}

function readFields(bytes: Uint8Array): EventContent | undefined {
  const reader = createByteReader(bytes)
  const reads = (expected: Uint8Array): boolean => equalBytes(reader.bytes(expected.length), expected)
  const readBytes = (major: Major): Uint8Array | undefined => {
    const length = readHead(reader, major)
    return length === undefined ? undefined : reader.bytes(length)
  }
  const atMs = reads(BEFORE_AT) ? readHead(reader, MAJOR.uint) : undefined
  const body = reads(BEFORE_BODY) ? readBytes(MAJOR.bytes) : undefined
  const name = reads(BEFORE_TYPE) ? readBytes(MAJOR.text) : undefined
  const type = name && decodeUtf8(name)
  if (!reader.finish() || atMs === undefined || body === undefined || type === undefined) return undefined
  return isTime(atMs) && isContentType(type) ? { type, atMs, body: body.slice() } : undefined
}

/** Accepts exactly what `encodeContent` makes, and tells other versions apart; never throws. */
export function parseContent(bytes: Uint8Array): ParsedContent {
  const version = bytes[0]
  if (version === undefined) return { type: 'unparsable' }
  if (version !== CONTENT_VERSION) return { type: 'unknown_version' }
  const content = readFields(bytes)
  return content === undefined ? { type: 'unparsable' } : { type: 'content', content }
}
