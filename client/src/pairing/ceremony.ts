// The pairing of two devices as a pure state machine (PROTOCOL F): what it needs next, and what becomes of it with what
// it gets. Whatever does not fit ends it; there is no second try of anything. A shell carries the messages.
// More than 300 lines: it is one machine, both of whose sides must be read together.

import {
  type Crypto,
  concatBytes,
  type DeviceRecord,
  encodeDeviceRecord,
  encodeUtf8,
  equalBytes,
  verifyWithContext,
} from '@valise/protocol'
import { encodeDeclined, encodeDone, parseDone } from '../link/messages.ts'
import type { CeremonyOutcome, CeremonyState, Channel, PairingFailure, StateOf } from './ceremony-state.ts'
import { type CpaceShare, cpaceGenerator, cpaceScalar, cpaceShare, cpaceSharedPoint } from './cpace.ts'
import {
  associatedDataOf,
  channelIdentifier,
  derivePairingKeys,
  openMessage,
  otherSeat,
  type PairingKeys,
  type Seat,
  sealMessage,
} from './keys.ts'
import {
  encodeAnswer,
  encodeOpening,
  encodePairingIntroduction,
  encodePairingInvitation,
  type PairingIntroduction,
  type PairingInvitation,
  parseAnswer,
  parseOpening,
  parsePairingIntroduction,
  parsePairingInvitation,
} from './messages.ts'
import { otherPart, type PairingPart } from './offer.ts'

/** How long after it was shown each secret may be used. */
export const OFFER_LIFETIME_MS = { qr: 120_000, code: 300_000 } as const
/**
 * For the joiner's confirmation, from the answer on: no person has a part in it. A guesser who falls silent, once the answer
 * has told that the guess was wrong, is known for one while there still is a mailbox to count it.
 */
export const CONFIRMATION_LIFETIME_MS = 120_000
/** After that nothing of a pairing is left anywhere. */
export const PAIRING_LIFETIME_MS = 600_000

export interface CeremonyParts {
  readonly crypto: Crypto
  /** Unix milliseconds. */
  readonly nowMs: number
}

export interface CeremonyParty {
  readonly part: PairingPart
  readonly mailboxId: Uint8Array
  readonly serverFingerprint: Uint8Array
  readonly nextFingerprint?: Uint8Array | undefined
}

/** For the device that displays. */
export const offerPairing = (
  { nowMs }: Pick<CeremonyParts, 'nowMs'>,
  party: CeremonyParty,
  { secret, digits }: { readonly secret: Uint8Array; readonly digits: string },
): StateOf<'offered'> => ({
  type: 'offered',
  seat: 'responder',
  ...party,
  sent: [],
  taken: 0,
  secret,
  digits,
  offeredAtMs: nowMs,
})

/** For the device that joins. `secret`: the QR's bytes, or the digits in ASCII. */
export function joinPairing(
  { crypto }: Pick<CeremonyParts, 'crypto'>,
  party: CeremonyParty,
  { form, secret }: { readonly form: 'qr' | 'code'; readonly secret: Uint8Array },
): StateOf<'opened'> {
  const seat = 'initiator'
  const scalar = cpaceScalar(crypto)
  const share = cpaceShare(generatorOf(party, secret), scalar)
  const opening = encodeOpening({ form, share, associatedData: associatedDataOf(seat, party.part) })
  return { type: 'opened', seat, ...party, sent: [opening], taken: 0, scalar, share }
}

const generatorOf = ({ mailboxId, serverFingerprint }: CeremonyParty, secret: Uint8Array): Uint8Array =>
  cpaceGenerator({ secret, channel: channelIdentifier(serverFingerprint), sessionId: mailboxId })

/** The mailbox's slot of a party's message, its first being 0: who joins has the even ones. */
export const slotOf = (seat: Seat, index: number): number => 2 * index + (seat === 'initiator' ? 0 : 1)

export type CeremonyNeed =
  | { readonly type: 'message'; readonly slot: number }
  | { readonly type: 'invitation' }
  | { readonly type: 'introduction'; readonly invitation: PairingInvitation }
  | { readonly type: 'decision'; readonly introduction: PairingIntroduction }
  | { readonly type: 'entry'; readonly introduction: PairingIntroduction }
  | { readonly type: 'nothing'; readonly outcome: CeremonyOutcome }

