// Pairs this device with another over a mailbox at the server (PROTOCOL F): as the one that belongs to the account, or as
// the one that is to. What is under way is kept, and the next call goes on with it.

import { type Crypto, equalBytes } from '@valise/protocol'
import type { Clock } from '../clock.ts'
import type { Http } from '../http.ts'
import { type BeginParts, beginPairing, hashOffer, planPairing } from '../pairing/begin-pairing.ts'
import type { PairingFailure } from '../pairing/ceremony-state.ts'
import { createPairingMailbox, joinPairingMailbox, openPairingMailbox } from '../pairing/mailbox.ts'
import type { PairingPart } from '../pairing/offer.ts'
import { type PairingKeeper, type PairingRecord, parsePairingRecord, type RecordAt } from '../pairing/record.ts'
import {
  interrupted,
  type PairingOutcome,
  type PairingStep,
  type RunPairingParts,
  runPairing,
} from '../pairing/run-pairing.ts'
import { checkServerUrl } from './first-contact.ts'
import type { ServerPin } from './identity.ts'
import { continuesKey } from './key-chain.ts'
import { SetupError } from './setup-error.ts'

export interface PairParts {
  readonly crypto: Crypto
  readonly clock: Clock
  readonly http: Http
  readonly keeper: PairingKeeper
}

export interface ShownOffer {
  /** For a QR. */
  readonly url: string
  /** To be typed. */
  readonly code: string
  readonly isResumed: boolean
}

/** What a person follows. */
export interface PairingScreen {
  onShown(offer: ShownOffer): void
  onStep(step: PairingStep): void
  /** A pairing that was interrupted goes on. */
  onResumed(): void
  /** The code that was shown is spoiled, and another follows. */
  onRenewed(renewal: PairingRenewal): void
}

export interface PairingRenewal {
  readonly reason: PairingFailure
  /** What happened, for people. */
  readonly text: string
  /** How many codes may still follow the next one. */
  readonly left: number
}

/** Codes that one call shows after its first: each gives a stranger one more guess, and uses an opening of the user's. */
export const MAX_RENEWALS = 3

export interface Pairing {
  readonly part: PairingPart
  readonly server: ServerPin
  /** What was scanned or typed; without it this device displays. */
  readonly offer: string | undefined
  /** Ends what is under way, and begins anew. */
  readonly isFresh: boolean
  /** How often a displaying device replaces a code that was spoiled. */
  readonly maxRenewals: number
  readonly screen: PairingScreen
  readonly signal: AbortSignal | undefined
  /** Makes the keys of a new device, when a pairing begins. */
  createNewDevice(): Promise<PairingRecord['newDevice']>
  /** As a device of the account. Without a session the address counts. */
  readonly openInSession: BeginParts['open'] | undefined
  side(record: PairingRecord): RunPairingParts['side']
  /** The device is in, or let another in; only then is what is stored forgotten. */
  finish(outcome: PairingOutcome, record: PairingRecord): Promise<void>
}

/** Refused by the server: there is nothing to go on with. */
const BEGINS_NOTHING: ReadonlySet<string> = new Set(['pairing_refused', 'pairing_limited'])

/** The pairing under way on this device, if there is one that has time left. */
export async function findPairing({ keeper, clock }: Pick<PairParts, 'keeper' | 'clock'>) {
  const stored = await keeper.load()
  const record = stored === undefined ? undefined : parsePairingRecord(stored)
  if (record !== undefined && record.endsAtMs > clock.now()) return record
  if (stored !== undefined) await keeper.forget()
  return undefined
}

/** Rejects with a `SetupError`. */
export async function pairDevice(parts: PairParts, pairing: Pairing): Promise<PairingOutcome> {
  const { crypto, clock, http, keeper } = parts
  const { server, part, offer, screen, signal } = pairing
  const httpParts = { http, clock, httpUrl: checkServerUrl(server.url), signal: signal ?? new AbortController().signal }
  const before = await findPairing(parts)
  const isResumed = before !== undefined && !pairing.isFresh && isSamePairing(crypto, before, pairing)
  if (before !== undefined && !isResumed) await giveUp(before)
  if (isResumed) screen.onResumed()
  const pinned = { url: server.url, fingerprint: server.fingerprint, nextFingerprint: server.nextFingerprint }
  const plan = (newDevice: PairingRecord['newDevice'], renewals: number) =>
    planPairing(parts, { part, server: pinned, offer, newDevice, renewals })

  let running = await begin(isResumed ? before : plan(await pairing.createNewDevice(), 0))
  for (let isShownBefore = isResumed; ; isShownBefore = false) {
    if (running.shown !== undefined) screen.onShown({ ...running.shown, isResumed: isShownBefore })
    const mailboxOf = mailboxesOf(running)
    const isRenewable = running.renewals < pairing.maxRenewals
    const outcome = await runPairing(
      { crypto, clock, keeper, mailboxOf, side: pairing.side(running), onStep: screen.onStep, isRenewable, signal },
      running,
    )
    if (outcome.type !== 'spoiled') {
      await pairing.finish(outcome, running)
      // Who let the other in leaves it to the other, who has still to read that.
      if (part === 'new') await mailboxOf(httpParts.signal).end('ended')
      await keeper.forget()
      return outcome
    }
    const renewals = running.renewals + 1
    screen.onRenewed({ reason: outcome.failure, text: outcome.text, left: pairing.maxRenewals - renewals })
    running = await begin(plan(running.newDevice, renewals))
  }

  async function begin(record: PairingRecord): Promise<RecordAt<'running'>> {
    if (record.stage === 'running') return record
    const open: BeginParts['open'] =
      pairing.openInSession ?? (({ mailboxId, seatKey }) => openPairingMailbox({ ...httpParts, seatKey }, mailboxId))
    const join: BeginParts['join'] = (target, seatKey) => joinPairingMailbox({ ...httpParts, seatKey }, target)
    return beginPairing({ crypto, clock, keeper, open, join }, record).catch(async (error: unknown) => {
      if (signal?.aborted === true) throw interrupted(error)
      if (error instanceof SetupError && BEGINS_NOTHING.has(error.code)) await keeper.forget()
      throw error
    })
  }

  function mailboxesOf({ seatKey, state }: RecordAt<'running'>) {
    return (ending: AbortSignal) => createPairingMailbox({ ...httpParts, seatKey, signal: ending }, state.mailboxId)
  }

  async function giveUp(record: PairingRecord): Promise<void> {
    const mailboxId = record.stage === 'running' ? record.state.mailboxId : undefined
    if (mailboxId !== undefined) {
      const hasUnproved = record.stage === 'running' && record.state.type === 'answered'
      const mailbox = createPairingMailbox({ ...httpParts, seatKey: record.seatKey }, mailboxId)
      await mailbox.end(hasUnproved ? 'failed' : 'ended')
    }
    await keeper.forget()
  }
}

/** Without a code, whatever is under way goes on; with one, what it began. */
function isSamePairing(crypto: Crypto, record: PairingRecord, { part, server, offer }: Pairing): boolean {
  // The server may have changed its key since. The pairing that goes on keeps the key it began with.
  if (record.part !== part || !continuesKey(server, record.server)) return false
  return (
    offer === undefined || (record.offerHash !== undefined && equalBytes(record.offerHash, hashOffer(crypto, offer)))
  )
}
