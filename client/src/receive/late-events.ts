// Events that came after later ones had been applied: the server had passed them over. They stand at their own places in
// the local log. A reader that has gone past such a place is told, once it was there before the event was.

import { type DeviceId, type EventId, parseEvent, type StreamId } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { createListeners } from '../signal.ts'
import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import type { LocalLog } from '../store/local-log.ts'
import { encodeCounter, parseCounter } from '../store/records.ts'
import { put, type Store, type StoreOperation } from '../store/store.ts'

/** An event that stands before others that the application may have applied already. */
export interface LateEvent {
  readonly userSeq: number
  readonly streamSeq: number
  readonly deviceId: DeviceId
  readonly deviceSeq: number
  readonly eventId: EventId
  readonly streamId: StreamId
}

export interface LateEvents {
  /** Calls with those that come from now on. Returns the function that removes the listener. */
  add(listener: (events: readonly LateEvent[]) => void): () => void
  /** Those that came when a reader at this position could have gone past them. */
  passedBy(position: number): Promise<LateEvent[]>
  /** To be stored together with the events; the cursor is the one they came at. */
  operations(userSeqs: readonly number[], cursor: number): StoreOperation[]
  /** They are stored. */
  emit(userSeqs: readonly number[]): Promise<void>
}

export interface LateEventsParts {
  readonly store: Store
  readonly log: LocalLog
  onFailure(error: unknown): void
}

export function createLateEvents({ store, log, onFailure }: LateEventsParts): LateEvents {
  const listeners = createListeners<readonly LateEvent[]>(onFailure)

  const read = async (userSeq: number): Promise<LateEvent[]> => {
    const [held] = await log.read(undefined, userSeq - 1, 1)
    if (held?.userSeq !== userSeq) throw new AlarmError('store_damaged', { record: storeKeys.event(userSeq) })
    const { streamSeq, body } = held.record
    const event = body.type === 'stored' ? parseEvent(body.wire) : undefined
    if (event === undefined) return []
    const { deviceId, deviceSeq, eventId, streamId } = event
    return [{ userSeq, streamSeq, deviceId, deviceSeq, eventId, streamId }]
  }

  return {
    add: listeners.add,
    passedBy: async (position) => {
      const events: LateEvent[] = []
      for await (const [key, value] of store.range({ ...keysUnder('late/'), lte: storeKeys.late(position) })) {
        if (position <= parseCounter(key, value)) events.push(...(await read(counterOf(key))))
      }
      return events
    },
    operations: (userSeqs, cursor) => userSeqs.map((userSeq) => put(storeKeys.late(userSeq), encodeCounter(cursor))),
    emit: async (userSeqs) => {
      if (userSeqs.length > 0) listeners.emit((await Promise.all(userSeqs.map(read))).flat())
    },
  }
}
