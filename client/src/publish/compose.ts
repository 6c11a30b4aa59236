// Turns what an application wants to publish into an item of the outbox, or says what is wrong with it.

import { type Crypto, createEventId, encodeUtf8, MAX_TTL_S } from '@valise/protocol'
import type { Clock } from '../clock.ts'
import { encodeContent, isContentType, isOwnName, MAX_CONTENT_TYPE_LENGTH } from '../sealing/content.ts'
import type { ServerTime } from '../server-time.ts'
import type { OutboxItem } from './outbox.ts'
import { PublishError } from './publish-error.ts'

export const MAX_STREAM_NAME_BYTES = 256

export interface Composition {
  readonly streamName: string
  readonly type: string
  readonly body: Uint8Array
  readonly ttlS: number
  /** The application's time; default: now, by this device's own clock, for no server has a say in what is sealed. */
  readonly atMs?: number | undefined
}

export interface ComposeParts {
  readonly crypto: Pick<Crypto, 'randomBytes'>
  readonly clock: Pick<Clock, 'now'>
  readonly serverTime: Pick<ServerTime, 'now'>
  readonly maxPayload: number
}

/** Throws a `PublishError` for what an application may not publish. */
export function checkStreamName(streamName: string): void {
  const length = encodeUtf8(streamName).length
  if (length === 0 || length > MAX_STREAM_NAME_BYTES) {
    throw new PublishError('bad_stream_name', `A stream's name has 1 to ${MAX_STREAM_NAME_BYTES} bytes.`)
  }
  if (isOwnName(streamName)) {
    throw new PublishError('bad_stream_name', 'Streams whose names begin with "valise/" belong to the client.')
  }
}

/** Throws a `PublishError` for a type that no event of an application may have. */
export function checkContentType(type: string): void {
  if (!isOwnName(type)) return
  throw new PublishError('bad_content', 'Content types that begin with "valise/" belong to the client.')
}

/** Throws a `PublishError` for content that a server which announced this limit refuses. */
export function checkContentSize(content: Uint8Array, maxPayload: number, body: Uint8Array = content): void {
  if (content.length <= maxPayload) return
  const room = Math.max(0, maxPayload - (content.length - body.length))
  throw new PublishError('payload_too_large', `The content has ${body.length} bytes; the server takes ${room}.`)
}

/** Throws a `PublishError`. */
export function composeItem(
  { crypto, clock, serverTime, maxPayload }: ComposeParts,
  { streamName, type, body, ttlS, atMs }: Composition,
): OutboxItem {
  if (!Number.isInteger(ttlS) || ttlS < 0 || ttlS > MAX_TTL_S) {
    throw new PublishError('bad_ttl', `A lifetime is a whole number of seconds from 0 (none) to ${MAX_TTL_S}.`)
  }
  if (!isContentType(type)) {
    throw new PublishError('bad_content', `A content's type has 1 to ${MAX_CONTENT_TYPE_LENGTH} characters of Unicode.`)
  }
  // A program without types could pass anything, and what no device can read would stop them all.
  if (!(body instanceof Uint8Array)) throw new PublishError('bad_content', "A content's body is a Uint8Array.")
  if (atMs !== undefined && !(Number.isSafeInteger(atMs) && atMs >= 0)) {
    throw new PublishError('bad_content', "A content's time is a whole number of milliseconds since 1970.")
  }
  const content = encodeContent({ type, atMs: atMs ?? clock.now(), body })
  checkContentSize(content, maxPayload, body)
  return { eventId: createEventId(serverTime.now(), crypto.randomBytes(10)), streamName, ttlS, content }
}
