// What the server can check of a published event without any key (PROTOCOL E): its layout, its owner, its size, its
// lifetime. Order and epoch are the database's to check, in the statement that stores (intake.ts). Pure.

import {
  type Crypto,
  type ErrorCode,
  EVENT_TAG_BYTES,
  equalBytes,
  eventIdTimeMs,
  leafHash,
  nextChain,
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

export type CheckedEvent =
  | { readonly ok: true; readonly event: SubmittedEvent }
  /** `deviceSeq` is 0 when the bytes do not parse. */
  | { readonly ok: false; readonly code: ErrorCode; readonly deviceSeq: number }

export function checkEvent(crypto: Crypto, rules: EventRules, wire: Uint8Array, nowMs: number): CheckedEvent {
  const parsed = parseEvent(wire)
  if (parsed === undefined) return { ok: false, code: 'invalid_event', deviceSeq: 0 }
  const code = refusalOf(parsed, rules, nowMs)
  if (code !== undefined) return { ok: false, code, deviceSeq: parsed.deviceSeq }
  const { deviceSeq, chainPrev, streamId, eventId, logSeq, ttlS } = parsed
  const leaf = leafHash(crypto, parsed.leafInput)
  const chain = nextChain(crypto, chainPrev, leaf)
  return { ok: true, event: { deviceSeq, chainPrev, streamId, eventId, logSeq, ttlS, leaf, chain, wire } }
}

function refusalOf(event: ParsedEvent, rules: EventRules, nowMs: number): ErrorCode | undefined {
  if (!equalBytes(event.userId, rules.userId) || !equalBytes(event.deviceId, rules.deviceId)) return 'foreign_event'
  if (!rules.mayPublish) return 'recovery_cannot_publish'
  if (event.ciphertext.length > paddedLength(rules.maxPayload) + EVENT_TAG_BYTES) return 'payload_too_large'
  if (event.ttlS > 0 && eventIdTimeMs(event.eventId) + event.ttlS * 1000 <= nowMs) return 'event_expired'
  return undefined
}
