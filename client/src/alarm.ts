// The alarms: what a client stops for because it must not happen, each with a text and a remedy fit to show to a
// person. An alarm is never skipped over: whoever raises one changes nothing in the store first.

import { type ErrorCode, errorEntry } from '@valise/protocol'

const ALARMS = {
  device_log_shorter: 'The server shows a shorter device log than it showed before',
  device_log_forked: 'The server shows another device log than it showed before',
  device_log_invalid: 'An entry of the device log breaks its rules',
  epoch_key_invalid: 'The content key of an epoch does not match what the device log promises',
  log_epoch_changed: "The server's event log was replaced by another one, perhaps an older backup",
  cursor_beyond_head: "The server's event log ends before what this device has already received",
  foreign_session: 'The server opened a session for another user or device',
  malformed_message: 'The server sent a message that this client cannot read',
  malformed_event: 'An event does not parse',
  foreign_event: 'An event belongs to another user',
  own_event: "The server delivered one of this device's own events back to it",
  unknown_device: 'An event comes from a device that the device log does not know',
  order_broken: 'The server delivered events out of order',
  through_inconsistent: 'The server claims completeness up to a point that does not fit its events',
  stream_order_broken: 'The numbers of a stream do not continue',
  chain_gap: 'Events of a device are missing, and the server does not deliver them',
  events_missing: 'The server says that its log is complete where events are missing',
  history_changed: 'The server delivered another event at a place where this device holds one',
  chain_repeated: 'The server delivered an event a second time under a new number',
  chain_forked: "An event does not continue its device's chain",
  signature_invalid: 'The signature of an event is wrong',
  log_seq_invalid: 'The server stored an event that names a state of the device log that cannot be',
  log_head_invalid: 'The server stored an event that names another device log than the one it shows',
  epoch_invalid: 'The server stored an event under a key epoch that was not in force',
  bytes_withheld: 'The server withholds the bytes of an event that it must still have',
  event_unreadable: 'An event cannot be opened with the key of its epoch',
  checkpoint_contradiction: 'The server stored a checkpoint that contradicts the history it shows',
  events_withheld: 'Another device has seen events that the server withholds from this one',
  device_cloned: 'The server holds events of this device that this device does not know',
  receipts_withdrawn: 'The server no longer holds events of this device that it had confirmed',
  receipt_contradiction: 'A receipt contradicts an earlier one',
  truth_refused: 'The server refuses an event that agrees with all that the server itself showed',
  refusal_false: 'The server refuses an event for a reason that cannot be true',
  tombstone_refused: 'The server refuses even an empty event in place of one it refused',
  server_key_forked: 'The server shows two different successors of one of its keys',
  server_next_key_changed: 'The server names another next key than before, without a signed change',
  server_keys_invalid: "The server's list of its key changes does not hold",
  store_damaged: "This device's own store is damaged",
} as const

export type AlarmCode = keyof typeof ALARMS

const REMEDY_SERVER =
  'Stop using this server until its operator has explained it, and compare with your other devices: run `valise verify` on each.'

const REMEDY_KEYS =
  "Somebody else may have the server's key. Do not use this server until its operator has explained it over another channel."

const REMEDY_RESTORED =
  'Ask the operator whether a backup was restored. What this device holds is kept. If you trust what is there now, run `valise republish` on each of your devices: it publishes again what the server lost.'

const REMEDY_MISSING =
  'The server was asked for them again. This device asks once more when it is started again; if the server then delivers them, nothing is lost. If it does not, `valise republish` reads the log again from before the gap. Compare with your other devices: run `valise verify` on each.'

const REMEDIES: Partial<Record<AlarmCode, string>> = {
  log_epoch_changed: REMEDY_RESTORED,
  cursor_beyond_head: REMEDY_RESTORED,
  receipts_withdrawn: REMEDY_RESTORED,
  chain_gap: REMEDY_MISSING,
  events_missing: REMEDY_MISSING,
  device_log_shorter:
    'Ask the operator whether a backup was restored that is older than your last change of devices. What this device holds is kept.',
  device_cloned:
    'This home folder was restored from an older copy or is used twice. Link this device anew into an empty home folder.',
  server_key_forked: REMEDY_KEYS,
  server_next_key_changed: REMEDY_KEYS,
  server_keys_invalid: REMEDY_KEYS,
  store_damaged: 'Keep a copy of the home folder, then link this device anew into an empty one.',
}

/** Alarms that leave nothing to sign on: the device log itself, this device's own store, or whose session it is. */
const BLOCKS_MANAGEMENT: ReadonlySet<AlarmCode> = new Set([
  'device_log_shorter',
  'device_log_forked',
  'device_log_invalid',
  'foreign_session',
  'store_damaged',
])

