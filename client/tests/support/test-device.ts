// Devices of one user over a test server: the first creates the account, others are signed in by it.

import { buildAdd, buildRotate, type DeviceId, keyHolders, signDevicePop } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { toLinks } from '../../src/account/append-entry.ts'
import { createAccount } from '../../src/account/create-account.ts'
import type { Identity } from '../../src/account/identity.ts'
import type { Client } from '../../src/client.ts'
import { noLog } from '../../src/client-log.ts'
import { openClient } from '../../src/open-client.ts'
import type { OutboxLimits } from '../../src/publish/outbox.ts'
import { createDeviceKeys } from '../../src/sealing/device-keys.ts'
import { sealBoxForNewDevice, sealNextEpoch } from '../../src/sealing/epoch-boxes.ts'
import { createAtRestSealer } from '../../src/store/at-rest.ts'
import { createMemoryStore } from '../../src/store/memory-store.ts'
import type { Store } from '../../src/store/store.ts'
import { createManualClock, type ManualClock } from './manual-clock.ts'
import type { TestServer } from './test-server.ts'

export interface TestDevice {
  readonly store: Store
  readonly identity: Identity
  readonly clock: ManualClock
  /** Of the account, on the device that made it. */
  phrase?: string
  client: Client
  /** As after the end of its process: a new client over the same store. */
  restart(): Promise<void>
}

export interface TestDeviceOptions {
  readonly checkpointEvery?: number
  readonly outboxLimits?: OutboxLimits
  readonly clock?: ManualClock
  /** Default: no jitter. */
  readonly random?: () => number
}

export const sealer = createAtRestSealer(new Uint8Array(32).fill(3), crypto)

async function openDevice(
  server: TestServer,
  store: Store,
  identity: Identity,
  options: TestDeviceOptions,
): Promise<TestDevice> {
  const clock = options.clock ?? createManualClock()
  const open = (): Promise<Client> =>
    openClient({
      store,
      sealer,
      crypto,
      clock,
      identity,
      transport: server.transport,
      random: () => 0,
      log: noLog,
      checkpointEvery: 0,
      clientInfo: 'test',
      ...options,
    })
  const device: TestDevice = {
    store,
    identity,
    clock,
    client: await open(),
    restart: async () => {
      await device.client.close()
      device.client = await open()
    },
  }
  return device
}

export const parts = (server: TestServer, store: Store) => ({
  store,
  sealer,
  crypto,
  clock: createManualClock(),
  transport: server.transport,
  clientInfo: 'test',
})

export async function createFirstDevice(server: TestServer, options: TestDeviceOptions = {}): Promise<TestDevice> {
  const store = createMemoryStore()
  const { identity, sheet } = await createAccount(parts(server, store), {
    server: { url: 'ws://server.test', fingerprint: server.fingerprint },
    name: 'first',
    platform: 'test',
    signal: undefined,
  })
  const device = await openDevice(server, store, identity, options)
  device.phrase = sheet.phrase
  return device
}

/** Signed in by the first device at the server's side of things, as an approval would. */
export async function createNextDevice(
  server: TestServer,
  first: TestDevice,
  options: TestDeviceOptions = {},
): Promise<TestDevice> {
  const keys = await createDeviceKeys(crypto, 'member')
  const { userId } = first.identity
  const state = server.state!
  const secret = first.client.device.epochKeys.secretOf(state.epoch.n)!
  const { box, boxHash } = await sealBoxForNewDevice(crypto, state, keys.record, secret)
  const proof = await signDevicePop(keys.signer, userId, keys.record)
  server.append(await buildAdd(state, authorOf(first), { record: keys.record, boxHash, proof }), [
    { device_id: keys.deviceId, box },
  ])
  const identity = { ...first.identity, keys, deviceId: keys.deviceId, name: 'next' }
  return openDevice(server, createMemoryStore(), identity, options)
}

export const authorOf = ({ identity }: TestDevice) => ({
  signer: identity.keys.signer,
  deviceId: identity.deviceId,
  timeMs: 1_700_000_000_000,
})

/** Starts the next key epoch at the server, signed by the first device. */
export async function rotateEpoch(server: TestServer, first: TestDevice): Promise<void> {
  const state = server.state!
  const members = keyHolders(state).map(({ record }) => record)
  const { n } = state.epoch
  const older = [{ n, secret: first.client.device.epochKeys.secretOf(n)! }]
  const epoch = await sealNextEpoch(crypto, state, members, older)
  const boxes = epoch.boxes.map(({ deviceId, box }): { device_id: DeviceId; box: Uint8Array } => ({
    device_id: deviceId,
    box,
  }))
  server.append(await buildRotate(state, authorOf(first), epoch.start), boxes, toLinks(epoch))
}

export const text = (value: string) => ({ type: 'text', body: new TextEncoder().encode(value) })
export const toText = (body: Uint8Array): string => new TextDecoder().decode(body)

/** The bodies of the first events that `events` yields. */
export async function take(client: Client, streamName: string, count: number, after = 0): Promise<string[]> {
  const bodies: string[] = []
  if (count === 0) return bodies
  for await (const { content } of client.events(streamName, { after })) {
    bodies.push(toText(content.body))
    if (bodies.length === count) break
  }
  return bodies
}
