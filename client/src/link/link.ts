// Linking by hand: a new device shows a request, an existing one approves it, the server carries sealed messages between
// them. No private key leaves its device, and nothing is signed before a person has seen who asks.

import {
  type Crypto,
  concatBytes,
  type DeviceId,
  type DeviceRecord,
  deviceIdOf,
  encodeDeviceRecord,
  signDevicePop,
  type UserId,
  verifyWithContext,
} from '@valise/protocol'
import { AccountError } from '../account/account-error.ts'
import { formatDeviceFingerprint } from '../account/fingerprint.ts'
import type { ServerPin } from '../account/identity.ts'
import { agreesOnKeys } from '../account/key-chain.ts'
import { SetupError } from '../account/setup-error.ts'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import type { Mailbox } from './mailbox.ts'
import {
  encodeDeclined,
  encodeDone,
  encodeIntroduction,
  encodeInvitation,
  parseDone,
  parseIntroduction,
  parseInvitation,
} from './messages.ts'

/** What the new device knows of its account before it has read the log. */
export interface Invited {
  readonly userId: UserId
  /** The log must hold both positions. */
  readonly positions: readonly { readonly seq: number; readonly head: Uint8Array }[]
  /** With the next key that the other device has pinned. */
  readonly server: ServerPin
}

export interface JoinParts {
  readonly mailbox: Mailbox
  readonly keys: DeviceKeys
  readonly name: string
  readonly platform: string
  readonly server: ServerPin
  /** The server has what an approval begins with: the request can be shown. */
  onIntroduced(): void
  /** Runs once the account is known and before anybody can add this device: keys must survive from here on. */
  onInvited(userId: UserId, server: ServerPin): Promise<void>
}

const failed = (text: string): SetupError => new SetupError('link_failed', text)
const unreadable = (): SetupError => failed('The other device sent something that this program cannot read.')
const declined = (): SetupError => new SetupError('link_declined', 'The other device declined the request.')

/** The new device's side. Rejects with a `SetupError`. */
export async function askToJoin({
  mailbox,
  keys,
  name,
  platform,
  server,
  onIntroduced,
  onInvited,
}: JoinParts): Promise<Invited> {
  const { record, signer } = keys
  await mailbox.post(0, encodeIntroduction({ record, name, platform }))
  onIntroduced()
  const invitation = parseInvitation(await mailbox.take(1))
  if (invitation === undefined) throw unreadable()
  if (invitation.type === 'declined') throw declined()
  const { userId, logSeq, logHead } = invitation
  const invitedPin = { fingerprint: invitation.serverFingerprint, nextFingerprint: invitation.nextFingerprint }
  if (!agreesOnKeys(server, invitedPin)) {
    throw new SetupError(
      'wrong_server_key',
      'The two devices see different server keys: someone may be between them and the server. Nothing was joined.',
    )
  }
  const pinned = { ...server, ...invitedPin }
  await onInvited(userId, pinned)
  await mailbox.post(2, await signDevicePop(signer, userId, record))
  const done = parseDone(await mailbox.take(3))
  if (done === undefined) throw unreadable()
  if (done.type === 'declined') throw declined()
  const added = { seq: done.seq, head: done.entryHash }
  return { userId, positions: [{ seq: logSeq, head: logHead }, added], server: pinned }
}

/** Who asks to be added, for a person to decide. */
export interface NewDevice {
  readonly name: string
  readonly platform: string
  /** Both devices show it; a person compares. */
  readonly deviceFingerprint: string
}

export interface ApproveParts {
  readonly crypto: Crypto
  readonly mailbox: Mailbox
  readonly userId: UserId
  /** The server's key as the request names it, which this device trusts or has trusted, and the one after it. */
  readonly server: { readonly fingerprint: Uint8Array; readonly nextFingerprint: Uint8Array }
  /** The newest position of the verified log. */
  position(): { readonly seq: number; readonly head: Uint8Array }
  confirm(device: NewDevice): Promise<boolean>
  /** Nothing has come from the new device for some seconds. */
  onSilence(): void
  /** Signs the device in; the entry's position. */
  add(device: { readonly record: DeviceRecord; readonly proof: Uint8Array }): Promise<{ seq: number; head: Uint8Array }>
}

export interface ApprovedDevice extends NewDevice {
  readonly deviceId: DeviceId
  readonly seq: number
}

/** The existing device's side; `undefined` when the person declined. Rejects with a `SetupError` or as `add` does. */
export async function approveRequest(parts: ApproveParts): Promise<ApprovedDevice | undefined> {
  const { crypto, mailbox, userId, server } = parts
  const introduction = parseIntroduction(await mailbox.take(0, parts.onSilence))
  if (introduction === undefined) throw unreadable()
  // Whoever joins by a request becomes a member; managers are made by another decision.
  const record: DeviceRecord = { ...introduction.record, role: 'member' }
  if (introduction.record.role !== 'member') throw failed('The new device asks for more than a member may.')
  const deviceId = deviceIdOf(crypto, record)
  const { name, platform } = introduction
  const device = { name, platform, deviceFingerprint: formatDeviceFingerprint(deviceId) }
  if (!(await parts.confirm(device))) {
    await mailbox.post(1, encodeDeclined())
    return undefined
  }
  const position = parts.position()
  const { fingerprint: serverFingerprint, nextFingerprint } = server
  const invitation = { userId, serverFingerprint, nextFingerprint, logSeq: position.seq, logHead: position.head }
  await mailbox.post(1, encodeInvitation(invitation))
  const proof = await mailbox.take(2, parts.onSilence)
  const message = concatBytes(userId, encodeDeviceRecord(record))
  if (!verifyWithContext(crypto, record.edPub, 'device-pop', message, proof)) {
    throw failed('The new device did not prove that its keys are its own.')
  }
  const { seq, head } = await parts.add({ record, proof }).catch(async (error: unknown) => {
    if (error instanceof AccountError) await mailbox.post(3, encodeDeclined())
    throw error
  })
  await mailbox.post(3, encodeDone({ seq, entryHash: head }))
  return { ...device, deviceId, seq }
}
