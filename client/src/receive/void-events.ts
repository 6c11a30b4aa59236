// Events that a revocation or a suspension made void after they had been applied here: what the device wrote beyond its cut. They
// stay in their places in the local log, are handed to nobody any more, and the application is told which they were.

import {
  activeDevices,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  devicesOf,
  type EventId,
  equalBytes,
  findDevice,
  formatUuid,
  isActive,
  isBeyondCut,
  parseEvent,
  type StreamId,
} from '@valise/protocol'
import type { LogBook } from '../account/log-book.ts'
import { AlarmError } from '../alarm.ts'
import { createListeners } from '../signal.ts'
import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import type { LocalLog } from '../store/local-log.ts'
import { put, type Store } from '../store/store.ts'

/** An event that counts no more, though the application may have applied it. */
export interface VoidedEvent {
  readonly userSeq: number
  readonly streamSeq: number
  readonly deviceId: DeviceId
  readonly deviceSeq: number
  readonly eventId: EventId
  readonly streamId: StreamId
}

export interface VoidEvents {
  /** Calls with those known, then with those that a revocation adds. Returns the function that removes the listener. */
  add(listener: (events: readonly VoidedEvent[]) => void): () => void
  /** All events that this device holds beyond a cut, those it never showed included. */
  count(): Promise<number>
}

export interface VoidEventsParts {
  readonly store: Store
  readonly book: LogBook
  readonly log: LocalLog
  onFailure(error: unknown): void
}

export async function openVoidEvents({ store, book, log, onFailure }: VoidEventsParts): Promise<VoidEvents> {
  const listeners = createListeners<readonly VoidedEvent[]>(onFailure)
  const known: VoidedEvent[] = []
  for await (const [key] of store.range(keysUnder('voided/'))) known.push(...(await readVoided(log, counterOf(key))))

  /** What this device applied of a device that is cut off now, beyond the cut. Throws the alarm for another chain there. */
  const findApplied = async ({ deviceId, status }: DeviceState): Promise<VoidedEvent[]> => {
    if (status.type === 'active') return []
    const { lastSeq, chain } = status
    const own = lastSeq === 0 ? undefined : await log.chainAt(deviceId, lastSeq)
    if (own !== undefined && !equalBytes(own, chain)) {
      throw new AlarmError('chain_forked', { device: formatUuid(deviceId), device_seq: lastSeq })
    }
    const applied: VoidedEvent[] = []
    for await (const userSeq of log.eventsOfDevice(deviceId, lastSeq)) applied.push(...(await readVoided(log, userSeq)))
    return applied
  }

  book.onAppend(async (before, after) => {
    const voided: VoidedEvent[] = []
    for (const device of newlyCut(before, after)) voided.push(...(await findApplied(device)))
    return {
      also: voided.map(({ userSeq }) => put(storeKeys.voided(userSeq), new Uint8Array(0))),
      onStored: () => {
        known.push(...voided)
        if (voided.length > 0) listeners.emit(voided)
      },
    }
  })

  return {
    add: (listener) => {
      const remove = listeners.add(listener)
      if (known.length > 0) {
        try {
          listener([...known])
        } catch (error) {
          onFailure(error)
        }
      }
      return remove
    },
    count: async () => {
      let count = 0
      for (const { deviceId, status } of book.state === undefined ? [] : devicesOf(book.state)) {
        if (status.type === 'active') continue
        for await (const _userSeq of log.eventsOfDevice(deviceId, status.lastSeq)) count += 1
      }
      return count
    },
  }
}

function newlyCut(before: DeviceLogState | undefined, after: DeviceLogState): DeviceState[] {
  if (before === undefined) return []
  return activeDevices(before).flatMap(({ deviceId }) => {
    const device = findDevice(after, deviceId)
    return device === undefined || isActive(device) ? [] : [device]
  })
}

/** Whether an event of the local log counts, by the device log as it is now. */
export const isVoidEvent = (
  log: DeviceLogState | undefined,
  { deviceId, deviceSeq }: { readonly deviceId: DeviceId; readonly deviceSeq: number },
): boolean => {
  const device = findDevice(log, deviceId)
  return device !== undefined && isBeyondCut(device, deviceSeq)
}

/** None when the event's bytes expired: it was nothing to see any more. */
async function readVoided(log: LocalLog, userSeq: number): Promise<VoidedEvent[]> {
  const [held] = await log.read(undefined, userSeq - 1, 1)
  if (held?.userSeq !== userSeq) throw new AlarmError('store_damaged', { record: storeKeys.event(userSeq) })
  const { streamSeq, body } = held.record
  if (body.type === 'expired') return []
  const event = parseEvent(body.wire)
  if (event === undefined) throw new AlarmError('store_damaged', { record: storeKeys.event(userSeq) })
  const { deviceId, deviceSeq, eventId, streamId } = event
  return [{ userSeq, streamSeq, deviceId, deviceSeq, eventId, streamId }]
}
