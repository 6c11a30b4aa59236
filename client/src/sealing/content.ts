// What stands inside an event: CBOR {at: ms, body: bytes, type: string}, in one encoding only (RFC 8949 §4.2: shortest
// forms, this order of keys). A parser that finds anything else finds nothing.

import { equalBytes } from '@valise/protocol'
import { encode, Tokenizer, Type } from 'cborg'

/** Characters of a content's type. */
export const MAX_CONTENT_TYPE_LENGTH = 64

export interface EventContent {
  /** The application's name for what `body` holds. */
  readonly type: string
  /** The application's time, Unix milliseconds, by the publishing device's clock. */
  readonly atMs: number
  readonly body: Uint8Array
}

const isValid = ({ type, atMs }: EventContent): boolean =>
  type.length > 0 && type.length <= MAX_CONTENT_TYPE_LENGTH && Number.isSafeInteger(atMs) && atMs >= 0

/** Throws a RangeError for a type of no or too many characters, or a time that is none: the caller's bug. */
export function encodeContent(content: EventContent): Uint8Array {
  if (!isValid(content))
    throw new RangeError(`expected a type of 1 to ${MAX_CONTENT_TYPE_LENGTH} characters and a time`)
  return encode({ at: content.atMs, body: content.body, type: content.type })
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

/** `undefined` for bytes that `encodeContent` would not have made; never throws. */
export function parseContent(bytes: Uint8Array): EventContent | undefined {
  try {
    const content = readFields(bytes)
    return content !== undefined && equalBytes(encodeContent(content), bytes) ? content : undefined
  } catch {
    return undefined
  }
}
