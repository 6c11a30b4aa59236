// Where a pairing stands, as plain data that survives the end of the process (PROTOCOL F). Each state holds what is true in
// it and no more: secrets of a step are not there after it.

import { z } from 'zod'
import { MAILBOX_ID_BYTES, OFFER_SECRET_BYTES } from './offer.ts'

const bytes = (min: number, max = min) =>
  z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length >= min && value.length <= max)

export const MAX_MESSAGE_BYTES = 8192
/** Of one party: the mailbox holds eight. */
const MAX_SENT = 4
const message = bytes(1, MAX_MESSAGE_BYTES)

const common = {
  seat: z.enum(['initiator', 'responder']),
  part: z.enum(['existing', 'new']),
  mailboxId: bytes(MAILBOX_ID_BYTES),
  serverFingerprint: bytes(32),
  /** Of the server's next key, where this party knows it. */
  nextFingerprint: bytes(32).optional(),
  /** This party's messages, in order: what a mailbox may not have yet. */
  sent: z.array(message).max(MAX_SENT),
  /** How many of the other's were taken. */
  taken: z.int().min(0).max(MAX_SENT),
}

/** Both proved that they know the secret; from here on every message is sealed. */
const channel = z.strictObject({
  sealing: z.strictObject({ initiator: bytes(32), responder: bytes(32) }),
  sealed: z.int().min(0).max(MAX_SENT),
  opened: z.int().min(0).max(MAX_SENT),
  /** Four digits that the new device shows and a person types on the existing one. */
  check: z.string().regex(/^\d{4}$/),
})
export type Channel = z.infer<typeof channel>

export const PAIRING_FAILURES = [
  'wrong_code',
  'same_part',
  'offer_expired',
  'not_confirmed',
  'wrong_digits',
  'message_altered',
  'message_unreadable',
  'wrong_server_key',
  'keys_not_proved',
  'role_refused',
  'expired',
  'evicted',
  'unfinished',
  'other_failed',
  'other_ended',
] as const
export type PairingFailure = (typeof PAIRING_FAILURES)[number]

const outcome = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('added'), introduction: message, seq: z.int().min(0) }),
  z.strictObject({
    type: z.literal('admitted'),
    invitation: message,
    seq: z.int().min(0),
    entryHash: bytes(32),
  }),
  /** A person on the existing device said no. */
  z.strictObject({ type: z.literal('declined') }),
  z.strictObject({ type: z.literal('failed'), failure: z.enum(PAIRING_FAILURES) }),
])
export type CeremonyOutcome = z.infer<typeof outcome>

const state = z.discriminatedUnion('type', [
  /** Displays both secrets, and waits for who joins. */
  z.strictObject({
    type: z.literal('offered'),
    ...common,
    secret: bytes(OFFER_SECRET_BYTES),
    digits: z.string().regex(/^\d{6}$/),
    offeredAtMs: z.int().min(0),
  }),
  /** Has joined with one of them, and waits for the answer. */
  z.strictObject({ type: z.literal('opened'), ...common, scalar: bytes(32), share: bytes(32) }),
  /** Has answered, and waits for the joiner's confirmation. */
  z.strictObject({
    type: z.literal('answered'),
    ...common,
    answeredAtMs: z.int().min(0),
    confirmation: bytes(32),
    channel,
  }),
  /** Existing device: is to say whose the new one will be. */
  z.strictObject({ type: z.literal('inviting'), ...common, channel }),
  z.strictObject({ type: z.literal('awaiting_introduction'), ...common, channel, userId: bytes(32) }),
  /** Existing device: a person decides. */
  z.strictObject({ type: z.literal('deciding'), ...common, channel, introduction: message }),
  /** Existing device: the person has agreed; the entry may be in the log already. */
  z.strictObject({ type: z.literal('adding'), ...common, channel, introduction: message }),
  z.strictObject({ type: z.literal('awaiting_invitation'), ...common, channel }),
  /** New device: is to say who it is. */
  z.strictObject({ type: z.literal('introducing'), ...common, channel, invitation: message }),
  z.strictObject({ type: z.literal('awaiting_done'), ...common, channel, invitation: message }),
  z.strictObject({ type: z.literal('ended'), ...common, outcome }),
])
export type CeremonyState = z.infer<typeof state>
export type StateOf<Type extends CeremonyState['type']> = Extract<CeremonyState, { type: Type }>

export const ceremonyState = state
