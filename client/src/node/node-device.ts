// A device whose home is a folder: sets it up, links others, and answers what it knows. One process at a time.
// More than 300 lines: it is the list of what such a device can be asked.

import { type DeviceId, equalBytes, findDevice, type UserId } from '@valise/protocol'
import { createAccount } from '../account/create-account.ts'
import { checkDeviceName } from '../account/device-name.ts'
import {
  countHeldEvents,
  type DeviceSummary,
  listDevices,
  listStreams,
  type StreamSummary,
} from '../account/directory.ts'
import { formatDeviceFingerprint } from '../account/fingerprint.ts'
import {
  askServer,
  type ConfirmServer,
  checkServerUrl,
  contactAlone,
  contactServer,
  parseFingerprint,
} from '../account/first-contact.ts'
import { forgetAccount, loadRevoked, type RevokedDevice } from '../account/forget-account.ts'
import { type Identity, loadIdentity } from '../account/identity.ts'
import { invitationRequired, parseInvitation } from '../account/invitation.ts'
import { joinAccount } from '../account/join-account.ts'
import { findPairing } from '../account/pair-account.ts'
import type { Pending } from '../account/pending.ts'
import { type RecoverableAccount, recoverAccount } from '../account/recover-account.ts'
import { type RecoverySheet, toRecoveryKeys } from '../account/recovery-sheet.ts'
import { SetupError } from '../account/setup-error.ts'
import type { Client } from '../client.ts'
import { type ClientLog, noLog } from '../client-log.ts'
import { approveRequest, type NewDevice } from '../link/link.ts'
import { createMailbox } from '../link/mailbox.ts'
import { parseLinkRequest } from '../link/request.ts'
import { DEFAULT_CHECKPOINT_EVERY } from '../open-client.ts'
import { acceptLog } from '../restore/accept-log.ts'
import { type LostLog, readLostLog } from '../restore/lost-log.ts'
import type { Rebased } from '../restore/rebase.ts'
import { readBefore, readPosition, savePosition } from '../store/positions.ts'
import { type VerifyReport, verifyDevice } from '../verify.ts'
import { type AccountActions, createAccountActions } from './account-actions.ts'
import { createDataActions, type DataActions } from './data-actions.ts'
import { describePlatform, openHome, toHomeError } from './home.ts'
import { nodeHttp } from './node-http.ts'
import { createPairingActions, type PairingActions, type PairNewOptions } from './pairing-actions.ts'
import { pinForRequest } from './pin-for-offer.ts'
import { reachServer, withTimeout } from './reach-server.ts'

export interface NodeDeviceOptions {
  readonly log?: ClientLog
  /** Events between checkpoints; 0 publishes none. */
  readonly checkpointEvery?: number
}

export interface ServerOptions {
  /** `ws://` or `wss://`. */
  readonly serverUrl: string
  /** base64url of 32 bytes; without it the server is trusted on first use. */
  readonly fingerprint?: string | undefined
  readonly name: string
  readonly signal?: AbortSignal | undefined
}

/** Of a device that has no other one to vouch for the server. */
export interface FirstServerOptions extends ServerOptions {
  /**
   * Asked at first contact over `ws://` with another machine, when no fingerprint is given; true when it was compared.
   * Without it such a contact is refused.
   */
  readonly confirmServer?: ConfirmServer | undefined
}

export interface InitialiseOptions extends FirstServerOptions {
  /** As the operator of a server that wants one gave it. */
  readonly invitation?: string | undefined
  /** Shows the phrase, once; true when it was written down. Without it the phrase is only returned. */
  confirmPhrase?(sheet: RecoverySheet): Promise<boolean>
}

export interface LinkOptions extends ServerOptions {
  /** The text is to be carried to a device that belongs to the account. */
  onRequest(request: { readonly text: string; readonly deviceFingerprint: string }): void
}

export interface ApproveOptions {
  readonly request: string
  /** Asked before anything is signed. */
  confirm(device: NewDevice): Promise<boolean>
  /** Nothing has come from the new device for some seconds. */
  onSilence?(): void
  readonly signal?: AbortSignal | undefined
}

export interface Account {
  readonly userId: UserId
  readonly deviceId: DeviceId
  readonly name: string
  readonly serverUrl: string
  readonly serverFingerprint: Uint8Array
  /** Unknown before the first session when a person gave the fingerprint alone. */
  readonly serverNextFingerprint: Uint8Array | undefined
  readonly role: 'manager' | 'member'
  readonly deviceFingerprint: string
}

