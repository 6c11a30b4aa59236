// Two devices that pair, each a ceremony of its own, over a mailbox in memory that a test may hold in its hands: it sees
// every message before the other device does, and gives on what it likes.

import { applyEntry, buildAdd, type DeviceLogState, deviceIdOf, findDevice, signDevicePop } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { joinPairing, needOf, offerPairing, slotOf, stepCeremony } from '../../src/pairing/ceremony.ts'
import type { CeremonyState, PairingFailure } from '../../src/pairing/ceremony-state.ts'
import type { PairingPart } from '../../src/pairing/offer.ts'
import { createDeviceKeys, type DeviceKeys } from '../../src/sealing/device-keys.ts'
import { sealBoxForNewDevice } from '../../src/sealing/epoch-boxes.ts'
import { type Account, authorOf, createAccount } from './sealed-account.ts'

export const SERVER = new Uint8Array(32).fill(5)
export const NOW_MS = 1_700_000_000_000

export interface PairOptions {
  /** Which device displays. */
  readonly displays: PairingPart
  readonly form?: 'qr' | 'code'
  readonly digits?: string
  readonly typedDigits?: string
  readonly mailboxId?: Uint8Array
  readonly secret?: Uint8Array
  readonly joinerMailboxId?: Uint8Array
  readonly joinerServer?: Uint8Array
  readonly joinerPart?: PairingPart
  /** Of the joining device, after the code was shown. */
  readonly joinedAfterMs?: number
  /** What the existing device's person types; default: what the new device shows. */
  readonly typedCheck?: string
  readonly declines?: boolean
  readonly keys?: DeviceKeys
  /** Signs the proof; default: the keys themselves. */
  readonly proofBy?: DeviceKeys
}

export type Outcome = { readonly type: string; readonly failure?: PairingFailure }

export interface Pair {
  readonly initiator: CeremonyState
  readonly responder: CeremonyState
  readonly account: DeviceLogState
  readonly keys: DeviceKeys
  /** The messages in the mailbox by slot, as their writers wrote them. */
  readonly written: ReadonlyMap<number, Uint8Array>
  outcomeOf(seat: 'initiator' | 'responder'): Outcome
  existing(): CeremonyState
  fresh(): CeremonyState
  hasNewDevice(): boolean
}

/** What the holder of the mailbox gives for a slot; undefined: nothing, for good. */
export type Carry = (slot: number, written: ReadonlyMap<number, Uint8Array>) => Uint8Array | undefined

export const honest: Carry = (slot, written) => written.get(slot)

export const outcomeOf = (state: CeremonyState): Outcome =>
  state.type === 'ended' ? (state.outcome as Outcome) : { type: `waits as ${state.type}` }

/** Runs both as far as they come. */
export async function runPair(options: PairOptions, carry: Carry = honest): Promise<Pair> {
  let account: Account = await createAccount()
  const before = account.state
  const keys = options.keys ?? (await createDeviceKeys(crypto, 'member'))
  const { displays, form = 'code', digits = '305118' } = options
  const mailboxId = options.mailboxId ?? crypto.randomBytes(16)
  const secret = options.secret ?? crypto.randomBytes(32)
  const joinerPart = options.joinerPart ?? (displays === 'existing' ? 'new' : 'existing')
  const joinerParty = {
    part: joinerPart,
    mailboxId: options.joinerMailboxId ?? mailboxId,
    serverFingerprint: options.joinerServer ?? SERVER,
  }
  const joinerSecret = form === 'qr' ? secret : Buffer.from(options.typedDigits ?? digits)
  const states: { initiator: CeremonyState; responder: CeremonyState } = {
    initiator: joinPairing({ crypto }, joinerParty, { form, secret: new Uint8Array(joinerSecret) }),
    responder: offerPairing(
      { nowMs: NOW_MS },
      { part: displays, mailboxId, serverFingerprint: SERVER },
      { secret, digits },
    ),
  }
  const nowMs = NOW_MS + (options.joinedAfterMs ?? 1000)
  const written = new Map<number, Uint8Array>()

  const write = (seat: 'initiator' | 'responder'): void => {
    for (const [index, body] of states[seat].sent.entries()) written.set(slotOf(seat, index), body)
  }
  write('initiator')

  const advance = async (seat: 'initiator' | 'responder'): Promise<boolean> => {
    const state = states[seat]
    const step = (input: Parameters<typeof stepCeremony>[2]): true => {
      // As after the end of its process: what was not written down is not there.
      states[seat] = stepCeremony({ crypto, nowMs }, structuredClone(state), input)
      write(seat)
      return true
    }
    const need = needOf(state)
    switch (need.type) {
      case 'message': {
        const body = carry(need.slot, written)
        return body === undefined ? false : step({ type: 'message', body })
      }
      case 'invitation': {
        const { userId, seq, head } = account.state
        const seen = { logSeq: seq, logHead: head, chains: [] }
        const inviter = account.manager.deviceId
        return step({
          type: 'invitation',
          invitation: { userId, serverFingerprint: state.serverFingerprint, nextFingerprint: SERVER, inviter, seen },
        })
      }
      case 'introduction': {
        const proof = await signDevicePop((options.proofBy ?? keys).signer, need.invitation.userId, keys.record)
        return step({
          type: 'introduction',
          introduction: { record: keys.record, name: 'phone', platform: 'linux', proof },
        })
      }
      case 'decision': {
        const other = states[seat === 'initiator' ? 'responder' : 'initiator']
        const shown = 'channel' in other ? other.channel.check : '0000'
        return step({ type: 'decision', digits: options.declines ? undefined : (options.typedCheck ?? shown) })
      }
      case 'entry': {
        const { record, proof } = need.introduction
        const { boxHash } = await sealBoxForNewDevice(crypto, account.state, record, account.epoch.secret)
        const entry = await buildAdd(account.state, authorOf(account.manager), { record, boxHash, proof })
        const applied = applyEntry(crypto, account.state, entry)
        if (!applied.ok) throw new Error(`refused: ${applied.rule}`)
        account = { ...account, state: applied.state }
        return step({ type: 'entry', seq: applied.state.seq, entryHash: applied.state.head })
      }
      case 'nothing':
        return false
    }
  }

  for (let rounds = 0; rounds < 40; rounds++) {
    const moved = [await advance('initiator'), await advance('responder')]
    if (!moved.includes(true)) break
  }
  const partOf = (part: PairingPart): CeremonyState =>
    states.responder.part === part ? states.responder : states.initiator
  return {
    ...states,
    account: account.state,
    keys,
    written,
    outcomeOf: (seat) => outcomeOf(states[seat]),
    existing: () => partOf('existing'),
    fresh: () => partOf('new'),
    hasNewDevice: () =>
      account.state.seq > before.seq && findDevice(account.state, deviceIdOf(crypto, keys.record)) !== undefined,
  }
}
