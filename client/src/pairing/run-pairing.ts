// Carries a pairing to its end (PROTOCOL F): stores each state before anything of it leaves the device, posts what was not
// posted yet, and gets what the machine needs next. Ended at any moment and started again, it goes on from there.
// More than 300 lines: what a failure means, and what follows it, is told from one table beside the run.

import { type Crypto, type DeviceRecord, deviceIdOf } from '@valise/protocol'
import { AccountError } from '../account/account-error.ts'
import { formatDeviceFingerprint } from '../account/fingerprint.ts'
import { SetupError } from '../account/setup-error.ts'
import type { Clock } from '../clock.ts'
import type { NewDevice } from '../link/link.ts'
import {
  type CeremonyInput,
  type CeremonyNeed,
  CONFIRMATION_LIFETIME_MS,
  needOf,
  OFFER_LIFETIME_MS,
  slotOf,
  stepCeremony,
} from './ceremony.ts'
import type { CeremonyOutcome, CeremonyState, PairingFailure } from './ceremony-state.ts'
import type { Seat } from './keys.ts'
import type { PairingMailbox } from './mailbox.ts'
import type { PairingIntroduction, PairingInvitation } from './messages.ts'
import { encodePairingRecord, type PairingKeeper, type RecordAt } from './record.ts'

export interface PairingStep {
  readonly type: CeremonyState['type']
  /** The four digits, on the new device as soon as both have proved that they know the secret. */
  readonly check: string | undefined
}

/** What the existing device does at its moments. */
export interface ExistingSide {
  invite(): PairingInvitation
  /** The digits that a person typed; undefined when he declined. */
  decide(device: NewDevice, signal: AbortSignal): Promise<string | undefined>
  /** Signs it in, or finds that it is: the entry's position. Rejects with an `AccountError` when it cannot be. */
  add(
    device: { readonly record: DeviceRecord; readonly proof: Uint8Array },
    signal: AbortSignal,
  ): Promise<{ readonly seq: number; readonly head: Uint8Array }>
}

/** What the new device does at its moments. */
export interface NewSide {
  /** Its keys must survive from here on. */
  introduce(invitation: PairingInvitation): Promise<PairingIntroduction>
}

export interface RunPairingParts {
  readonly crypto: Crypto
  readonly clock: Clock
  readonly keeper: PairingKeeper
  readonly mailboxOf: (signal: AbortSignal) => PairingMailbox
  readonly side:
    | { readonly part: 'existing'; readonly existing: ExistingSide }
    | { readonly part: 'new'; readonly new: NewSide }
  onStep(step: PairingStep): void
  /** A displaying device may show another code when this one is spoiled. */
  readonly isRenewable: boolean
  /** Given up for now: what is stored stays. */
  readonly signal: AbortSignal | undefined
}

export type PairingOutcome = Exclude<CeremonyOutcome, { readonly type: 'failed' }>

/**
 * The code is used up before a device has proved that it knows it: anybody may have done that. What is stored stays, for the
 * pairing that takes its place.
 */
export interface SpoiledPairing {
  readonly type: 'spoiled'
  readonly failure: PairingFailure
  /** What happened, for people. */
  readonly text: string
}

/** What happened. */
const FAILURES: Readonly<Record<PairingFailure, string>> = {
  wrong_code:
    'The two devices do not share one secret: the code was mistyped, the server showed them different keys, or somebody else took part. Nothing was let in, and this pairing is destroyed.',
  same_part: 'Both devices belong to an account, or neither does. One that does and one that does not can be paired.',
  offer_expired: 'No other device made itself known in time.',
  not_confirmed:
    'A device joined and did not show in time that it knows the code: it was given a wrong one, or interrupted, or somebody else guessed. Nothing was let in, and this pairing is destroyed.',
  wrong_digits:
    'Those are not the four digits of the device that asks: it may be another one than you mean. It was not let in, and this pairing is destroyed.',
  message_altered:
    'A message was changed, swapped or repeated on its way. Nothing was let in; this pairing is destroyed.',
  message_unreadable: 'The other device, or the server, sent what is no message of a pairing. Nothing was let in.',
  wrong_server_key:
    'The two devices see different server keys: someone may be between them and the server. Nothing was let in.',
  keys_not_proved: 'The new device did not prove that its keys are its own. It was not let in.',
  role_refused: 'The new device asks for more than a member may. It was not let in.',
  expired: 'The pairing was not finished in time, and is gone.',
  evicted: 'The server had no place left and ended this pairing.',
  unfinished:
    'The time was over while the new device was being let in: it may be one of yours already. The list of your devices tells.',
  other_failed:
    'The other device ended this pairing because it failed: a wrong code, wrong digits, or somebody else took part. It is destroyed.',
  other_ended: 'The pairing was ended from the other side.',
}

