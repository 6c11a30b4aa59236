// Pairing on a device in a folder: as a device of an account that lets another in, and as one that is let in.

import { type Crypto, type DeviceId, deviceIdOf, signDevicePop } from '@valise/protocol'
import { formatDeviceFingerprint } from '../account/fingerprint.ts'
import { contactServer } from '../account/first-contact.ts'
import { forgetAccount } from '../account/forget-account.ts'
import { type Identity, type ServerPin, saveIdentity } from '../account/identity.ts'
import {
  enterAccount,
  FIRST_SESSION_TIMEOUT_MS,
  type JoinAccountParts,
  resumeJoining,
} from '../account/join-account.ts'
import { findPairing, MAX_RENEWALS, type PairingScreen, pairDevice } from '../account/pair-account.ts'
import { SetupError } from '../account/setup-error.ts'
import { ClientStoppedError } from '../alarm.ts'
import { saveInvitedView } from '../checkpoint.ts'
import type { Client } from '../client.ts'
import type { Clock } from '../clock.ts'
import { RequestRefusedError } from '../connection/requests.ts'
import type { NewDevice } from '../link/link.ts'
import { pairingLimited } from '../pairing/mailbox.ts'
import { parsePairingIntroduction, parsePairingInvitation } from '../pairing/messages.ts'
import { CODE_EXAMPLE, parseOffer } from '../pairing/offer.ts'
import type { PairingKeeper, PairingRecord } from '../pairing/record.ts'
import type { ExistingSide, NewSide } from '../pairing/run-pairing.ts'
import { createDeviceKeys, restoreDeviceKeys } from '../sealing/device-keys.ts'
import { MAX_INVITED_DEVICES } from '../seen-view.ts'
import { storeKeys } from '../store/layout.ts'
import { describePlatform } from './home.ts'
import { nodeHttp } from './node-http.ts'
import { pinForOffer, pinForPairing } from './pin-for-offer.ts'
import { reachServer, withTimeout } from './reach-server.ts'

export interface PairingOptions {
  /** The code or the address of a QR that the other device shows; without it this one shows them. */
  readonly offer?: string | undefined
  /** Ends a pairing that is under way on this device, rather than going on with it. */
  readonly isFresh?: boolean
  readonly screen: PairingScreen
  readonly signal?: AbortSignal | undefined
}

export interface PairExistingOptions extends PairingOptions {
  /** The four digits that the new device shows, as a person typed them; undefined when he declines. */
  decide(device: NewDevice, signal: AbortSignal): Promise<string | undefined>
}

export interface PairNewOptions extends PairingOptions {
  /** Not needed with the address of a QR, or to go on with a pairing. */
  readonly serverUrl?: string | undefined
  readonly fingerprint?: string | undefined
  readonly name: string
}

export interface PairedDevice {
  readonly deviceId: DeviceId
  readonly name: string
  readonly platform: string
  readonly deviceFingerprint: string
  readonly logSeq: number
}

export interface PairingActions {
  /** Lets another device in; `undefined` when `decide` declined. Rejects with a `SetupError`. */
  pairExisting(options: PairExistingOptions): Promise<PairedDevice | undefined>
  /** Becomes a device of the account; `undefined` when it was declined there. Rejects with a `SetupError`. */
  pairNew(options: PairNewOptions): Promise<Identity | undefined>
}

export interface PairingActionsParts extends JoinAccountParts {
  readonly clock: Clock
  readonly keeper: PairingKeeper
  /** Throws a `SetupError` before there is an account. */
  require(): { readonly identity: Identity; readonly client: Client; readonly isManager: boolean }
}

export function createPairingActions(parts: PairingActionsParts): PairingActions {
  return {
    pairExisting: (options) => letIn(parts, options),
    pairNew: (options) => comeIn(parts, options),
  }
}

const pairParts = ({ crypto, clock, http, keeper }: PairingActionsParts) => ({ crypto, clock, http, keeper })

