// Checkpoints (PROTOCOL E): the chains this device has seen, published in clear for the others, and theirs compared with
// what it has seen itself. The server must refuse a false one, so one that contradicts shows that the server lies.

import {
  type ChainPosition,
  concatBytes,
  type DeviceId,
  devicesOf,
  equalBytes,
  eventIdTimeMs,
  findDevice,
  formatUuid,
  isBeyondCut,
  isSameId,
  MAX_CHECKPOINT_POSITIONS,
  type ParsedEvent,
  toDeviceId,
  toHex,
} from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import type { LogBook } from './account/log-book.ts'
import { AlarmError } from './alarm.ts'
import type { Clock } from './clock.ts'
import { encodeSeenView, parseSeenView, type SeenView } from './seen-view.ts'
import { storeKeys } from './store/layout.ts'
import type { LocalLog } from './store/local-log.ts'
import { del, put, type Store, type StoreOperation } from './store/store.ts'

export const CHECKPOINT_STREAM = 'valise/checkpoint'
export const CHECKPOINT_TYPE = 'valise/checkpoint'

/** A reconnect this long after the last checkpoint publishes one. */
const MAX_AGE_MS = 3_600_000

/** What the batch that holds the checkpoint brought. */
interface BatchSoFar {
  readonly events: readonly {
    readonly userSeq: number
    readonly deviceId: DeviceId
    readonly deviceSeq: number
    readonly chain: Uint8Array
  }[]
}

/** Where a list of chains was told, and whether what is ahead of it may have been lost by a restored server. */
interface Telling {
  readonly userSeq: number
  readonly isOfLostLog: boolean
}

export interface Checkpoints {
  /** Of a received checkpoint that stands at a user_seq. Throws alarms. */
  compare(userSeq: number, event: ParsedEvent, batch: BatchSoFar): Promise<void>
  /** Counts ordinary events toward the next checkpoint; to be stored with them. */
  countEvents(count: number): StoreOperation[]
  /** Whether to publish one now. `isReconnect` when a session has just begun. */
  isDue(isReconnect: boolean): boolean
  published(): Promise<void>
  /** What a checkpoint that is sealed now names, sorted by device id; `undefined` while nothing was seen. */
  list(): readonly ChainPosition[] | undefined
  /** The device log and the chains as this device has verified them: of active devices first, then of those revoked last. */
  view(maxDevices: number): SeenView
  /** Everything there is has been read: what the device that let this one in had seen must be here. Throws alarms. */
  compareInvitedView(): Promise<void>
}

export interface CheckpointParts {
  readonly store: Store
  readonly clock: Clock
  readonly ownDeviceId: DeviceId
  readonly log: LocalLog
  readonly book: LogBook
  /** 0 publishes none; those of others are compared all the same. */
  readonly everyEvents: number
  readDeviceLog(upTo: number): Promise<void>
  /** The chain this device sealed at a device_seq that has no receipt yet. */
  unreceiptedChain(deviceSeq: number): Uint8Array | undefined
}

const storedState = z.strictObject({ events: z.int().min(0), at_ms: z.int().min(0) })

/** What the device that let this one in had seen, to be kept until it can be compared. */
export const saveInvitedView = (inviter: DeviceId, view: SeenView): StoreOperation =>
  put(storeKeys.invitedView, concatBytes(inviter, encodeSeenView(view)))

