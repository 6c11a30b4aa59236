// Checkpoints (PROTOCOL E): what this device has seen, published for the others, and theirs compared with what it has
// seen itself. Two devices to whom the server shows different histories find out here.

import {
  concatBytes,
  type DeviceId,
  devicesOf,
  equalBytes,
  findDevice,
  formatUuid,
  isBeyondCut,
  isSameId,
  type ParsedEvent,
  toDeviceId,
  toHex,
} from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import type { EpochKeys } from './account/epoch-keys.ts'
import type { LogBook } from './account/log-book.ts'
import { AlarmError } from './alarm.ts'
import type { Clock } from './clock.ts'
import type { EventContent } from './sealing/content.ts'
import { storeKeys } from './store/layout.ts'
import type { LocalLog } from './store/local-log.ts'
import type { DeviceHead } from './store/records.ts'
import { del, put, type Store, type StoreOperation } from './store/store.ts'

export const CHECKPOINT_STREAM = 'valise/checkpoint'
export const CHECKPOINT_TYPE = 'valise/checkpoint'

/** More are not written, nor read. */
const MAX_DEVICES = 1000
/** A new device is told so many: with them an invitation has room in one message of a pairing. */
export const MAX_INVITED_DEVICES = 100

/** A reconnect this long after the last checkpoint publishes one. */
const MAX_AGE_MS = 3_600_000

const bytes = (length: number) =>
  z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === length)

const checkpointBody = z.strictObject({
  device_log_seq: z.int().min(0),
  device_log_head: bytes(32),
  devices: z
    .array(
      z.tuple([
        z.custom<DeviceId>((value) => value instanceof Uint8Array && toDeviceId(value) !== undefined),
        z.int().min(1),
        bytes(32),
      ]),
    )
    .max(MAX_DEVICES),
})
export type CheckpointBody = z.infer<typeof checkpointBody>

/** Where a received event that holds a checkpoint stands. */
interface CheckpointPlace {
  readonly userSeq: number
  readonly deviceId: DeviceId
  /** Unix milliseconds, by the clock of its device. */
  readonly writtenAtMs: number
}

/** What the batch that holds the checkpoint brought before it. */
interface BatchSoFar {
  readonly events: readonly {
    readonly userSeq: number
    readonly deviceId: DeviceId
    readonly deviceSeq: number
    readonly chain: Uint8Array
  }[]
}

export interface Checkpoints {
  isCheckpoint(event: ParsedEvent): boolean
  /** Throws alarms. */
  compare(place: CheckpointPlace, content: EventContent, batch: BatchSoFar): Promise<void>
  /** Counts ordinary events toward the next checkpoint; to be stored with them. */
  countEvents(count: number): StoreOperation[]
  /** What to publish now, if one is due. `isReconnect` when a session has just begun. */
  due(isReconnect: boolean): CheckpointBody | undefined
  published(): Promise<void>
  /** The device log and the chains as this device has verified them: of active devices first, then of those revoked last. */
  view(maxDevices?: number): CheckpointBody
  /** Everything there is has been read: what the device that let this one in had seen must be here. Throws alarms. */
  compareInvitedView(): Promise<void>
}

export interface CheckpointParts {
  readonly store: Store
  readonly clock: Clock
  readonly ownDeviceId: DeviceId
  readonly log: LocalLog
  readonly book: LogBook
  readonly epochKeys: Pick<EpochKeys, 'streamId'>
  /** 0 publishes none; those of others are compared all the same. */
  readonly everyEvents: number
  readDeviceLog(upTo: number): Promise<void>
  /** The chain this device sealed at a device_seq that has no receipt yet. */
  unreceiptedChain(deviceSeq: number): Uint8Array | undefined
}

const storedState = z.strictObject({ events: z.int().min(0), at_ms: z.int().min(0) })

/** What the device that let this one in had seen, to be kept until it can be compared. */
export const saveInvitedView = (inviter: DeviceId, view: CheckpointBody): StoreOperation =>
  put(storeKeys.invitedView, concatBytes(inviter, encodeCheckpoint(view)))

export const encodeCheckpoint = (body: CheckpointBody): Uint8Array => encode(body)

export function parseCheckpoint(body: Uint8Array): CheckpointBody | undefined {
  try {
    return checkpointBody.safeParse(decode(body)).data
  } catch {
    return undefined
  }
}

