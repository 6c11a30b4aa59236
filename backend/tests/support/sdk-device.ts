// A device of a test account that runs the client SDK over a real socket, with a clock of its own, and what its
// application is shown of it.

import { nodeCrypto } from '@valise/protocol/node-crypto'
import type { Client, ClientState } from '../../../client/src/client.ts'
import type { Clock } from '../../../client/src/clock.ts'
import { createWsTransport } from '../../../client/src/node/ws-transport.ts'
import { openClient } from '../../../client/src/open-client.ts'
import type { PublishReceipt } from '../../../client/src/publish/publisher.ts'
import { createAtRestSealer } from '../../../client/src/store/at-rest.ts'
import { createMemoryStore } from '../../../client/src/store/memory-store.ts'
import type { TestDevice } from './account.ts'
import type { SessionTarget } from './raw-device.ts'

export interface SdkDevice {
  readonly client: Client
  readonly states: readonly ClientState['type'][]
  readonly receipts: readonly PublishReceipt[]
  /** Of every event received, in order. */
  readonly bodies: readonly string[]
  /** Sockets opened so far. */
  readonly connections: number
  publish(text: string): Promise<unknown>
  close(): Promise<void>
}

/** Started, and live. */
export async function openSdkDevice(target: SessionTarget, device: TestDevice, clock: Clock): Promise<SdkDevice> {
  const { userId, deviceId, keys } = device
  const store = createMemoryStore()
  const transport = createWsTransport({ maxFrameBytes: 2 ** 20 })
  const states: ClientState['type'][] = []
  const receipts: PublishReceipt[] = []
  const bodies: string[] = []
  let connections = 0
  const client = await openClient({
    store,
    sealer: createAtRestSealer(nodeCrypto.randomBytes(32), nodeCrypto),
    transport: {
      connect: (url, handlers) => {
        connections += 1
        return transport.connect(url, handlers)
      },
    },
    crypto: nodeCrypto,
    clock,
    random: () => 0,
    identity: { userId, deviceId, keys, name: 'sdk', platform: 'test', server: target },
    log: () => {},
    checkpointEvery: 0,
    clientInfo: 'test',
  })
  client.onState(({ type }) => states.push(type))
  client.onReceipt((receipt) => receipts.push(receipt))
  client.start()
  await client.whenLive()
  const read = async (): Promise<void> => {
    for await (const { content } of client.events('notes')) bodies.push(new TextDecoder().decode(content.body))
  }
  // Rejects when the client stops for good, which its state tells, too.
  const reading = read().catch(() => {})
  return {
    client,
    states,
    receipts,
    bodies,
    get connections() {
      return connections
    },
    publish: (text) => client.publish('notes', { type: 'text', body: new TextEncoder().encode(text) }),
    close: async () => {
      await client.close()
      await reading
      await store.close()
    },
  }
}
