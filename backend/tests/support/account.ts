// Accounts for tests: a user with any number of devices, registered through a real session, with the entries, boxes and
// epoch secret that the client's own code makes; and the devices, which seal events and remember their chain.

import {
  applyEntry,
  buildAdd,
  buildGenesis,
  type ClientIdentity,
  chainStart,
  createEventId,
  type DeviceId,
  type DeviceLogState,
  type EventHeader,
  type EventId,
  noUserId,
  type StreamId,
  signDevicePop,
  type UserId,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { createDeviceKeys, type DeviceKeys } from '../../../client/src/sealing/device-keys.ts'
import { eventKey, streamIdOf } from '../../../client/src/sealing/epoch.ts'
import { sealBoxForNewDevice, sealFirstEpoch } from '../../../client/src/sealing/epoch-boxes.ts'
import { type SealedEvent, sealEvent } from '../../../client/src/sealing/event-seal.ts'
import { type OpenSessionParts, openSession, type RawSession, type SessionTarget } from './raw-device.ts'

export interface SealOptions {
  /** Fields of the header that differ from what is right. */
  readonly header?: Partial<Omit<EventHeader, 'nonce'>>
  readonly data?: Uint8Array
}

export interface PublishedEvent extends SealedEvent {
  readonly deviceSeq: number
  readonly eventId: EventId
  readonly streamId: StreamId
}

export interface TestDevice {
  readonly userId: UserId
  readonly deviceId: DeviceId
  readonly keys: DeviceKeys
  readonly account: TestAccount
  /** What `seal` made, by device_seq - 1. */
  readonly sealed: readonly PublishedEvent[]
  /** Seals the device's next event and moves its chain on. Calls must not overlap. */
  seal(streamName: string, options?: SealOptions): Promise<PublishedEvent>
  sealMany(streamName: string, count: number): Promise<PublishedEvent[]>
  /** Seals at the present end of the chain without moving it: for events that must be refused. */
  sealAside(streamName: string, options?: SealOptions): Promise<PublishedEvent>
  /** Shakes hands as this device. */
  connect(target: SessionTarget, options?: ConnectOptions): Promise<RawSession>
}

export interface ConnectOptions extends Omit<OpenSessionParts, 'identity' | 'signer'> {
  /** Sends `resume` from there at once. */
  readonly cursor?: number
  readonly canRekey?: boolean
}

export interface TestAccount {
  readonly userId: UserId
  readonly devices: readonly TestDevice[]
  /** The device log as the server has it. */
  log: DeviceLogState
  /** ES_1. */
  readonly epochSecret: Uint8Array
  streamId(name: string): StreamId
}

/** Registers a user with `devices` devices, the first one a manager that adds the others, and a recovery device if given. */
export async function createAccount(
  target: SessionTarget,
  options: { devices?: number; recovery?: DeviceKeys } = {},
): Promise<TestAccount> {
  const { recovery } = options
  const manager = await createDeviceKeys(nodeCrypto, 'manager')
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
  const log = advance(undefined, entry)
  const devices: TestDevice[] = []
  const account: TestAccount = {
    userId: log.userId,
    devices,
    log,
    epochSecret: epoch.secret,
    streamId: (name) => streamIdOf(nodeCrypto, log.userId, epoch.secret, name),
  }

  const identity = { ...deviceIdentity(account, manager), mode: 'register' as const, userId: noUserId() }
  const session = await openSession(target, { identity, signer: manager.signer })
  const boxes = epoch.boxes.map(({ deviceId, box }) => ({ device_id: deviceId, box }))
  session.send({ type: 'register', entry, boxes })
  await session.until('the account to stand', () => session.messages.some(({ type }) => type === 'registered'))
  devices.push(createTestDevice(account, manager))
  for (let i = 1; i < (options.devices ?? 1); i++) devices.push(await addDevice(session, account, manager))
  await session.close()
  return account
}

async function addDevice(session: RawSession, account: TestAccount, manager: DeviceKeys): Promise<TestDevice> {
  const keys = await createDeviceKeys(nodeCrypto, 'member')
  const { box, boxHash } = await sealBoxForNewDevice(nodeCrypto, account.log, keys.record, account.epochSecret)
  const proof = await signDevicePop(keys.signer, account.userId, keys.record)
  const author = { signer: manager.signer, deviceId: manager.deviceId, timeMs: Date.now() }
  const entry = await buildAdd(account.log, author, { record: keys.record, boxHash, proof })
  const answer = await session.ask({
    type: 'append_device_log',
    request_id: 0,
    entry,
    boxes: [{ device_id: keys.deviceId, box }],
    links: [],
  })
  if (answer.type !== 'device_log_appended') throw new Error(`a device was not added: ${JSON.stringify(answer)}`)
  account.log = advance(account.log, entry)
  return createTestDevice(account, keys)
}

function advance(log: DeviceLogState | undefined, entry: Uint8Array): DeviceLogState {
  const applied = applyEntry(nodeCrypto, log, entry)
  if (!applied.ok) throw new Error(`a test built an entry that breaks ${applied.rule}`)
  return applied.state
}

const deviceIdentity = (account: TestAccount, keys: DeviceKeys): ClientIdentity => ({
  mode: 'device',
  userId: account.log.userId,
  deviceId: keys.deviceId,
  publicKey: keys.record.edPub,
  logSeq: account.log.seq,
  logHead: account.log.head,
  canRekey: true,
  clientInfo: 'test',
})

function createTestDevice(account: TestAccount, keys: DeviceKeys): TestDevice {
  const { userId } = account
  const { deviceId } = keys
  const contentKey = eventKey(nodeCrypto, userId, 1, account.epochSecret)
  const made: PublishedEvent[] = []
  let deviceSeq = 0
  let chain = chainStart(nodeCrypto, userId, deviceId)

  const sealAside = async (streamName: string, options: SealOptions = {}): Promise<PublishedEvent> => {
    const data = options.data ?? new TextEncoder().encode(`${streamName} ${deviceSeq + 1}`)
    const header: Omit<EventHeader, 'nonce'> = {
      userId,
      deviceId,
      deviceSeq: deviceSeq + 1,
      chainPrev: chain,
      streamId: streamIdOf(nodeCrypto, userId, account.epochSecret, streamName),
      eventId: createEventId(Date.now(), nodeCrypto.randomBytes(10)),
      epoch: account.log.epoch.n,
      logSeq: account.log.seq,
      logHead: account.log.head,
      ttlS: 0,
      isTombstone: data.length === 0,
      isKept: options.header?.checkpoint !== undefined,
      checkpoint: undefined,
      ...options.header,
    }
    const sealed = await sealEvent(nodeCrypto, keys.signer, contentKey, header, data)
    return { ...sealed, deviceSeq: header.deviceSeq, eventId: header.eventId, streamId: header.streamId }
  }

  const seal = async (streamName: string, options: SealOptions = {}): Promise<PublishedEvent> => {
    const sealed = await sealAside(streamName, options)
    deviceSeq = sealed.deviceSeq
    chain = sealed.chain
    made.push(sealed)
    return sealed
  }

  return {
    userId,
    deviceId,
    keys,
    account,
    sealed: made,
    seal,
    sealAside,
    sealMany: async (streamName, count) => {
      const events: PublishedEvent[] = []
      while (events.length < count) events.push(await seal(streamName))
      return events
    },
    connect: async (target, options = {}) => {
      const { canRekey = true, cursor, ...others } = options
      const identity = { ...deviceIdentity(account, keys), canRekey }
      const session = await openSession(target, { identity, signer: keys.signer, ...others })
      if (cursor !== undefined) session.send({ type: 'resume', cursor, log_epoch: null })
      return session
    },
  }
}
