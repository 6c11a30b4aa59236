// What stands inside an event: a version, then CBOR {at: ms, body: bytes, type: string} in one encoding only (RFC 8949
// §4.2: shortest forms, this order of keys). docs/PROTOCOL.md section E names every condition; tests/content-vectors.json
// shows each.

import { equalBytes } from '@valise/protocol'
import { encode, Tokenizer, Type } from 'cborg'

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

const isValid = ({ type, atMs }: EventContent): boolean =>
  type.length > 0 && type.length <= MAX_CONTENT_TYPE_LENGTH && Number.isSafeInteger(atMs) && atMs >= 0

/** Throws a RangeError for a type of no or too many characters, or a time that is none: the caller's bug. */
export function encodeContent(content: EventContent): Uint8Array {
  if (!isValid(content))
    throw new RangeError(`expected a type of 1 to ${MAX_CONTENT_TYPE_LENGTH} characters and a time`)
  const fields = encode({ at: content.atMs, body: content.body, type: content.type })
  const bytes = new Uint8Array(1 + fields.length)
  bytes[0] = CONTENT_VERSION
  bytes.set(fields, 1)
  return bytes
}

/** The values of a map of the three keys in order, read token by token: nothing nests, so nothing recurses. */
function readFields(bytes: Uint8Array): EventContent | undefined {
  const tokenizer = new Tokenizer(bytes, { strict: true, allowIndefinite: false })
  const next = (type: Type, value?: unknown): unknown => {
    const token = tokenizer.next()
    if (!Type.equals(token.type, type)) throw new TypeError('another kind of token')
    if (value !== undefined && token.value !== value) throw new TypeError('another key')
    return token.value
  }
  next(Type.map, 3)
  next(Type.string, 'at')
  const atMs = next(Type.uint)
  next(Type.string, 'body')
  const body = next(Type.bytes)
  next(Type.string, 'type')
  const type = next(Type.string)
  if (typeof atMs !== 'number' || !(body instanceof Uint8Array) || typeof type !== 'string') return undefined
  return { type, atMs, body }
}

/** Accepts exactly what `encodeContent` makes, and tells other versions apart; never throws. */
export function parseContent(bytes: Uint8Array): ParsedContent {
  const version = bytes[0]
  if (version === undefined) return { type: 'unparsable' }
  if (version !== CONTENT_VERSION) return { type: 'unknown_version' }
  try {
    const content = readFields(bytes.subarray(1))
    if (content === undefined || !equalBytes(encodeContent(content), bytes)) return { type: 'unparsable' }
    return { type: 'content', content }
  } catch {
    return { type: 'unparsable' }
  }
}