/** What the machine cannot go on without. */
export function needOf(state: CeremonyState): CeremonyNeed {
  switch (state.type) {
    case 'offered':
    case 'opened':
    case 'answered':
    case 'awaiting_introduction':
    case 'awaiting_invitation':
    case 'awaiting_done':
      return { type: 'message', slot: slotOf(otherSeat(state.seat), state.taken) }
    case 'inviting':
      return { type: 'invitation' }
    case 'introducing':
      return { type: 'introduction', invitation: requireParsed(parsePairingInvitation(state.invitation)) }
    case 'deciding':
      return { type: 'decision', introduction: requireParsed(parsePairingIntroduction(state.introduction)) }
    case 'adding':
      return { type: 'entry', introduction: requireParsed(parsePairingIntroduction(state.introduction)) }
    case 'ended':
      return { type: 'nothing', outcome: state.outcome }
  }
}

export type CeremonyInput =
  | { readonly type: 'message'; readonly body: Uint8Array }
  | { readonly type: 'invitation'; readonly invitation: PairingInvitation }
  | { readonly type: 'introduction'; readonly introduction: PairingIntroduction }
  /** The digits that a person typed, or undefined when he declined. */
  | { readonly type: 'decision'; readonly digits: string | undefined }
  | { readonly type: 'entry'; readonly seq: number; readonly entryHash: Uint8Array }
  /** It ends from outside. */
  | { readonly type: 'end'; readonly failure: PairingFailure }

/** An input that the state does not need is a mistake of the shell, and throws. */
export function stepCeremony(parts: CeremonyParts, state: CeremonyState, input: CeremonyInput): CeremonyState {
  if (state.type === 'ended') return state
  if (input.type === 'end') return fail(state, input.failure)
  if (needOf(state).type !== input.type) throw new Error(`a pairing that is ${state.type} takes no ${input.type}`)
  switch (state.type) {
    case 'offered':
      return input.type === 'message' ? answer(parts, state, input.body) : state
    case 'opened':
      return input.type === 'message' ? confirm(parts, state, input.body) : state
    case 'answered':
      return input.type === 'message' ? checkConfirmation(parts, state, input.body) : state
    case 'inviting':
      return input.type === 'invitation' ? invite(parts, state, input.invitation) : state
    case 'awaiting_introduction':
      return input.type === 'message' ? readIntroduction(parts, state, input.body) : state
    case 'deciding':
      return input.type === 'decision' ? decide(parts, state, input.digits) : state
    case 'adding':
      return input.type === 'entry' ? finish(parts, state, input) : state
    case 'awaiting_invitation':
      return input.type === 'message' ? readInvitation(parts, state, input.body) : state
    case 'introducing':
      return input.type === 'introduction' ? introduce(parts, state, input.introduction) : state
    case 'awaiting_done':
      return input.type === 'message' ? readDone(parts, state, input.body) : state
  }
}

type Live = Exclude<CeremonyState, StateOf<'ended'>>

const commonOf = ({ seat, part, mailboxId, serverFingerprint, nextFingerprint, sent, taken }: CeremonyState) => ({
  seat,
  part,
  mailboxId,
  serverFingerprint,
  ...(nextFingerprint === undefined ? {} : { nextFingerprint }),
  sent,
  taken,
})

const end = (state: Live, outcome: CeremonyOutcome): StateOf<'ended'> => ({
  type: 'ended',
  ...commonOf(state),
  outcome,
})

const fail = (state: Live, failure: PairingFailure): StateOf<'ended'> => end(state, { type: 'failed', failure })