export async function openCheckpoints(parts: CheckpointParts): Promise<Checkpoints> {
  const { store, clock, ownDeviceId, log, book, everyEvents } = parts
  const stored = await store.get(storeKeys.checkpoint)
  let state = stored === undefined ? { events: 0, at_ms: clock.now() } : storedState.parse(decode(stored))

  /** This device's own knowledge of a device's chain at a device_seq, the batch in hand included. */
  const chainAt = async (deviceId: DeviceId, deviceSeq: number, batch: BatchSoFar): Promise<Uint8Array | undefined> => {
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

  /** The newest event of a device that this device had before the checkpoint's place. */
  const seenSeq = (deviceId: DeviceId, place: CheckpointPlace, batch: BatchSoFar): number => {
    const inBatch = batch.events
      .filter((event) => event.userSeq < place.userSeq && equalBytes(event.deviceId, deviceId))
      .at(-1)?.deviceSeq
    return inBatch ?? log.deviceHead(deviceId)?.deviceSeq ?? 0
  }

  const compareDevice = async (
    place: CheckpointPlace,
    [deviceId, deviceSeq, chain]: CheckpointBody['devices'][number],
    batch: BatchSoFar,
  ): Promise<void> => {
    const where = {
      user_seq: place.userSeq,
      by: formatUuid(place.deviceId),
      device: formatUuid(deviceId),
      device_seq: deviceSeq,
    }
    const device = findDevice(book.require(), deviceId)
    if (device === undefined) throw new AlarmError('checkpoint_contradiction', where)
    // One device may have seen what another did not: it is void for both.
    if (isBeyondCut(device, deviceSeq)) return
    if (await isOfLostLog(place, deviceId, deviceSeq)) return
    const own = await chainAt(deviceId, deviceSeq, batch)
    if (own !== undefined) {
      if (!equalBytes(own, chain)) throw new AlarmError('checkpoint_contradiction', where)
      return
    }
    if (isSameId(deviceId, ownDeviceId)) throw new AlarmError('device_cloned', where)
    // What the other had seen stood in the log before its checkpoint, so it must stand here too.
    const seen = seenSeq(deviceId, place, batch)
    if (deviceSeq > seen) throw new AlarmError('events_withheld', { ...where, seen })
  }

  /** Written before the log was restored, and about what it lost: it came again in another order, or not yet. */
  const isOfLostLog = async (place: CheckpointPlace, deviceId: DeviceId, deviceSeq: number): Promise<boolean> => {
    const { restored } = log.progress
    if (restored === undefined || place.writtenAtMs > restored.acceptedAtMs) return false
    const userSeq = await log.placeOf(deviceId, deviceSeq)
    return userSeq === undefined || userSeq > restored.through
  }

  const chainsSeen = (): CheckpointBody['devices'] => {
    const active: CheckpointBody['devices'] = []
    const revoked: CheckpointBody['devices'] = []
    for (const device of devicesOf(book.require())) {
      const { deviceId, status } = device
      const head: DeviceHead | undefined = log.deviceHead(deviceId)
      if (head === undefined) continue
      const seen: CheckpointBody['devices'][number] = [deviceId, head.deviceSeq, head.chain]
      if (status.type === 'active') active.push(seen)
      else if (!isBeyondCut(device, head.deviceSeq)) revoked.push(seen)
      else if (status.lastSeq > 0) revoked.push([deviceId, status.lastSeq, status.chain])
    }
    return [...active, ...revoked.reverse()]
  }

  const view = (maxDevices = MAX_DEVICES): CheckpointBody => {
    const { seq, head } = book.require()
    return { device_log_seq: seq, device_log_head: head, devices: chainsSeen().slice(0, maxDevices) }
  }

  const compareBody = async (place: CheckpointPlace, body: CheckpointBody, batch: BatchSoFar): Promise<void> => {
    const where = { user_seq: place.userSeq, by: formatUuid(place.deviceId) }
    const position = { seq: body.device_log_seq, head: body.device_log_head }
    if (book.compare(position) === 'ahead') await parts.readDeviceLog(position.seq)
    const comparison = book.compare(position)
    if (comparison === 'contradiction')
      throw new AlarmError('checkpoint_contradiction', { ...where, seq: position.seq })
    if (comparison === 'ahead') throw new AlarmError('device_log_shorter', { ...where, seq: position.seq })
    for (const device of body.devices) await compareDevice(place, device, batch)
  }

  const save = (next: typeof state): StoreOperation => {
    state = next
    return put(storeKeys.checkpoint, encode(next))
  }

  return {
    isCheckpoint: (event) => {
      const streamId = parts.epochKeys.streamId(CHECKPOINT_STREAM)
      return streamId !== undefined && toHex(streamId) === toHex(event.streamId)
    },
    compare: async (place, content, batch) => {
      const body = content.type === CHECKPOINT_TYPE ? parseCheckpoint(content.body) : undefined
      const where = { user_seq: place.userSeq, by: formatUuid(place.deviceId) }
      if (body === undefined) throw new AlarmError('checkpoint_invalid', where)
      await compareBody(place, body, batch)
    },
    countEvents: (count) => (count === 0 ? [] : [save({ ...state, events: state.events + count })]),
    due: (isReconnect) => {
      if (everyEvents === 0) return undefined
      const ageMs = clock.now() - state.at_ms
      // A last one in the future: the clock was put back since, and would be waited for.
      const isOld = ageMs >= MAX_AGE_MS || ageMs < 0
      if (state.events < everyEvents && !(isReconnect && isOld)) return undefined
      return view()
    },
    published: () => store.batch([save({ events: 0, at_ms: clock.now() })]),
    view,
    compareInvitedView: async () => {
      const stored = await store.get(storeKeys.invitedView)
      if (stored === undefined) return
      const inviter = toDeviceId(stored.subarray(0, 16))
      const body = parseCheckpoint(stored.subarray(16))
      if (inviter === undefined || body === undefined) {
        throw new AlarmError('store_damaged', { record: storeKeys.invitedView })
      }
      const place = { userSeq: log.progress.cursor, deviceId: inviter, writtenAtMs: clock.now() }
      await compareBody(place, body, { events: [] })
      await store.batch([del(storeKeys.invitedView)])
    },
  }
}
