// Entries of the device log with the boxes they commit to, as an honest client makes them; tests spoil them in one place.

import {
  type AppendDeviceLog,
  applyEntry,
  boxHash,
  buildAdd,
  buildCancel,
  buildClose,
  buildGenesis,
  buildRecovery,
  buildRevoke,
  buildRotate,
  buildSettle,
  buildSuspend,
  type ClientIdentity,
  chainStart,
  type DeviceId,
  type DeviceLogState,
  type DeviceRecord,
  deviceIdOf,
  type EntryAuthor,
  type EpochStart,
  findDevice,
  keyHolders,
  noUserId,
  type Register,
  type SealedLink,
  type ServerMessage,
  type Signer,
  signClose,
  signDevicePop,
  signRecoveryHeir,
  toHex,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { createDeviceKeys, type DeviceKeys } from '../../../client/src/sealing/device-keys.ts'
import { sealBoxForNewDevice, sealFirstEpoch } from '../../../client/src/sealing/epoch-boxes.ts'
import type { TestAccount, TestDevice } from '../support/account.ts'
import { openSession, type RawSession, type SessionTarget } from '../support/raw-device.ts'
import { answersIn } from './server-state.ts'

export const createKeys = (role: 'manager' | 'member' | 'recovery'): Promise<DeviceKeys> =>
  createDeviceKeys(nodeCrypto, role)

interface OpaqueEpoch {
  readonly start: EpochStart
  readonly boxes: readonly { readonly deviceId: DeviceId; readonly box: Uint8Array }[]
  readonly links: readonly SealedLink[]
}

/** The next epoch with boxes and links that nobody opens: the server has no key and cannot tell. */
export function makeEpoch(
  log: DeviceLogState,
  members: readonly DeviceRecord[],
  linkedTo = [log.epoch.n],
): OpaqueEpoch {
  const boxes = members
    .map((record) => ({ deviceId: deviceIdOf(nodeCrypto, record), box: nodeCrypto.randomBytes(100) }))
    .sort((a, b) => (toHex(a.deviceId) < toHex(b.deviceId) ? -1 : 1))
  const links = linkedTo.map((prev_epoch) => ({ prev_epoch, box: nodeCrypto.randomBytes(48) }))
  const start = {
    n: log.epoch.n + 1,
    commit: nodeCrypto.randomBytes(32),
    members: boxes.map(({ deviceId, box }) => ({ deviceId, boxHash: boxHash(nodeCrypto, box) })),
    links: links.map(({ prev_epoch, box }) => ({ n: prev_epoch, boxHash: boxHash(nodeCrypto, box) })),
  }
  return { start, boxes, links }
}

const toSealedBoxes = (epoch: Pick<OpaqueEpoch, 'boxes'>) =>
  epoch.boxes.map(({ deviceId, box }) => ({ device_id: deviceId, box }))

/** Registers an account whose manager, and recovery device if given, hold these keys. */
export async function sealGenesis(manager: DeviceKeys, recovery?: DeviceKeys): Promise<Register> {
  const members = recovery === undefined ? [manager.record] : [manager.record, recovery.record]
  const epoch = await sealFirstEpoch(nodeCrypto, members)
  const entry = await buildGenesis(nodeCrypto, {
    signer: manager.signer,
    timeMs: Date.now(),
    nonce: nodeCrypto.randomBytes(32),
    manager: manager.record,
    recovery,
    epoch: { ...epoch.start, links: [] },
  })
  return { type: 'register', entry, boxes: toSealedBoxes(epoch) }
}

export const registrationIdentity = (keys: DeviceKeys): ClientIdentity => ({
  mode: 'register',
  userId: noUserId(),
  deviceId: keys.deviceId,
  publicKey: keys.record.edPub,
  logSeq: 0,
  logHead: new Uint8Array(32),
  canRekey: true,
  clientInfo: 'test',
})

/** A session in which nothing but `register` is accepted. */
export const openRegistration = (target: SessionTarget, keys: DeviceKeys): Promise<RawSession> =>
  openSession(target, { identity: registrationIdentity(keys), signer: keys.signer })

/** Sends `register` and resolves with what the server says to it. */
export async function register(session: RawSession, message: Register): Promise<ServerMessage> {
  const answers = answersIn(session).length
  session.send(message)
  await session.until('an answer to register', () => answersIn(session).length > answers)
  return answersIn(session)[answers]!
}

export const authorOf = ({ keys }: Pick<TestDevice, 'keys'>): EntryAuthor => ({
  signer: keys.signer,
  deviceId: keys.deviceId,
  timeMs: Date.now(),
})

export type SealedEntry = Omit<AppendDeviceLog, 'type' | 'request_id'>

/** `log` stands for another head than the account's newest. */
export async function sealAdd(
  account: TestAccount,
  author: EntryAuthor,
  keys: DeviceKeys,
  log: DeviceLogState = account.log,
): Promise<SealedEntry> {
  const { box, boxHash } = await sealBoxForNewDevice(nodeCrypto, log, keys.record, account.epochSecret)
  const proof = await signDevicePop(keys.signer, account.userId, keys.record)
  const entry = await buildAdd(log, author, { record: keys.record, boxHash, proof })
  return { entry, boxes: [{ device_id: keys.deviceId, box }], links: [] }
}

const recordsOf = (log: DeviceLogState, except: readonly TestDevice[] = []) =>
  keyHolders(log)
    .filter((device) => !except.some(({ deviceId }) => Buffer.from(deviceId).equals(device.deviceId)))
    .map((device) => device.record)

const withEpoch = (entry: Uint8Array, epoch: OpaqueEpoch): SealedEntry => ({
  entry,
  boxes: toSealedBoxes(epoch),
  links: [...epoch.links],
})
const withoutEpoch = (entry: Uint8Array): SealedEntry => ({ entry, boxes: [], links: [] })

/** Linked to the epoch before, or to these. */
export async function sealRotate(
  account: TestAccount,
  author: EntryAuthor,
  linkedTo?: readonly number[],
): Promise<SealedEntry> {
  const epoch = makeEpoch(account.log, recordsOf(account.log), linkedTo === undefined ? undefined : [...linkedTo])
  return withEpoch(await buildRotate(account.log, author, epoch.start), epoch)
}

/** Puts this recovery device in the place of the one before, if there is one, with whose signer it is final at once. */
export async function sealRecovery(
  account: TestAccount,
  author: EntryAuthor,
  recovery: DeviceKeys,
  oldPhrase?: Signer,
): Promise<SealedEntry> {
  const { log, userId } = account
  const { record } = recovery
  const epoch = makeEpoch(log, [...recordsOf(log).filter(({ role }) => role !== 'recovery'), record])
  const proof = await signDevicePop(recovery.signer, userId, record)
  const heir = oldPhrase === undefined ? {} : { heirProof: await signRecoveryHeir(oldPhrase, userId, record) }
  return withEpoch(await buildRecovery(log, author, { record, epoch: epoch.start, proof, ...heir }), epoch)
}

/** Asks for this recovery device: it waits. */
export async function askForRecovery(
  { log, userId }: Pick<TestAccount, 'log' | 'userId'>,
  author: EntryAuthor,
  recovery: DeviceKeys,
): Promise<SealedEntry> {
  const { record } = recovery
  const proof = await signDevicePop(recovery.signer, userId, record)
  return withoutEpoch(await buildRecovery(log, author, { record, epoch: undefined, proof }))
}

/** Makes the pending recovery device final. */
export async function sealSettle({ log }: TestAccount, author: EntryAuthor): Promise<SealedEntry> {
  const pending = log.pendingRecovery
  if (pending === undefined) throw new Error('nothing is pending')
  const epoch = makeEpoch(log, [...recordsOf(log).filter(({ role }) => role !== 'recovery'), pending.record])
  return withEpoch(await buildSettle(log, author, { hash: pending.hash, epoch: epoch.start }), epoch)
}

export const sealCancel = async ({ log }: TestAccount, author: EntryAuthor, hash: Uint8Array): Promise<SealedEntry> =>
  withoutEpoch(await buildCancel(log, author, hash))

interface Cut {
  readonly lastSeq: number
  readonly chain: Uint8Array
}

/** Of a device that published nothing, or of one that is suspended. */
function cutOf({ log, userId }: TestAccount, deviceId: DeviceId): Cut {
  const status = findDevice(log, deviceId)?.status
  if (status?.type === 'suspended') return { lastSeq: status.lastSeq, chain: status.chain }
  return { lastSeq: 0, chain: chainStart(nodeCrypto, userId, deviceId) }
}

export async function sealRevoke(
  account: TestAccount,
  author: EntryAuthor,
  revoked: readonly TestDevice[],
  cut?: Cut,
): Promise<SealedEntry> {
  const epoch = makeEpoch(account.log, recordsOf(account.log, revoked))
  const devices = revoked.map(({ deviceId }) => ({ deviceId, ...(cut ?? cutOf(account, deviceId)) }))
  return withEpoch(await buildRevoke(account.log, author, { devices, reason: 0, epoch: epoch.start }), epoch)
}

export const sealSuspend = async (
  account: TestAccount,
  author: EntryAuthor,
  { deviceId }: Pick<TestDevice, 'deviceId'>,
  cut?: Cut,
): Promise<SealedEntry> =>
  withoutEpoch(await buildSuspend(account.log, author, { deviceId, ...(cut ?? cutOf(account, deviceId)) }))

/** At once with the phrase's signer, or where no recovery device is active; else it waits. */
export const sealClose = async (log: DeviceLogState, author: EntryAuthor, phrase?: Signer): Promise<SealedEntry> =>
  withoutEpoch(await buildClose(log, author, phrase === undefined ? undefined : await signClose(phrase, log)))

export const offerEntry = (session: RawSession, sealed: SealedEntry): Promise<ServerMessage> =>
  session.ask({ type: 'append_device_log', request_id: 0, ...sealed })

/** Appends an entry that must be accepted, and moves the account's log on. */
export async function appendEntry(account: TestAccount, session: RawSession, sealed: SealedEntry): Promise<void> {
  const answer = await offerEntry(session, sealed)
  if (answer.type !== 'device_log_appended') throw new Error(`the entry was refused: ${JSON.stringify(answer)}`)
  const applied = applyEntry(nodeCrypto, account.log, sealed.entry)
  if (!applied.ok) throw new Error(`the server accepted an entry that breaks ${applied.rule}`)
  account.log = applied.state
}