/** The keys of both, from this party's scalar and what the other sent; or why there are none. */
function agree(
  { crypto }: CeremonyParts,
  state: Live,
  { scalar, share }: { readonly scalar: Uint8Array; readonly share: Uint8Array },
  theirs: CpaceShare,
): PairingFailure | { readonly confirmations: PairingKeys['confirmations']; readonly channel: Channel } {
  const expected = associatedDataOf(otherSeat(state.seat), otherPart(state.part))
  if (!equalBytes(theirs.associatedData, expected)) return 'same_part'
  const sharedPoint = cpaceSharedPoint(scalar, theirs.share)
  if (sharedPoint === undefined) return 'message_unreadable'
  const mine = { share, associatedData: associatedDataOf(state.seat, state.part) }
  const shares =
    state.seat === 'initiator' ? { initiator: mine, responder: theirs } : { initiator: theirs, responder: mine }
  const { confirmations, sealing, check } = derivePairingKeys(crypto, state.mailboxId, sharedPoint, shares)
  return { confirmations, channel: { sealing, check, sealed: 0, opened: 0 } }
}

/** m1 → m2. */
function answer(parts: CeremonyParts, state: StateOf<'offered'>, body: Uint8Array): CeremonyState {
  const opening = parseOpening(body)
  if (opening === undefined) return fail(state, 'message_unreadable')
  if (parts.nowMs - state.offeredAtMs > OFFER_LIFETIME_MS[opening.form]) return fail(state, 'offer_expired')
  const secret = opening.form === 'qr' ? state.secret : encodeUtf8(state.digits)
  const scalar = cpaceScalar(parts.crypto)
  const share = cpaceShare(generatorOf(state, secret), scalar)
  const agreed = agree(parts, state, { scalar, share }, opening)
  if (typeof agreed === 'string') return fail(state, agreed)
  const { confirmations, channel } = agreed
  const associatedData = associatedDataOf(state.seat, state.part)
  const message = encodeAnswer({ share, associatedData, confirmation: confirmations.responder })
  return {
    type: 'answered',
    ...commonOf(state),
    sent: [...state.sent, message],
    taken: state.taken + 1,
    answeredAtMs: parts.nowMs,
    confirmation: confirmations.initiator,
    channel,
  }
}

/** m2 → m3. */
function confirm(parts: CeremonyParts, state: StateOf<'opened'>, body: Uint8Array): CeremonyState {
  const received = parseAnswer(body)
  if (received === undefined) return fail(state, 'message_unreadable')
  const agreed = agree(parts, state, state, received)
  if (typeof agreed === 'string') return fail(state, agreed)
  const { confirmations, channel } = agreed
  if (!parts.crypto.isEqual(confirmations.responder, received.confirmation)) return fail(state, 'wrong_code')
  return confirmed({ ...commonOf(state), sent: [...state.sent, confirmations.initiator] }, channel)
}

/** m3. */
function checkConfirmation(
  { crypto, nowMs }: CeremonyParts,
  state: StateOf<'answered'>,
  body: Uint8Array,
): CeremonyState {
  if (nowMs - state.answeredAtMs > CONFIRMATION_LIFETIME_MS) return fail(state, 'not_confirmed')
  if (!crypto.isEqual(state.confirmation, body)) return fail(state, 'wrong_code')
  return confirmed(commonOf(state), state.channel)
}

const confirmed = (common: ReturnType<typeof commonOf>, channel: Channel): CeremonyState => ({
  type: common.part === 'existing' ? 'inviting' : 'awaiting_invitation',
  ...common,
  taken: common.taken + 1,
  channel,
})

/** With one more message of this party's, sealed. */
function seal(
  { crypto }: CeremonyParts,
  state: Live & { readonly channel: Channel },
  body: Uint8Array,
): ReturnType<typeof commonOf> & { channel: Channel } {
  const { channel } = state
  const slot = slotOf(state.seat, state.sent.length)
  const sealed = sealMessage(crypto, channel.sealing[state.seat], channel.sealed, slot, body)
  return {
    ...commonOf(state),
    sent: [...state.sent, sealed],
    channel: { ...channel, sealed: channel.sealed + 1 },
  }
}

/** The other's next message, opened and parsed, and the state's fields after it; or why it is not that. */
function open<Message>(
  { crypto }: CeremonyParts,
  state: Live & { readonly channel: Channel },
  sealed: Uint8Array,
  parse: (body: Uint8Array) => Message | undefined,
) {
  const { channel } = state
  const from = otherSeat(state.seat)
  const body = openMessage(crypto, channel.sealing[from], channel.opened, slotOf(from, state.taken), sealed)
  if (body === undefined) return 'message_altered'
  const message = parse(body)
  if (message === undefined) return 'message_unreadable'
  const after = {
    ...commonOf(state),
    taken: state.taken + 1,
    channel: { ...channel, opened: channel.opened + 1 },
  }
  return { body, message, after }
}