export interface DeviceStatus {
  readonly account: Account | undefined
  readonly cursor: number
  readonly heldEvents: number
  readonly outboxEvents: number
  readonly outboxBytes: number
  /** Kept because the server refused them, and their content as stored. */
  readonly refusedEvents: number
  readonly refusedBytes: number
  /** Held, and void: what revoked devices wrote beyond their cuts. */
  readonly voidEvents: number
  readonly logSeq: number
  readonly logHead: Uint8Array
  readonly epoch: number
  /** Key epochs that do not open here: their makers sealed them falsely, and no later link leads to them yet. */
  readonly closedEpochs: readonly number[]
  /** This device is suspended: it reads, and sends nothing. */
  readonly isSuspended: boolean
  /** What was asked for without the phrase and waits seven days. */
  readonly pending: readonly Pending[]
  readonly lastDeviceSeq: number
  /** The server's log went backwards, and the user has not accepted the one that is there now. */
  readonly lostLog: LostLog | undefined
  /** Events of other devices that the server lost and that have not come again. */
  readonly missingEvents: number
}

export interface RecoverOptions extends FirstServerOptions {
  readonly phrase: string
  /** Asked before anything is signed. */
  confirm(account: RecoverableAccount): Promise<boolean>
}

export interface NodeDevice extends AccountActions, DataActions, Omit<PairingActions, 'pairNew'> {
  readonly homeDir: string
  /** `undefined` before `initialise` or `link`. */
  account(): Account | undefined
  /** Makes a user with this first device. The phrase is shown once and kept nowhere. Rejects with a `SetupError`. */
  initialise(options: InitialiseOptions): Promise<{ readonly account: Account; readonly sheet: RecoverySheet }>
  /** Joins an account that another device approves. Rejects with a `SetupError`. */
  link(options: LinkOptions): Promise<Account>
  /** Joins an account by a code or a QR; `undefined` when it was declined there. Rejects with a `SetupError`. */
  pairNew(options: PairNewOptions): Promise<Account | undefined>
  /** The pairing under way in this home, as this device's part in it. */
  pairingPart(): Promise<'existing' | 'new' | undefined>
  /** Signs in the device that made the request; `undefined` when `confirm` declined. Rejects with a `SetupError`. */
  approve(options: ApproveOptions): Promise<{ readonly device: DeviceSummary; readonly logSeq: number } | undefined>
  /**
   * Becomes a device of the account that the phrase recovers; `undefined` when `confirm` declined. What is left to do then
   * says `recoveryStage`. Rejects with a `SetupError`.
   */
  recover(options: RecoverOptions): Promise<Account | undefined>
  /** What is left of a device that was revoked; `undefined` on any other. */
  revoked(): Promise<RevokedDevice | undefined>
  /** The one client of this home. Throws a `SetupError` before there is an account. */
  client(): Client
  devices(): Promise<DeviceSummary[]>
  streams(): Promise<StreamSummary[]>
  status(): Promise<DeviceStatus>
  /**
   * Accepts the log that the server has after a backup was put back. The client that is opened after it sends again what
   * the server lost. Rejects with a `SetupError` or a `ClientStoppedError`, and has then changed nothing.
   */
  acceptLog(signal?: AbortSignal): Promise<Rebased>
  /**
   * Trusts another key of the server, which its user has compared with the operator: a fingerprint, or two joined by a dot.
   * Rejects with a `SetupError` unless the server shows that key, and has then changed nothing.
   */
  trustServer(fingerprint: string, signal?: AbortSignal): Promise<Account>
  /** Checks everything this device holds, offline. */
  verify(): Promise<VerifyReport>
  /** How far an application has read, by a name of its own; 0 when never set. */
  position(name: string): Promise<number>
  setPosition(name: string, userSeq: number): Promise<void>
  /** How far it had read of a log that the server lost, for `ReadOptions.readBefore`; 0 when it lost none. */
  readBefore(name: string): Promise<number>
  close(): Promise<void>
}

const LINK_TIMEOUT_MS = 600_000

const firstContact = (
  { serverUrl, fingerprint }: Pick<ServerOptions, 'serverUrl' | 'fingerprint'>,
  signal: AbortSignal | undefined,
) => ({ serverUrl, fingerprint, signal })