/** After these a new pairing may go well. */
const WORTH_ANOTHER: ReadonlySet<PairingFailure> = new Set([
  'wrong_code',
  'offer_expired',
  'not_confirmed',
  'message_altered',
  'expired',
  'evicted',
  'other_failed',
  'other_ended',
])

const NEXT_STEPS: Readonly<Record<Seat, string>> = {
  initiator: 'If the other device shows a new code, type that one; otherwise begin a new pairing.',
  responder: 'Begin a new one.',
}

const describeFailure = (failure: PairingFailure, seat: Seat): string =>
  WORTH_ANOTHER.has(failure) ? `${FAILURES[failure]} ${NEXT_STEPS[seat]}` : FAILURES[failure]

/** What the other device and the server are told; by the other failures they know already. */
const ENDINGS: Readonly<Record<PairingFailure, 'failed' | 'ended' | undefined>> = {
  wrong_code: 'failed',
  same_part: 'failed',
  offer_expired: 'ended',
  not_confirmed: 'failed',
  wrong_digits: 'failed',
  message_altered: 'failed',
  message_unreadable: 'failed',
  wrong_server_key: 'failed',
  keys_not_proved: 'failed',
  role_refused: 'failed',
  expired: 'ended',
  evicted: undefined,
  unfinished: 'ended',
  other_failed: undefined,
  other_ended: undefined,
}

/**
 * Rejects with a `SetupError`: `pairing_failed` for good, `aborted` and `server_unreachable` when it can go on. With an
 * `AccountError`, for good, when the account does not take the device.
 */
export async function runPairing(
  parts: RunPairingParts,
  record: RecordAt<'running'>,
): Promise<PairingOutcome | SpoiledPairing> {
  const { crypto, clock, keeper } = parts
  const deadline = createDeadline(clock)
  const signal = parts.signal === undefined ? deadline.signal : AbortSignal.any([deadline.signal, parts.signal])
  const mailbox = parts.mailboxOf(signal)
  const step = (input: CeremonyInput): CeremonyState => stepCeremony({ crypto, nowMs: clock.now() }, state, input)
  let { state } = record
  let posted = 0
  let told: CeremonyState['type'] | undefined
  try {
    for (;;) {
      const shown = state.type === 'offered' ? record.shown : undefined
      await keeper.save(encodePairingRecord({ ...record, state, shown }))
      deadline.set(deadlineOf(record, state))
      if (state.type !== told) parts.onStep({ type: state.type, check: checkOf(state) })
      told = state.type
      const unposted = state.sent[posted]
      if (unposted !== undefined) {
        const answer = await mailbox.post(slotOf(state.seat, posted), unposted)
        // What has ended here needs no mailbox any more.
        if (answer.type === 'stored' || state.type === 'ended') posted += 1
        else state = step({ type: 'end', failure: answer.failure })
        continue
      }
      const need = needOf(state)
      if (need.type === 'nothing') return await conclude(parts, mailbox, state, need.outcome)
      state = step(await obtain(parts, record, mailbox, need, signal))
    }
  } catch (error) {
    // It has failed for good, whoever interrupts it then.
    if (error instanceof SetupError) throw error
    if (error instanceof AccountError) {
      await mailbox.end('ended')
      await keeper.forget()
      throw error
    }
    if (parts.signal?.aborted === true) throw interrupted(error)
    if (!deadline.signal.aborted) throw error
    // What has ended here has not become anything else because the other could not be told.
    return conclude(parts, mailbox, state, state.type === 'ended' ? state.outcome : lateOutcome(state), error)
  } finally {
    deadline.cancel()
  }
}

/** What is stored stays. */
export const interrupted = (cause: unknown): SetupError =>
  new SetupError('aborted', 'Interrupted. Pair again within its ten minutes to go on from here.', { cause })

