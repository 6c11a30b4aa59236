// What the server can check of a published event without any key (PROTOCOL E): its layout, its owner, its size, its
// lifetime. Order and epoch are the database's to check, in the statement that stores (intake.ts); what an event says of
// logs, guards before it. Pure.

import {
  type Crypto,
  chainAfter,
  type ErrorCode,
  EVENT_TAG_BYTES,
  equalBytes,
  eventIdTimeMs,
  leafOf,
  type ParsedEvent,
  paddedLength,
  parseEvent,
} from '@valise/protocol'
import type { SubmittedEvent } from './batch.ts'

export interface EventRules {
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly maxPayload: number
  /** False for a recovery device. */
  readonly mayPublish: boolean
}

/** An event's bytes, and what they say; undefined when they do not parse. */
export interface ReadEvent {
  readonly wire: Uint8Array
  readonly parsed: ParsedEvent | undefined
}

export const readEvent = (wire: Uint8Array): ReadEvent => ({ wire, parsed: parseEvent(wire) })

export type CheckedEvent =
  | { readonly ok: true; readonly event: SubmittedEvent }
  /** `deviceSeq` is 0 when the bytes do not parse. */
  | { readonly ok: false; readonly code: ErrorCode; readonly deviceSeq: number }

/** `parsed`: as `parseEvent` read `wire`. */
export function checkEvent(
  crypto: Crypto,
  rules: EventRules,
  { wire, parsed }: ReadEvent,
  nowMs: number,
): CheckedEvent {
  if (parsed === undefined) return { ok: false, code: 'invalid_event', deviceSeq: 0 }
  const code = refusalOf(parsed, rules, nowMs)
  if (code !== undefined) return { ok: false, code, deviceSeq: parsed.deviceSeq }
  const { deviceSeq, chainPrev, streamId, eventId, epoch, logSeq, logHead, ttlS, checkpoint } = parsed
  const chain = chainAfter(crypto, chainPrev, leafOf(crypto, parsed))
  const event = { deviceSeq, chainPrev, streamId, eventId, epoch, logSeq, logHead, ttlS, chain, wire, checkpoint }
  return { ok: true, event }
}

function refusalOf(event: ParsedEvent, rules: EventRules, nowMs: number): ErrorCode | undefined {
  if (!equalBytes(event.userId, rules.userId) || !equalBytes(event.deviceId, rules.deviceId)) return 'foreign_event'
  if (!rules.mayPublish) return 'recovery_cannot_publish'
  if (event.ciphertext.length > paddedLength(rules.maxPayload) + EVENT_TAG_BYTES) return 'payload_too_large'
  if (event.ttlS > 0 && eventIdTimeMs(event.eventId) + event.ttlS * 1000 <= nowMs) return 'event_expired'
  return undefined
}