export async function openCheckpoints(parts: CheckpointParts): Promise<Checkpoints> {
  const { store, clock, ownDeviceId, log, book, everyEvents } = parts
  const stored = await store.get(storeKeys.checkpoint)
  let state = stored === undefined ? { events: 0, at_ms: clock.now() } : storedState.parse(decode(stored))

  /** This device's own knowledge of a device's chain at a device_seq, the batch in hand included. */
  const chainAt = async (
    { deviceId, deviceSeq }: ChainPosition,
    batch: BatchSoFar,
  ): Promise<Uint8Array | undefined> => {
    const inBatch = batch.events.find(
      (event) => event.deviceSeq === deviceSeq && equalBytes(event.deviceId, deviceId),
    )?.chain
    if (inBatch !== undefined) return inBatch
    if (isSameId(deviceId, ownDeviceId)) {
      const unreceipted = parts.unreceiptedChain(deviceSeq)
      if (unreceipted !== undefined) return unreceipted
    }
    return log.chainAt(deviceId, deviceSeq)
  }

  /** The newest event of a device that this device had before a user_seq. */
  const seenSeq = (deviceId: DeviceId, userSeq: number, batch: BatchSoFar): number => {
    const inBatch = batch.events
      .filter((event) => event.userSeq < userSeq && equalBytes(event.deviceId, deviceId))
      .at(-1)?.deviceSeq
    return inBatch ?? log.deviceHead(deviceId)?.deviceSeq ?? 0
  }

  /** Whether this device holds the event that is named before the place where it is named. */
  const isHeldBefore = async ({ deviceId, deviceSeq }: ChainPosition, userSeq: number, batch: BatchSoFar) => {
    const inBatch = batch.events.find(
      (event) => event.deviceSeq === deviceSeq && equalBytes(event.deviceId, deviceId),
    )?.userSeq
    const heldAt = inBatch ?? (await log.placeOf(deviceId, deviceSeq))
    return heldAt !== undefined && heldAt < userSeq
  }

  const comparePosition = async (telling: Telling, position: ChainPosition, batch: BatchSoFar): Promise<void> => {
    const { deviceId, deviceSeq, chain } = position
    const where = { user_seq: telling.userSeq, device: formatUuid(deviceId), device_seq: deviceSeq }
    const device = findDevice(book.require(), deviceId)
    if (device === undefined) throw new AlarmError('checkpoint_contradiction', where)
    // One device may have seen what another did not: it is void for both.
    if (isBeyondCut(device, deviceSeq)) return
    // Written before the log was restored, about what it lost: it came again behind this place, or never will.
    if (telling.isOfLostLog && !(await isHeldBefore(position, telling.userSeq, batch))) return
    const own = await chainAt(position, batch)
    if (own !== undefined) {
      if (!equalBytes(own, chain)) throw new AlarmError('checkpoint_contradiction', where)
      return
    }
    if (isSameId(deviceId, ownDeviceId)) throw new AlarmError('device_cloned', where)
    // The server had it before it took the checkpoint, so it must stand here too.
    const seen = seenSeq(deviceId, telling.userSeq, batch)
    if (deviceSeq > seen) throw new AlarmError('events_withheld', { ...where, seen })
  }

  const chainsSeen = (): ChainPosition[] => {
    const active: ChainPosition[] = []
    const revoked: ChainPosition[] = []
    for (const device of devicesOf(book.require())) {
      const { deviceId, status } = device
      const head = log.deviceHead(deviceId)
      if (head === undefined) continue
      const seen = { deviceId, deviceSeq: head.deviceSeq, chain: head.chain }
      if (status.type === 'active') active.push(seen)
      else if (!isBeyondCut(device, head.deviceSeq)) revoked.push(seen)
      else if (status.lastSeq > 0) revoked.push({ deviceId, deviceSeq: status.lastSeq, chain: status.chain })
    }
    return [...active, ...revoked.reverse()]
  }

  const save = (next: typeof state): StoreOperation => {
    state = next
    return put(storeKeys.checkpoint, encode(next))
  }

  return {
    compare: async (userSeq, { eventId, checkpoint = [] }, batch) => {
      const isOfLostLog = eventIdTimeMs(eventId) < log.progress.logEpochAtMs
      for (const position of checkpoint) await comparePosition({ userSeq, isOfLostLog }, position, batch)
    },
    countEvents: (count) => (count === 0 ? [] : [save({ ...state, events: state.events + count })]),
    isDue: (isReconnect) => {
      if (everyEvents === 0) return false
      const ageMs = clock.now() - state.at_ms
      // A last one in the future: the clock was put back since, and would be waited for.
      const isOld = ageMs >= MAX_AGE_MS || ageMs < 0
      return (state.events >= everyEvents || (isReconnect && isOld)) && chainsSeen().length > 0
    },
    published: () => store.batch([save({ events: 0, at_ms: clock.now() })]),
    list: () => {
      const chains = chainsSeen().slice(0, MAX_CHECKPOINT_POSITIONS)
      chains.sort((a, b) => (toHex(a.deviceId) < toHex(b.deviceId) ? -1 : 1))
      return chains.length === 0 ? undefined : chains
    },
    view: (maxDevices) => {
      const { seq, head } = book.require()
      return { logSeq: seq, logHead: head, chains: chainsSeen().slice(0, maxDevices) }
    },
    compareInvitedView: async () => {
      const stored = await store.get(storeKeys.invitedView)
      if (stored === undefined) return
      const view = parseSeenView(stored.subarray(16))
      if (toDeviceId(stored.subarray(0, 16)) === undefined || view === undefined) {
        throw new AlarmError('store_damaged', { record: storeKeys.invitedView })
      }
      const position = { seq: view.logSeq, head: view.logHead }
      if (book.compare(position) === 'ahead') await parts.readDeviceLog(position.seq)
      const comparison = book.compare(position)
      if (comparison === 'contradiction') throw new AlarmError('checkpoint_contradiction', { seq: position.seq })
      if (comparison === 'ahead') throw new AlarmError('device_log_shorter', { seq: position.seq })
      const telling = { userSeq: log.progress.cursor, isOfLostLog: false }
      for (const chain of view.chains) await comparePosition(telling, chain, { events: [] })
      await store.batch([del(storeKeys.invitedView)])
    },
  }
}
