// A user with a few devices whose events are sealed by the client's own code: what a server would deliver, ready to be
// broken in one place at a time.

import {
  buildAdd,
  chainStart,
  createEventId,
  type DeviceId,
  type DeviceLogState,
  type EventHeader,
  type EventId,
  type LeafItem,
  leafOf,
  parseEvent,
  type StoredEvent,
  signDevicePop,
  toHex,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import type { KnownLog, OwnEvent } from '../../src/receive/check-events.ts'
import { encodeContent } from '../../src/sealing/content.ts'
import { createDeviceKeys, type DeviceKeys } from '../../src/sealing/device-keys.ts'
import { eventKey, streamIdOf } from '../../src/sealing/epoch.ts'
import { sealBoxForNewDevice } from '../../src/sealing/epoch-boxes.ts'
import { sealEvent } from '../../src/sealing/event-seal.ts'
import { type DeviceHead, NO_PROGRESS, type Progress, type StreamHead } from '../../src/store/records.ts'
import { type Account, authorOf, createAccount, logHeadAt, mustApply } from './sealed-account.ts'

export const NOW_MS = 1_700_000_000_000

export interface PublishedLog {
  readonly account: Account
  readonly keysByName: Map<string, DeviceKeys>
  state: DeviceLogState
  readonly items: StoredEvent[]
  /** Seals and stores one event; what is given replaces what is right. */
  publish(name: string, stream: string, change?: Partial<EventHeader>, signer?: string): Promise<StoredEvent>
  deviceId(name: string): DeviceId
}

export async function createPublishedLog(...names: readonly string[]): Promise<PublishedLog> {
  const account = await createAccount()
  const keysByName = new Map([['manager', account.manager]])
  const ends = new Map<string, { seq: number; chain: Uint8Array }>()
  const streamSeqs = new Map<string, number>()
  let { state } = account
  for (const name of names) {
    const keys = await createDeviceKeys(crypto, 'member')
    const proof = await signDevicePop(keys.signer, state.userId, keys.record)
    const { boxHash } = await sealBoxForNewDevice(crypto, state, keys.record, account.epoch.secret)
    state = mustApply(state, await buildAdd(state, authorOf(account.manager), { record: keys.record, boxHash, proof }))
    keysByName.set(name, keys)
  }
  const { secret } = account.epoch
  const log: PublishedLog = {
    account,
    keysByName,
    state,
    items: [],
    deviceId: (name) => keysByName.get(name)!.deviceId,
    publish: async (name, stream, change = {}, signer = name) => {
      const { deviceId } = keysByName.get(name)!
      const end = ends.get(name) ?? { seq: 0, chain: chainStart(crypto, state.userId, deviceId) }
      const header = {
        userId: state.userId,
        deviceId,
        deviceSeq: end.seq + 1,
        chainPrev: end.chain,
        streamId: streamIdOf(crypto, state.userId, secret, stream),
        eventId: createEventId(NOW_MS, crypto.randomBytes(10)) as EventId,
        epoch: 1,
        logSeq: log.state.seq,
        logHead: logHeadAt(log.state, change.logSeq ?? log.state.seq) ?? new Uint8Array(32),
        ttlS: 0,
        isTombstone: false,
        isKept: false,
        checkpoint: undefined,
        ...change,
      }
      const content = encodeContent({ type: 'text', atMs: NOW_MS, body: new Uint8Array([1, 2, 3]) })
      const key = eventKey(crypto, state.userId, header.epoch, secret)
      const sealed = await sealEvent(crypto, keysByName.get(signer)!.signer, key, header, content)
      ends.set(name, { seq: header.deviceSeq, chain: sealed.chain })
      const streamSeq = (streamSeqs.get(stream) ?? 0) + 1
      streamSeqs.set(stream, streamSeq)
      const item: StoredEvent = [log.items.length + 1, streamSeq, NOW_MS, sealed.wire]
      log.items.push(item)
      return item
    },
  }
  return log
}

/** What is left of an event whose bytes are gone. */
export function expire([userSeq, streamSeq, storedAtMs, wire]: StoredEvent): LeafItem {
  const event = parseEvent(wire)!
  const { ttlS, flags, inner } = leafOf(crypto, event)
  return [userSeq, streamSeq, storedAtMs, event.deviceId, event.deviceSeq, ttlS, flags, inner]
}

/** A device that knows nothing yet, or what is given. */
export function knowing(
  device: DeviceLogState,
  given: {
    progress?: Partial<Progress>
    deviceHeads?: ReadonlyMap<string, { head: DeviceHead }>
    streamHeads?: ReadonlyMap<string, { head: StreamHead }>
    ownAhead?: readonly OwnEvent[]
    prunedThrough?: number
  } = {},
): KnownLog {
  return {
    device,
    logHeadAt: (seq) => logHeadAt(device, seq),
    isPruned: (userSeq) => userSeq <= (given.prunedThrough ?? 0),
    progress: { ...NO_PROGRESS, ...given.progress },
    deviceHead: (deviceId) => given.deviceHeads?.get(toHex(deviceId))?.head,
    streamHead: (streamId) => given.streamHeads?.get(toHex(streamId))?.head,
    ownAhead: () => given.ownAhead ?? [],
  }
}
