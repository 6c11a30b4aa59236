// The users of the benchmark: each with two devices, a publisher and a receiver, made before any clock starts and
// registered the way a client does it. X25519 boxes, because they are never opened here and X-Wing costs thrice as much.

import {
  applyEntry,
  buildAdd,
  buildGenesis,
  type ClientIdentity,
  chainStart,
  type DeviceLogState,
  KEM_X25519,
  noUserId,
  type SealedBox,
  type StreamId,
  signDevicePop,
  type UserId,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { createDeviceKeys, type DeviceKeys } from '../../client/src/sealing/device-keys.ts'
import { eventKey, streamIdOf } from '../../client/src/sealing/epoch.ts'
import { sealBoxForNewDevice, sealFirstEpoch } from '../../client/src/sealing/epoch-boxes.ts'
import { connectPeer, type PeerParts, type ServerAddress } from './peer.ts'

export interface BenchUser {
  readonly userId: UserId
  readonly publisher: DeviceKeys
  readonly receiver: DeviceKeys
  readonly contentKey: Uint8Array
  readonly streamId: StreamId
  /** Of the device log with both devices in it. */
  readonly log: DeviceLogState
  readonly firstChain: Uint8Array
  readonly registration: { readonly genesis: SignedStep; readonly add: SignedStep }
}

interface SignedStep {
  readonly entry: Uint8Array
  readonly boxes: SealedBox[]
}

const REGISTRATIONS_AT_ONCE = 8

const accept = (state: DeviceLogState | undefined, entry: Uint8Array): DeviceLogState => {
  const applied = applyEntry(crypto, state, entry)
  if (!applied.ok) throw new Error(`an entry of the benchmark breaks the rule ${applied.rule}`)
  return applied.state
}

const toBox = ({ deviceId, box }: { deviceId: SealedBox['device_id']; box: Uint8Array }): SealedBox => ({
  device_id: deviceId,
  box,
})

export async function createUser(): Promise<BenchUser> {
  const publisher = await createDeviceKeys(crypto, 'manager', KEM_X25519)
  const receiver = await createDeviceKeys(crypto, 'member', KEM_X25519)
  const { signer, record, deviceId } = publisher
  const epoch = await sealFirstEpoch(crypto, [record])
  const timeMs = Date.now()
  const genesis = await buildGenesis(crypto, {
    signer,
    timeMs,
    nonce: crypto.randomBytes(32),
    manager: record,
    recovery: undefined,
    epoch: epoch.start,
  })
  const first = accept(undefined, genesis)
  const { userId } = first
  const { box, boxHash } = await sealBoxForNewDevice(crypto, first, receiver.record, epoch.secret)
  const add = await buildAdd(
    first,
    { signer, deviceId, timeMs },
    { record: receiver.record, boxHash, proof: await signDevicePop(receiver.signer, userId, receiver.record) },
  )
  return {
    userId,
    publisher,
    receiver,
    contentKey: eventKey(crypto, userId, 1, epoch.secret),
    streamId: streamIdOf(crypto, userId, epoch.secret, 'bench'),
    log: accept(first, add),
    firstChain: chainStart(crypto, userId, deviceId),
    registration: {
      genesis: { entry: genesis, boxes: epoch.boxes.map(toBox) },
      add: { entry: add, boxes: [toBox({ deviceId: receiver.deviceId, box })] },
    },
  }
}

/** What a device of a registered user says of itself in a handshake. */
export const identityOf = ({ userId, log }: BenchUser, { deviceId, record }: DeviceKeys): ClientIdentity => ({
  mode: 'device',
  userId,
  deviceId,
  publicKey: record.edPub,
  logSeq: log.seq,
  logHead: log.head,
  canRekey: true,
  clientInfo: 'valise-bench',
})

async function registerUser(server: ServerAddress, user: BenchUser, localAddress?: string): Promise<void> {
  const { publisher, registration } = user
  let lost: Error | undefined
  const identity: ClientIdentity = {
    ...identityOf(user, publisher),
    mode: 'register',
    userId: noUserId(),
    logSeq: 0,
    logHead: new Uint8Array(32),
  }
  const parts: PeerParts = {
    server,
    identity,
    signer: publisher.signer,
    ...(localAddress === undefined ? {} : { localAddress }),
    onLost: (error) => {
      lost = error
    },
  }
  const peer = await connectPeer(parts)
  const registered = peer.next('registered')
  peer.send({ type: 'register', ...registration.genesis })
  await registered
  const appended = peer.next('device_log_appended')
  peer.send({ type: 'append_device_log', request_id: 1, ...registration.add, links: [] })
  await appended
  await peer.close()
  if (lost !== undefined) throw lost
}

/** Runs `work` for every item, a bounded number at once. */
export async function forEachAtOnce<Item>(
  items: readonly Item[],
  atOnce: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const queue = items.values()
  const run = async (): Promise<void> => {
    for (const item of queue) await work(item)
  }
  await Promise.all(Array.from({ length: atOnce }, run))
}

/** `addressOf`: from where each registers, on a server that limits registrations of an address. */
export const registerUsers = (
  server: ServerAddress,
  users: readonly BenchUser[],
  addressOf?: (index: number) => string,
): Promise<void> =>
  forEachAtOnce([...users.entries()], REGISTRATIONS_AT_ONCE, ([index, user]) =>
    registerUser(server, user, addressOf?.(index)),
  )
