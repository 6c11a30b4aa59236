// A user with two devices that run the product's own client over real sockets: one writes without a pause, the other
// reads. What was acknowledged and what arrived is kept, to be compared at the end.

import { type EventId, signDevicePop, toHex } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { createAccount } from '../../../client/src/account/create-account.ts'
import {
  type Client,
  createAtRestSealer,
  createMemoryStore,
  noLog,
  openClient,
  systemClock,
} from '../../../client/src/index.ts'
import { createWsTransport } from '../../../client/src/node/ws-transport.ts'
import { createDeviceKeys } from '../../../client/src/sealing/device-keys.ts'
import { waitFor } from './open-database.ts'
import type { SessionTarget } from './raw-device.ts'

export interface LiveUser {
  readonly userId: Uint8Array
  readonly writer: Client
  readonly reader: Client
  /** `user_seq` by event id, in the order of the receipts. */
  readonly acknowledged: ReadonlyMap<string, number>
  readonly publishedCount: number
  /** Event ids that the reader yielded, in order. */
  readonly received: readonly string[]
  /** Publishes one after another until `stopWriting()`. */
  startWriting(): void
  /** Resolves when everything has its receipt and has arrived. */
  stopWriting(): Promise<void>
  close(): Promise<void>
}

const sealer = createAtRestSealer(new Uint8Array(32).fill(3), crypto)
const keyOf = (eventId: EventId): string => toHex(eventId)
const PAUSE_MS = 150

export async function openLiveUser({ url, fingerprint }: SessionTarget): Promise<LiveUser> {
  const transport = createWsTransport({ maxFrameBytes: 2 * 1024 * 1024 })
  const common = { sealer, crypto, clock: systemClock, transport, clientInfo: 'test' }
  const options = { ...common, random: Math.random, log: noLog, checkpointEvery: 0 }
  const store = createMemoryStore()
  const profile = { server: { url, fingerprint }, name: 'writer', platform: 'test', signal: undefined }
  const { identity } = await createAccount({ ...common, store }, profile)
  const writer = await openClient({ ...options, store, identity })
  writer.start()
  await writer.whenReady()
  const keys = await createDeviceKeys(crypto, 'member')
  await writer.addDevice({ record: keys.record, proof: await signDevicePop(keys.signer, identity.userId, keys.record) })
  const readerIdentity = { ...identity, keys, deviceId: keys.deviceId, name: 'reader' }
  const reader = await openClient({ ...options, store: createMemoryStore(), identity: readerIdentity })
  reader.start()

  const acknowledged = new Map<string, number>()
  const received: string[] = []
  let publishedCount = 0
  writer.onReceipt(({ eventId, userSeq }) => acknowledged.set(keyOf(eventId), userSeq))
  const ending = new AbortController()
  const reading = (async () => {
    for await (const { eventId } of reader.events('load', { after: 0, signal: ending.signal })) {
      received.push(keyOf(eventId))
    }
  })().catch(() => {})

  let isWriting = false
  let writing = Promise.resolve()
  const write = async (): Promise<void> => {
    while (isWriting) {
      publishedCount++
      await writer.publish('load', { type: 'n', body: new TextEncoder().encode(String(publishedCount)) })
      // The rate of the load, not a wait for anything.
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    }
  }
  return {
    userId: identity.userId,
    writer,
    reader,
    acknowledged,
    get publishedCount() {
      return publishedCount
    },
    received,
    startWriting: () => {
      isWriting = true
      writing = write()
    },
    stopWriting: async () => {
      isWriting = false
      await writing
      await writer.flush(AbortSignal.timeout(30_000))
      await waitFor(
        'every event to arrive',
        async () => received.length,
        (count) => count >= publishedCount,
      )
    },
    close: async () => {
      ending.abort()
      isWriting = false
      // A test that failed closes a writer that is still at it.
      await writing.catch(() => {})
      await writer.close()
      await reader.close()
      await reading
    },
  }
}
