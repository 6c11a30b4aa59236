// What the refusal of a published event means, and whether its claim can be true. A server that lies about a refusal could
// drop what the user wrote, so every claim is checked against what this device knows (REF-1). Pure.

import {
  type ErrorCode,
  EVENT_TAG_BYTES,
  eventIdTimeMs,
  type ParsedEvent,
  paddedLength,
  type StreamId,
} from '@valise/protocol'
import { type AlarmCode, AlarmError } from '../alarm.ts'

export type RefusalMeaning =
  /** A tombstone takes its place (ORD-6), once the claim is checked. */
  | 'for_good'
  /** Sealed again under the device log that the server shows. */
  | 'seal_again'
  /** Sent again, later. */
  | 'later'
  /** Sent again from the event that the server expects. */
  | 'gap'
  /** The session is about to be closed with the same code, and its close decides. */
  | 'closing'
  /** Nothing more is sent, and nothing is dropped; the device log says why. */
  | 'suspended'
  | { readonly alarm: AlarmCode }

const FALSE: RefusalMeaning = { alarm: 'refusal_false' }
/** What the server checks against its own rows, all of which this device has from it. */
const DENIED: RefusalMeaning = { alarm: 'truth_refused' }

/** Total, so that a new code cannot be taken for one that drops an event. */
const MEANINGS: Readonly<Record<ErrorCode, RefusalMeaning>> = {
  payload_too_large: 'for_good',
  event_expired: 'for_good',
  stream_limit_reached: 'for_good',
  event_refused: 'for_good',
  checkpoint_false: 'for_good',
  stale_epoch: 'seal_again',
  log_seq_ahead: 'seal_again',
  unavailable: 'later',
  rate_limited: 'later',
  storage_low: 'later',
  displacement_limit: 'later',
  device_seq_gap: 'gap',
  device_revoked: 'closing',
  account_deleted: 'closing',
  device_suspended: 'suspended',
  device_seq_conflict: { alarm: 'device_cloned' },
  chain_mismatch: { alarm: 'chain_forked' },
  foreign_event: { alarm: 'foreign_session' },
  recovery_cannot_publish: { alarm: 'foreign_session' },
  log_head_false: DENIED,
  log_seq_falls: DENIED,
  epoch_invalid: DENIED,
  // This client seals only what parses.
  invalid_event: FALSE,
  // No answers to a published event.
  session_rotation_required: FALSE,
  internal_error: FALSE,
  server_draining: FALSE,
  server_overloaded: FALSE,
  bad_frame: FALSE,
  handshake_failed: FALSE,
  version_unsupported: FALSE,
  session_superseded: FALSE,
  registration_timeout: FALSE,
  handshake_timeout: FALSE,
  frame_too_large: FALSE,
  slow_consumer: FALSE,
  bad_message: FALSE,
  invalid_message: FALSE,
  not_established: FALSE,
  already_registered: FALSE,
  registration_closed: FALSE,
  registration_invite_required: FALSE,
  invitation_invalid: FALSE,
  pairing_taken: FALSE,
  log_head_moved: FALSE,
  device_log_refused: FALSE,
  envelope_mismatch: FALSE,
}

export const meaningOf = (code: ErrorCode): RefusalMeaning => MEANINGS[code]

/** What this device knows when it checks a claim. */
export interface RefusalFacts {
  /** As the session announced it. */
  readonly maxPayload: number
  /** The server's time. */
  readonly nowMs: number
  /** When the log was last restored, by the server's word or by this device's user; 0 = never. */
  readonly restoredAtMs: number
  isKnownStream(streamId: StreamId): boolean
}

export type ClaimVerdict =
  | 'possible'
  | 'false'
  /** The event agrees with all that the server itself showed. */
  | 'denied'
  /** False by this device's idea of the server's time, which may be wrong: the next session says it again. */
  | 'ask_time'

/** Whether the server may refuse the event for good with this code. `event_refused` cannot be checked. */
export function judgeClaim(code: ErrorCode, event: ParsedEvent, facts: RefusalFacts): ClaimVerdict {
  switch (code) {
    case 'payload_too_large':
      return event.ciphertext.length > paddedLength(facts.maxPayload) + EVENT_TAG_BYTES ? 'possible' : 'false'
    case 'event_expired':
      if (event.ttlS === 0) return 'false'
      return hasOutlived(event, facts.nowMs) ? 'possible' : 'ask_time'
    case 'stream_limit_reached':
      // A server that has one event of a stream has the stream.
      return facts.isKnownStream(event.streamId) ? 'false' : 'possible'
    case 'checkpoint_false':
      // The list of a checkpoint from before the log was restored may name what was lost.
      return event.checkpoint !== undefined && eventIdTimeMs(event.eventId) < facts.restoredAtMs ? 'possible' : 'denied'
    default:
      return 'possible'
  }
}

/** Its lifetime ends before it is stored (decision 0009). */
export const hasOutlived = ({ ttlS, eventId }: ParsedEvent, nowMs: number): boolean =>
  ttlS > 0 && eventIdTimeMs(eventId) + ttlS * 1000 <= nowMs

export function refusalAlarm(alarm: AlarmCode, deviceSeq: number, code: ErrorCode): AlarmError {
  switch (alarm) {
    case 'refusal_false':
      return new AlarmError(alarm, { device_seq: deviceSeq, claim: code })
    case 'truth_refused':
      return new AlarmError(alarm, { device_seq: deviceSeq, code })
    default:
      return new AlarmError(alarm, { device_seq: deviceSeq })
  }
}