async function conclude(
  { keeper, isRenewable }: RunPairingParts,
  mailbox: PairingMailbox,
  state: CeremonyState,
  outcome: CeremonyOutcome,
  cause?: unknown,
): Promise<PairingOutcome | SpoiledPairing> {
  if (outcome.type !== 'failed') return outcome
  const { failure } = outcome
  const ending = ENDINGS[failure]
  if (ending !== undefined) await mailbox.end(ending)
  if (isRenewable && isUnproved(state)) return { type: 'spoiled', failure, text: FAILURES[failure] }
  await keeper.forget()
  throw new SetupError('pairing_failed', describeFailure(failure, state.seat), { cause })
}

/** The device displays, and no other has proved yet that it knows the code: it has not taken a right confirmation. */
const isUnproved = ({ seat, taken }: CeremonyState): boolean => seat === 'responder' && taken < 2

async function obtain(
  parts: RunPairingParts,
  { endsAtMs }: RecordAt<'running'>,
  mailbox: PairingMailbox,
  need: Exclude<CeremonyNeed, { readonly type: 'nothing' }>,
  signal: AbortSignal,
): Promise<CeremonyInput> {
  switch (need.type) {
    case 'message': {
      const taken = await mailbox.take(need.slot)
      return taken.type === 'message' ? taken : { type: 'end', failure: taken.failure }
    }
    case 'invitation':
      return { type: 'invitation', invitation: existingOf(parts).invite() }
    case 'introduction':
      return { type: 'introduction', introduction: await newOf(parts).introduce(need.invitation) }
    case 'decision': {
      const device = describeNewDevice(parts.crypto, need.introduction)
      const digits = await existingOf(parts).decide(device, signal)
      signal.throwIfAborted()
      // The timers of a machine that slept are late.
      return parts.clock.now() < endsAtMs ? { type: 'decision', digits } : { type: 'end', failure: 'expired' }
    }
    case 'entry': {
      const { record, proof } = need.introduction
      const { seq, head } = await existingOf(parts).add({ record, proof }, signal)
      return { type: 'entry', seq, entryHash: head }
    }
  }
}

function existingOf({ side }: RunPairingParts): ExistingSide {
  if (side.part !== 'existing') throw new Error('a new device lets nobody in')
  return side.existing
}

function newOf({ side }: RunPairingParts): NewSide {
  if (side.part !== 'new') throw new Error('a device of an account introduces itself to nobody')
  return side.new
}

/** What a person is shown of a device that asks to come in. */
export function describeNewDevice(crypto: Crypto, { record, name, platform }: PairingIntroduction): NewDevice {
  return { name, platform, deviceFingerprint: formatDeviceFingerprint(deviceIdOf(crypto, record)) }
}

/** An offer that nobody takes up, and an answer that nobody confirms, end before the pairing would. */
function deadlineOf({ endsAtMs }: RecordAt<'running'>, state: CeremonyState): number {
  switch (state.type) {
    case 'offered':
      return Math.min(endsAtMs, state.offeredAtMs + OFFER_LIFETIME_MS.code)
    case 'answered':
      return Math.min(endsAtMs, state.answeredAtMs + CONFIRMATION_LIFETIME_MS)
    default:
      return endsAtMs
  }
}

function lateOutcome({ type }: CeremonyState): CeremonyOutcome {
  switch (type) {
    case 'offered':
      return { type: 'failed', failure: 'offer_expired' }
    case 'answered':
      return { type: 'failed', failure: 'not_confirmed' }
    case 'adding':
      return { type: 'failed', failure: 'unfinished' }
    default:
      return { type: 'failed', failure: 'expired' }
  }
}

const checkOf = (state: CeremonyState): string | undefined =>
  state.part === 'new' && 'channel' in state && state.type !== 'answered' ? state.channel.check : undefined

/** A signal that aborts at a time which may be set anew. */
function createDeadline(clock: Clock) {
  const controller = new AbortController()
  let cancel: () => void = () => {}
  let setFor: number | undefined
  return {
    signal: controller.signal,
    set: (atMs: number): void => {
      if (atMs === setFor) return
      setFor = atMs
      cancel()
      cancel = clock.after(Math.max(0, atMs - clock.now()), () => controller.abort())
    },
    cancel: () => cancel(),
  }
}
