// The one registry of error and close codes (DESIGN 10). Types, the client's policy and the table in
// docs/PROTOCOL.md (`node scripts/code-tables.mjs`) come from it. Codes never change; texts may. A text never holds anything a peer sent.

/** What a client does when it is told the code. */
export type ClientAction =
  | 'reconnect_now' // at once, without backoff
  | 'reconnect' // with full-jitter backoff
  | 'retry' // the same request again, after `retry_after_ms` when given
  | 'adjust' // mend the request as the code says, then go on
  | 'alarm' // stop and tell the user: something that must not happen did
  | 'stop' // terminal for this device or this request

export interface ErrorEntry {
  /** The WebSocket close code, or none when the session goes on. */
  readonly close?: number
  readonly action: ClientAction
  /** Sent as close reason or error text: fixed, under 123 bytes. */
  readonly text: string
}

export const ERRORS = {
  // Closes.
  session_rotation_required: { close: 1001, action: 'reconnect_now', text: 'Session key rotation required' },
  internal_error: { close: 1011, action: 'reconnect', text: 'The server failed; nothing was lost' },
  server_draining: { close: 1012, action: 'reconnect', text: 'This node is stopping; connect again' },
  server_overloaded: { close: 1013, action: 'reconnect', text: 'The server is overloaded; connect again later' },
  bad_frame: { close: 4400, action: 'reconnect', text: 'A frame could not be opened' },
  handshake_failed: { close: 4401, action: 'reconnect', text: 'Handshake failed' },
  version_unsupported: { close: 4402, action: 'stop', text: 'This protocol version is not supported' },
  device_revoked: { close: 4403, action: 'stop', text: 'This device was revoked' },
  session_superseded: { close: 4405, action: 'stop', text: 'A newer session of this device took over' },
  registration_timeout: { close: 4418, action: 'reconnect', text: 'No account was registered in time' },
  handshake_timeout: { close: 4408, action: 'reconnect', text: 'The handshake took too long' },
  device_seq_conflict: {
    close: 4409,
    action: 'alarm',
    text: 'Another event stands at this device_seq: a cloned device',
  },
  account_deleted: { close: 4410, action: 'stop', text: 'This account was deleted' },
  frame_too_large: { close: 4413, action: 'stop', text: 'The frame is larger than max_frame' },
  slow_consumer: { close: 4420, action: 'reconnect', text: 'The connection stayed behind for too long' },
  rate_limited: { close: 4429, action: 'reconnect', text: 'Too many requests; connect again later' },
  bad_message: { close: 4440, action: 'stop', text: 'Too many malformed messages' },

  // Answers to a message; the session goes on.
  invalid_message: { action: 'stop', text: 'The message does not fit its schema; `field` says where' },
  not_established: { action: 'stop', text: 'This message is not accepted before the account stands' },
  already_registered: { action: 'stop', text: 'This session belongs to a registered device already' },
  registration_closed: { action: 'stop', text: 'This server takes no new users' },
  registration_invite_required: { action: 'stop', text: 'This server takes new users by invitation only' },
  invitation_invalid: { action: 'stop', text: 'The invitation is unknown, used or expired' },
  unavailable: { action: 'retry', text: 'The database is out of reach; nothing was stored' },
  storage_low: { action: 'retry', text: 'The server is short of storage; nothing was stored' },

  // Answers to a published event.
  device_seq_gap: { action: 'adjust', text: 'device_seq must continue the stored one; `expected` says which' },
  chain_mismatch: { action: 'alarm', text: 'chain_prev is not the chain the server has stored' },
  stale_epoch: { action: 'adjust', text: 'The event is sealed under an older device log; seal it again' },
  log_seq_ahead: {
    action: 'adjust',
    text: 'The event names an entry that the device log does not have; read the log and seal it again',
  },
  epoch_invalid: { action: 'alarm', text: 'The event is sealed under another key epoch than the one in force' },
  log_seq_falls: {
    action: 'alarm',
    text: 'The event names an older entry of the device log than the one before it, or than the one that added its device',
  },
  log_head_false: { action: 'alarm', text: 'The event names another device log than the server has' },
  checkpoint_false: { action: 'alarm', text: 'The checkpoint names a chain that the server does not have' },
  displacement_limit: {
    action: 'retry',
    text: 'This device has pushed out as much of the other devices in a day as it may',
  },
  recovery_cannot_publish: { action: 'alarm', text: 'A recovery device changes the device log and publishes nothing' },
  device_suspended: { action: 'stop', text: 'This device is suspended: it reads on and publishes nothing' },
  foreign_event: { action: 'stop', text: 'The event names another user or device than the session' },
  invalid_event: { action: 'stop', text: 'The event does not parse' },
  payload_too_large: { action: 'stop', text: 'The event is larger than max_payload allows' },
  event_expired: { action: 'stop', text: 'The event outlived its ttl before it was stored' },
  stream_limit_reached: { action: 'stop', text: 'The user has as many streams as allowed' },
  event_refused: { action: 'stop', text: 'The database refuses this event' },

  // Answers about a pairing.
  pairing_taken: { action: 'stop', text: 'This mailbox is taken; begin again with a new one' },

  // Answers to a device-log entry.
  log_head_moved: { action: 'adjust', text: 'Another entry was appended first; read the log and sign again' },
  device_log_refused: { action: 'stop', text: 'The entry breaks a rule of the device log; `rule` says which' },
  envelope_mismatch: { action: 'stop', text: 'The boxes are not exactly those the entry commits to' },
} as const satisfies Record<string, ErrorEntry>

export type ErrorCode = keyof typeof ERRORS

export const ERROR_CODES = Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]

/** The entry of a code, with `close` readable whether it is there or not. */
export const errorEntry = (code: ErrorCode): ErrorEntry => ERRORS[code]

export type ClosingErrorCode = {
  [Code in ErrorCode]: (typeof ERRORS)[Code] extends { close: number } ? Code : never
}[ErrorCode]

/**
 * The error of a close frame, from its code and reason, or `undefined` for a close this protocol does not name.
 * A bare 1001 (a proxy, a browser that navigates away) is an ordinary reconnect, so it is `undefined` too.
 */
export function errorOfClose(closeCode: number, reason: string): ErrorCode | undefined {
  const code = ERROR_CODES.find((candidate) => errorEntry(candidate).close === closeCode)
  if (code === 'session_rotation_required' && reason !== ERRORS.session_rotation_required.text) return undefined
  return code
}

export interface ErrorDetail {
  /** The path of the field that is wrong, never its value. */
  readonly field?: string
  /** The rule of the device log that is broken. */
  readonly rule?: string
  readonly retryAfterMs?: number
}

/** A peer's fault, with a code of the registry. */
export class ProtocolError extends Error {
  readonly code: ErrorCode
  readonly detail: ErrorDetail

  constructor(code: ErrorCode, detail: ErrorDetail = {}, options?: ErrorOptions) {
    super(ERRORS[code].text, options)
    this.name = 'ProtocolError'
    this.code = code
    this.detail = detail
  }
}