/** Makes the folder on first use and locks it. Rejects with a `DeviceHomeError`. */
export async function openNodeDevice(homeDir: string, options: NodeDeviceOptions = {}): Promise<NodeDevice> {
  const { log = noLog, checkpointEvery = DEFAULT_CHECKPOINT_EVERY } = options
  const home = await openHome(homeDir, { log, checkpointEvery })
  const { store, sealer, crypto } = home
  const contactParts = { http: nodeHttp, crypto }
  let identity: Identity | undefined
  let client: Client | undefined

  const adopt = async (next: Identity): Promise<Client> => {
    identity = next
    client = await home.openClient(next)
    return client
  }
  try {
    const stored = await loadIdentity(crypto, store, sealer).catch(toHomeError)
    if (stored !== undefined) {
      const { state, device, publishProfile } = await adopt(stored)
      // Ended before its first event, it has not told its name yet.
      const isSilent = device.chain.end.deviceSeq === 0 && device.outbox.count === 0
      if (isSilent && state().type !== 'stopped') await publishProfile()
    }
    // One that is past its time is not kept until somebody pairs again.
    await findPairing(home)
  } catch (error) {
    await home.close()
    throw error
  }

  const account = (): Account | undefined => {
    if (identity === undefined || client === undefined) return undefined
    const { userId, deviceId, name } = identity
    const server = client.serverPin()
    const role = findDevice(client.device.book.state, deviceId)?.record.role
    return {
      userId,
      deviceId,
      name,
      serverUrl: server.url,
      serverFingerprint: server.fingerprint,
      serverNextFingerprint: server.nextFingerprint,
      role: role === 'manager' ? 'manager' : 'member',
      deviceFingerprint: formatDeviceFingerprint(deviceId),
    }
  }
  const requireSetUp = (): { identity: Identity; client: Client; account: Account } => {
    const known = account()
    if (identity === undefined || client === undefined || known === undefined) {
      throw new SetupError('not_set_up', 'This home holds no device yet: use init for a new account or link for yours.')
    }
    return { identity: { ...identity, server: client.serverPin() }, client, account: known }
  }
  const actions = createAccountActions({
    store,
    sealer,
    crypto,
    require: requireSetUp,
    adopt: (renamed) => {
      identity = renamed
    },
    checkName: checkDeviceName,
  })
  const data = createDataActions({
    ...home,
    require: requireSetUp,
    forget: () => {
      identity = undefined
      client = undefined
    },
  })
  const refuseSetUp = (): void => {
    if (identity !== undefined) throw new SetupError('already_set_up', 'This home belongs to an account already.')
  }
  const pairing = createPairingActions({
    ...home,
    http: nodeHttp,
    require: () => {
      const current = requireSetUp()
      return { ...current, isManager: current.account.role === 'manager' }
    },
  })

  return {
    ...actions,
    ...data,
    homeDir,
    account,
    initialise: async ({ name, invitation: invitationText, confirmPhrase, confirmServer, signal, ...contact }) => {
      refuseSetUp()
      const invitation = invitationText === undefined ? undefined : parseInvitation(invitationText)
      const { server, registration } = await contactAlone(contactParts, firstContact(contact, signal), confirmServer)
      if (registration === 'invite' && invitation === undefined) throw invitationRequired()
      await forgetAccount(store)
      const profile = { server, name: checkDeviceName(name), platform: describePlatform(), invitation, signal }
      const created = await createAccount(home, confirmPhrase === undefined ? profile : { ...profile, confirmPhrase })
      const opened = await adopt(created.identity)
      await opened.publishProfile()
      return { account: requireSetUp().account, sheet: created.sheet }
    },
    recover: async ({ name, phrase, confirm, confirmServer, signal, ...contact }) => {
      refuseSetUp()
      // A phrase that is none is told before anybody is asked.
      const recovery = await toRecoveryKeys(crypto, phrase)
      const { server } = await contactAlone(contactParts, firstContact(contact, signal), confirmServer)
      const recovering = {
        server,
        recovery,
        name: checkDeviceName(name),
        platform: describePlatform(),
        confirm,
        signal,
      }
      const recovered = await recoverAccount(home, recovering)
      if (recovered === undefined) return undefined
      const opened = await adopt(recovered)
      await opened.publishProfile()
      return requireSetUp().account
    },
    revoked: () => loadRevoked(store),
    link: async ({ serverUrl, fingerprint, name, onRequest, signal }) => {
      refuseSetUp()
      const { server } = await contactServer(contactParts, { serverUrl, fingerprint, signal })
      const joining = { server, name: checkDeviceName(name), platform: describePlatform(), onRequest, signal }
      await adopt(await joinAccount({ ...home, http: nodeHttp }, joining))
      return requireSetUp().account
    },
    pairExisting: pairing.pairExisting,
    pairNew: async (options) => {
      refuseSetUp()
      const joined = await pairing.pairNew({ ...options, name: checkDeviceName(options.name) })
      if (joined === undefined) return undefined
      await adopt(joined)
      return requireSetUp().account
    },
    pairingPart: async () => (await findPairing(home))?.part,
    approve: async ({ request: text, confirm, onSilence = () => {}, signal }) => {
      const current = requireSetUp()
      if (current.account.role !== 'manager') {
        throw new SetupError('not_a_manager', 'Only a manager can add devices; run approve on your first device.')
      }
      const { userId } = current.identity
      const request = parseLinkRequest(text)
      if (request === undefined) {
        throw new SetupError(
          'bad_request',
          'That is no link request; it begins with "valise-link-1." and has no spaces.',
        )
      }
      const { book } = current.client.device
      await reachServer(current.client, signal, current.client.whenReady)
      const server = await pinForRequest(current.client, request)
      const deadline = withTimeout(LINK_TIMEOUT_MS, signal)
      const httpUrl = checkServerUrl(current.account.serverUrl)
      const approved = await approveRequest({
        crypto,
        mailbox: createMailbox({ crypto, http: nodeHttp, clock: home.clock, httpUrl, request, signal: deadline }),
        userId,
        server,
        position: () => ({ seq: book.require().seq, head: book.require().head }),
        confirm,
        onSilence,
        add: async (device) => {
          const seq = await current.client.addDevice(device, deadline)
          return { seq, head: book.headAt(seq) ?? new Uint8Array(32) }
        },
      })
      if (approved === undefined) return undefined
      const devices = await listDevices(current.client.device)
      const device = devices.find(({ deviceFingerprint }) => deviceFingerprint === approved.deviceFingerprint)
      if (device === undefined) throw new SetupError('link_failed', 'The new device is missing in the device log.')
      const { name, platform } = approved
      return { device: { ...device, name, platform }, logSeq: approved.seq }
    },
    client: () => requireSetUp().client,
    devices: () => {
      const current = requireSetUp()
      return listDevices(current.client.device, current.identity)
    },
    streams: async () => (client === undefined ? [] : listStreams(store, sealer, client.device)),
    status: async () => {
      const device = client?.device
      const state = device?.book.state
      return {
        account: account(),
        cursor: device?.localLog.progress.cursor ?? 0,
        heldEvents: await countHeldEvents(store),
        outboxEvents: device?.outbox.count ?? 0,
        outboxBytes: device?.outbox.bytes ?? 0,
        refusedEvents: device?.refusedContent.count ?? 0,
        refusedBytes: device?.refusedContent.bytes ?? 0,
        voidEvents: (await device?.voidEvents.count()) ?? 0,
        logSeq: state?.seq ?? 0,
        logHead: state?.head ?? new Uint8Array(32),
        epoch: state?.epoch.n ?? 0,
        closedEpochs: state === undefined ? [] : (device?.epochKeys.closed(state) ?? []),
        isSuspended: device !== undefined && findDevice(state, device.identity.deviceId)?.status.type === 'suspended',
        pending: client?.pending() ?? [],
        lastDeviceSeq: device?.chain.end.deviceSeq ?? 0,
        lostLog: await readLostLog(store),
        missingEvents: device?.localLog.lostCount ?? 0,
      }
    },
    acceptLog: async (signal) => {
      const current = requireSetUp()
      await current.client.close()
      const deadline = signal ?? new AbortController().signal
      const { device } = current.client
      try {
        return await acceptLog({ ...home, identity: current.identity, device, signal: deadline })
      } finally {
        await adopt(current.identity)
      }
    },
    trustServer: async (text, signal) => {
      const current = requireSetUp()
      const pin = parseFingerprint(text)
      const shown = await askServer(nodeHttp, current.account.serverUrl, signal)
      if (!equalBytes(shown.fingerprint, pin.fingerprint)) {
        throw new SetupError(
          'wrong_server_key',
          `The server at ${current.account.serverUrl} shows another key than that. Nothing was changed. Ask its operator for the fingerprint again.`,
        )
      }
      await current.client.trustServer(pin)
      await current.client.close()
      await adopt(current.identity)
      return requireSetUp().account
    },
    verify: () => verifyDevice(crypto, requireSetUp().client.device),
    position: (name) => readPosition(store, name),
    setPosition: (name, userSeq) => store.batch([savePosition(name, userSeq)]),
    readBefore: (name) => readBefore(store, name),
    close: async () => {
      await client?.close()
      await home.close()
    },
  }
}