async function letIn(parts: PairingActionsParts, options: PairExistingOptions): Promise<PairedDevice | undefined> {
  const { identity, client, isManager } = parts.require()
  if (!isManager) {
    throw new SetupError('not_a_manager', 'Only a manager can add devices; run pair on your first device.')
  }
  // What is told of the account, and signed, must be up to date; and a mailbox is opened in a session.
  await reachServer(client, options.signal, client.whenReady)
  const server = { url: identity.server.url, ...(await pinForOffer(client, options.offer)) }
  const existingOf = (record: PairingRecord): ExistingSide => ({
    invite: () => {
      const { fingerprint: serverFingerprint, nextFingerprint } = pinForPairing(client, record.server)
      const seen = client.device.checkpoints.view(MAX_INVITED_DEVICES)
      return { userId: identity.userId, serverFingerprint, nextFingerprint, inviter: identity.deviceId, seen }
    },
    decide: options.decide,
    add: async (device, signal) => {
      const seq = await client.addDevice(device, signal)
      const head = client.device.book.headAt(seq)
      if (head === undefined) throw new Error('the entry that was appended is not in the log')
      return { seq, head }
    },
  })
  const stopped = new AbortController()
  const stopListening = client.onState((state) => {
    if (state.type === 'stopped') stopped.abort(new ClientStoppedError(state.cause))
  })
  const signals = options.signal === undefined ? [] : [options.signal]
  const signal = AbortSignal.any([...signals, stopped.signal])
  const pairing = pairDevice(pairParts(parts), {
    part: 'existing',
    server,
    offer: options.offer,
    isFresh: options.isFresh === true,
    screen: options.screen,
    signal,
    maxRenewals: MAX_RENEWALS,
    createNewDevice: async () => undefined,
    openInSession: (seat) => client.openPairing(seat, signal).catch(toLimited),
    side: (record) => ({ part: 'existing', existing: existingOf(record) }),
    finish: async () => {},
  })
  const outcome = await pairing
    .catch((error: unknown) => {
      // Revoked, or its account deleted: this device lets nobody in any more, and its person is told why.
      throw stopped.signal.aborted ? stopped.signal.reason : error
    })
    .finally(stopListening)
  const introduction = outcome.type === 'added' ? parsePairingIntroduction(outcome.introduction) : undefined
  if (outcome.type !== 'added' || introduction === undefined) return undefined
  const deviceId = deviceIdOf(parts.crypto, introduction.record)
  const { name, platform } = introduction
  return { deviceId, name, platform, deviceFingerprint: formatDeviceFingerprint(deviceId), logSeq: outcome.seq }
}

function toLimited(error: unknown): never {
  if (!(error instanceof RequestRefusedError) || error.answer.code !== 'rate_limited') throw error
  throw pairingLimited(error.answer.retry_after_ms ?? 0)
}

async function comeIn(parts: PairingActionsParts, options: PairNewOptions): Promise<Identity | undefined> {
  const { crypto, store, sealer } = parts
  const { signal, screen } = options
  const underWay = await findPairing(parts)
  const server = await serverOf(crypto, options, underWay)
  // It may have been let in after it was last heard of.
  if (underWay === undefined) {
    const joined = await resumeJoining(parts, server)
    if (joined !== undefined) return joined
    await forgetAccount(store)
  }
  const identityOf = async (record: PairingRecord): Promise<Omit<Identity, 'userId'>> => {
    if (record.newDevice === undefined)
      throw new SetupError('pairing_failed', 'This pairing has no keys; begin a new one.')
    const { name, platform, ...secrets } = record.newDevice
    const keys = await restoreDeviceKeys(crypto, secrets, 'member')
    return { keys, deviceId: keys.deviceId, name, platform, server: record.server }
  }
  const newSide = (record: PairingRecord): NewSide => ({
    introduce: async ({ userId }) => {
      const identity = await identityOf(record)
      const { keys, name, platform } = identity
      // Once the proof is out, the device can be let in, whatever becomes of this pairing: its keys stay.
      await store.batch([saveIdentity(sealer, { ...identity, userId }, storeKeys.joining)])
      return { record: keys.record, name, platform, proof: await signDevicePop(keys.signer, userId, keys.record) }
    },
  })
  let entered: Identity | undefined
  await pairDevice(pairParts(parts), {
    part: 'new',
    server,
    offer: options.offer,
    isFresh: options.isFresh === true,
    screen,
    signal,
    maxRenewals: MAX_RENEWALS,
    openInSession: undefined,
    createNewDevice: async () => {
      const { secrets } = await createDeviceKeys(crypto, 'member')
      return { ...secrets, name: options.name, platform: describePlatform() }
    },
    side: (record) => ({ part: 'new', new: newSide(record) }),
    finish: async (outcome, record) => {
      const invitation = outcome.type === 'admitted' ? parsePairingInvitation(outcome.invitation) : undefined
      if (outcome.type !== 'admitted' || invitation === undefined) return
      const { seen, inviter, nextFingerprint } = invitation
      const invited = await identityOf(record)
      const identity = {
        ...invited,
        userId: invitation.userId,
        server: { ...invited.server, nextFingerprint },
      }
      await store.batch([saveInvitedView(inviter, seen)])
      const positions = [
        { seq: seen.logSeq, head: seen.logHead },
        { seq: outcome.seq, head: outcome.entryHash },
      ]
      await enterAccount(parts, identity, positions, withTimeout(FIRST_SESSION_TIMEOUT_MS, signal))
      entered = identity
    },
  })
  return entered
}

/** The server of the QR, of the pairing under way, or the one that is named. */
async function serverOf(
  crypto: Crypto,
  { offer: text, serverUrl, fingerprint, signal }: PairNewOptions,
  underWay: PairingRecord | undefined,
): Promise<ServerPin> {
  const offer = text === undefined ? undefined : parseOffer(text)
  if (text !== undefined && offer === undefined) {
    throw new SetupError(
      'bad_offer',
      `That is no pairing code; it looks like ${CODE_EXAMPLE}, or is the address in a QR.`,
    )
  }
  const url = serverUrl ?? (offer?.form === 'qr' ? offer.serverUrl : undefined)
  if (url !== undefined)
    return (await contactServer({ http: nodeHttp, crypto }, { serverUrl: url, fingerprint, signal })).server
  if (underWay?.part === 'new') return underWay.server
  throw new SetupError('bad_server_url', 'Without the address of a QR, a new device has to be told the server.')
}