const invite = (
  parts: CeremonyParts,
  state: StateOf<'inviting'>,
  invitation: PairingInvitation,
): StateOf<'awaiting_introduction'> => ({
  type: 'awaiting_introduction',
  ...seal(parts, state, encodePairingInvitation(invitation)),
  userId: invitation.userId,
})

function readInvitation(
  parts: CeremonyParts,
  state: StateOf<'awaiting_invitation'>,
  sealed: Uint8Array,
): CeremonyState {
  const opened = open(parts, state, sealed, parsePairingInvitation)
  if (typeof opened === 'string') return fail(state, opened)
  const { message, body, after } = opened
  const { nextFingerprint = message.nextFingerprint } = state
  const isSameServer =
    equalBytes(message.serverFingerprint, state.serverFingerprint) &&
    equalBytes(message.nextFingerprint, nextFingerprint)
  if (!isSameServer) return fail(state, 'wrong_server_key')
  return { type: 'introducing', ...after, invitation: body }
}

const introduce = (
  parts: CeremonyParts,
  state: StateOf<'introducing'>,
  introduction: PairingIntroduction,
): StateOf<'awaiting_done'> => ({
  type: 'awaiting_done',
  ...seal(parts, state, encodePairingIntroduction(introduction)),
  invitation: state.invitation,
})

/** Nobody is asked about a device that has not proved its keys, or that wants to be more than a member. */
function readIntroduction(
  parts: CeremonyParts,
  state: StateOf<'awaiting_introduction'>,
  sealed: Uint8Array,
): CeremonyState {
  const opened = open(parts, state, sealed, parsePairingIntroduction)
  if (typeof opened === 'string') return fail(state, opened)
  const { record, proof } = opened.message
  if (record.role !== 'member') return fail(state, 'role_refused')
  if (!provesKeys(parts.crypto, state.userId, record, proof)) return fail(state, 'keys_not_proved')
  return { type: 'deciding', ...opened.after, introduction: opened.body }
}

const provesKeys = (crypto: Crypto, userId: Uint8Array, record: DeviceRecord, proof: Uint8Array): boolean =>
  verifyWithContext(crypto, record.edPub, 'device-pop', concatBytes(userId, encodeDeviceRecord(record)), proof)

function decide(parts: CeremonyParts, state: StateOf<'deciding'>, digits: string | undefined): CeremonyState {
  if (digits === undefined) {
    return { type: 'ended', ...withoutChannel(seal(parts, state, encodeDeclined())), outcome: { type: 'declined' } }
  }
  const isSame = parts.crypto.isEqual(encodeUtf8(digits), encodeUtf8(state.channel.check))
  return isSame ? { ...state, type: 'adding' } : fail(state, 'wrong_digits')
}

function finish(
  parts: CeremonyParts,
  state: StateOf<'adding'>,
  { seq, entryHash }: { readonly seq: number; readonly entryHash: Uint8Array },
): StateOf<'ended'> {
  const sealed = seal(parts, state, encodeDone({ seq, entryHash }))
  return {
    type: 'ended',
    ...withoutChannel(sealed),
    outcome: { type: 'added', introduction: state.introduction, seq },
  }
}

const withoutChannel = ({ channel: _, ...common }: ReturnType<typeof seal>): ReturnType<typeof commonOf> => common

function readDone(parts: CeremonyParts, state: StateOf<'awaiting_done'>, sealed: Uint8Array): CeremonyState {
  const opened = open(parts, state, sealed, parseDone)
  if (typeof opened === 'string') return fail(state, opened)
  if (opened.message.type === 'declined') return end(state, { type: 'declined' })
  const { seq, entryHash } = opened.message
  return end(state, { type: 'admitted', invitation: state.invitation, seq, entryHash })
}

/** What the machine itself has parsed before. */
function requireParsed<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error('a message of the pairing that was read before cannot be read')
  return value
}
