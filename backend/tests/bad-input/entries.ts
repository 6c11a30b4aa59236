// Entries of the device log with the boxes they commit to, as an honest client makes them; tests spoil them in one place.

import {
  type AppendDeviceLog,
  activeDevices,
  applyEntry,
  buildAdd,
  buildClose,
  buildGenesis,
  buildRecovery,
  buildRevoke,
  buildRotate,
  type ClientIdentity,
  chainStart,
  type DeviceLogState,
  type EntryAuthor,
  noUserId,
  type Register,
  type ServerMessage,
  signDevicePop,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { createDeviceKeys, type DeviceKeys } from '../../../client/src/sealing/device-keys.ts'
import {
  type SealedEpoch,
  sealBoxForNewDevice,
  sealFirstEpoch,
  sealNextEpoch,
} from '../../../client/src/sealing/epoch-boxes.ts'
import type { TestAccount, TestDevice } from '../support/account.ts'
import { openSession, type RawSession, type SessionTarget } from '../support/raw-device.ts'
import { answersIn } from './server-state.ts'

export const createKeys = (role: 'manager' | 'member' | 'recovery'): Promise<DeviceKeys> =>
  createDeviceKeys(nodeCrypto, role)

const toSealedBoxes = (epoch: SealedEpoch) => epoch.boxes.map(({ deviceId, box }) => ({ device_id: deviceId, box }))

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
    epoch: epoch.start,
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
  return { entry, boxes: [{ device_id: keys.deviceId, box }], prev_box: null }
}

const recordsOf = (log: DeviceLogState, except: readonly TestDevice[] = []) =>
  activeDevices(log)
    .filter((device) => !except.some(({ deviceId }) => Buffer.from(deviceId).equals(device.deviceId)))
    .map((device) => device.record)

const withEpoch = (entry: Uint8Array, epoch: SealedEpoch): SealedEntry => ({
  entry,
  boxes: toSealedBoxes(epoch),
  prev_box: epoch.prevBox ?? null,
})

export async function sealRotate(account: TestAccount, author: EntryAuthor): Promise<SealedEntry> {
  const epoch = await sealNextEpoch(nodeCrypto, account.log, recordsOf(account.log), account.epochSecret)
  return withEpoch(await buildRotate(account.log, author, epoch.start), epoch)
}

/** Puts this recovery device in the place of the one before, if there is one. */
export async function sealRecovery(
  account: TestAccount,
  author: EntryAuthor,
  recovery: DeviceKeys,
): Promise<SealedEntry> {
  const { log, userId } = account
  const members = [...recordsOf(log).filter(({ role }) => role !== 'recovery'), recovery.record]
  const epoch = await sealNextEpoch(nodeCrypto, log, members, account.epochSecret)
  const proof = await signDevicePop(recovery.signer, userId, recovery.record)
  return withEpoch(await buildRecovery(log, author, { record: recovery.record, epoch: epoch.start, proof }), epoch)
}

export async function sealRevoke(
  account: TestAccount,
  author: EntryAuthor,
  revoked: readonly TestDevice[],
): Promise<SealedEntry> {
  const members = recordsOf(account.log, revoked)
  const epoch = await sealNextEpoch(nodeCrypto, account.log, members, account.epochSecret)
  const devices = revoked.map(({ deviceId }) => ({
    deviceId,
    lastSeq: 0,
    chain: chainStart(nodeCrypto, account.userId, deviceId),
  }))
  return withEpoch(await buildRevoke(account.log, author, { devices, reason: 0, epoch: epoch.start }), epoch)
}

export const sealClose = async (log: DeviceLogState, author: EntryAuthor): Promise<SealedEntry> => ({
  entry: await buildClose(log, author),
  boxes: [],
  prev_box: null,
})

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