/**
 * True when devices and keys cannot be changed either. Every other alarm stops events only: a user who is being lied to, or
 * whose device was stolen, must still be able to revoke.
 */
export const blocksManagement = ({ code }: Pick<Alarm, 'code'>): boolean => BLOCKS_MANAGEMENT.has(code)

export interface Alarm {
  readonly code: AlarmCode
  readonly text: string
  readonly remedy: string
  /** Ids and numbers that say where; never content or keys. */
  readonly detail: Readonly<Record<string, string | number>>
}

export function createAlarm(code: AlarmCode, detail: Readonly<Record<string, string | number>> = {}): Alarm {
  return { code, text: ALARMS[code], remedy: REMEDIES[code] ?? REMEDY_SERVER, detail }
}

/** Carries an alarm up to the client, which stops for it. */
export class AlarmError extends Error {
  readonly alarm: Alarm

  constructor(code: AlarmCode, detail: Readonly<Record<string, string | number>> = {}, options?: ErrorOptions) {
    super(ALARMS[code], options)
    this.name = 'AlarmError'
    this.alarm = createAlarm(code, detail)
  }
}

/** An event is of a form that this program does not know: nobody is to blame, and the client stops. */
export class UpdateNeededError extends Error {
  constructor() {
    super(OWN_TEXTS.update_needed)
    this.name = 'UpdateNeededError'
  }
}

/** A code of the registry, or what this device found out by itself. */
export type RefusalCode = ErrorCode | 'wrong_server_key' | 'revocation_unproven' | 'update_needed'

/** Why a client has stopped for good. */
export type StopCause =
  | { readonly type: 'closed' }
  | {
      readonly type: 'refused'
      readonly code: RefusalCode
      readonly text: string
      readonly remedy: string
    }
  | { readonly type: 'alarm'; readonly alarm: Alarm }

const REFUSAL_REMEDIES: Partial<Record<RefusalCode, string>> = {
  wrong_server_key:
    'Someone may be between you and the server, or the server has a new key. Ask its operator, over another channel, for the fingerprint that the server prints at its start. If the operator confirms a new key, run `valise trust FINGERPRINT` with it; otherwise do not go on.',
  update_needed: 'Update this program; what it holds is kept, and nothing is lost.',
  version_unsupported: 'Update this program, or ask the operator to update the server.',
  device_revoked:
    'One of your other devices removed this one, and what it held of the account is erased. Link it anew if that was not meant.',
  revocation_unproven:
    'Nothing was erased. Look at `valise devices` on another device: if this one is active there, the server does not tell the truth.',
  session_superseded: 'Another program uses the same device. End one of the two, then start again.',
  account_deleted:
    'The account is gone from the server, for all devices and for good. What this device holds is kept, and `valise export FILE --offline` writes it out; remove its home folder to erase it.',
}

const OWN_TEXTS: Readonly<Record<Exclude<RefusalCode, ErrorCode>, string>> = {
  wrong_server_key: 'The server proved another key than the one this device trusts',
  revocation_unproven: 'The server says that this device was revoked, and does not show the signed entry',
  update_needed: 'An event was written by a newer program than this one',
}

const isOwnCode = (code: RefusalCode): code is keyof typeof OWN_TEXTS => code in OWN_TEXTS

export function refusedFor(code: RefusalCode): Extract<StopCause, { type: 'refused' }> {
  const text = isOwnCode(code) ? OWN_TEXTS[code] : errorEntry(code).text
  return {
    type: 'refused',
    code,
    text,
    remedy: REFUSAL_REMEDIES[code] ?? 'Please report this with the output of `valise status`.',
  }
}

/** One or two sentences for a person. */
export function describeStop(cause: StopCause): string {
  switch (cause.type) {
    case 'closed':
      return 'The client was closed.'
    case 'refused':
      return `${cause.text}. ${cause.remedy}`
    case 'alarm': {
      const where = Object.entries(cause.alarm.detail).map(([name, value]) => `${name} ${value}`)
      const place = where.length === 0 ? '' : ` (${where.join(', ')})`
      return `ALARM ${cause.alarm.code}: ${cause.alarm.text}${place}. ${cause.alarm.remedy}`
    }
  }
}

/** What waits on a client that stops for good is rejected with this. */
export class ClientStoppedError extends Error {
  readonly stopCause: StopCause

  constructor(cause: StopCause) {
    super(describeStop(cause))
    this.name = 'ClientStoppedError'
    this.stopCause = cause
  }
}
