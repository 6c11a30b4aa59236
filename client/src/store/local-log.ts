// The user's log as this device holds it: events, heads of devices and streams, progress. It answers from memory and
// changes in one batch at a time, so that events, chains and cursor are always stored together (P4).

import { type DeviceId, type EventLeaf, fromHex, type ParsedEvent, parseEvent, toHex } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { createPulse, type Pulse } from '../signal.ts'
import { lifetimeEndMs } from './expired-record.ts'
import { fillHole, isInHole } from './holes.ts'
import { counterOf, keysUnder, storeKeys } from './layout.ts'
import {
  type DeviceHead,
  type EventRecord,
  type Excuse,
  encodeCounter,
  encodeDeviceEventEntry,
  encodeDeviceHead,
  encodeEventRecord,
  encodeProgress,
  encodeStreamHead,
  type LostEvent,
  NO_PROGRESS,
  type Progress,
  parseCounter,
  parseDeviceEventEntry,
  parseDeviceHead,
  parseEventRecord,
  parseLostEvent,
  parseProgress,
  parseStreamHead,
  type StreamHead,
} from './records.ts'
import { del, put, type Store, type StoreOperation, type StoreRange } from './store.ts'

/** An event to be stored, with the chain of its device after it. */
export interface LogEvent {
  readonly userSeq: number
  readonly streamSeq: number
  readonly storedAtMs: number
  readonly deviceId: DeviceId
  readonly deviceSeq: number
  readonly chain: Uint8Array
  readonly body:
    | { readonly type: 'stored'; readonly wire: Uint8Array; readonly event: ParsedEvent }
    | { readonly type: 'expired'; readonly leaf: EventLeaf; readonly excuse: Excuse }
}

export interface LogChange {
  readonly events: readonly LogEvent[]
  readonly progress: Progress
  readonly deviceHeads: Iterable<{ readonly deviceId: DeviceId; readonly head: DeviceHead }>
  readonly streamHeads: Iterable<{ readonly streamId: Uint8Array; readonly head: StreamHead }>
  /** What must happen in the same batch. */
  readonly also: readonly StoreOperation[]
}

export interface HeldEvent {
  readonly userSeq: number
  /** Where it stood before the server lost it and it came again. */
  readonly earlierUserSeq: number | undefined
  readonly record: EventRecord
}

/** An event of this device that stands beyond the cursor. */
export interface AheadEvent {
  readonly userSeq: number
  readonly streamSeq: number
  readonly streamId: Uint8Array
}

export interface LocalLog {
  readonly progress: Progress
  deviceHead(deviceId: Uint8Array): DeviceHead | undefined
  /** Of positions up to the cursor. */
  streamHead(streamId: Uint8Array): StreamHead | undefined
  /** A stream that exists, if this device knows of one. */
  anyStream(): Uint8Array | undefined
  /** Own events beyond the cursor, in order. */
  ownAhead(): readonly AheadEvent[]
  /** Stores a change; an event at the place of a hole fills it. */
  commit(change: LogChange): Promise<void>
  /** Whether this device holds the event of a place. */
  isHeld(userSeq: number): boolean
  /** The events of a stream next to a place, of those held here. */
  streamNeighbours(streamId: Uint8Array, userSeq: number): Promise<{ before?: StreamHead; after?: StreamHead }>
  /** The user_seq of a device's event, if this device holds it. */
  placeOf(deviceId: Uint8Array, deviceSeq: number): Promise<number | undefined>
  /** Events of other devices that the server lost and that have not come again. */
  readonly lostCount: number
  /** Its record is gone from the store: it has outlived its lifetime. */
  forgetLost(eventId: Uint8Array | undefined): void
  /** Calls with the end of the soonest lifetime in each change that has one. */
  onLifetime(listener: (endMs: number) => void): void
  /** The chain of a device after one of its events, if this device holds that event. */
  chainAt(deviceId: Uint8Array, deviceSeq: number): Promise<Uint8Array | undefined>
  /** The user_seqs of what a device wrote after one of its events. */
  eventsOfDevice(deviceId: Uint8Array, afterDeviceSeq: number): AsyncIterable<number>
  /** In order, after a user_seq; of one stream, or of all. */
  read(streamId: Uint8Array | undefined, after: number, limit: number): Promise<HeldEvent[]>
  /** Fires after every change. */
  readonly changed: Pulse
}

export async function openLocalLog(store: Store, ownDeviceId: DeviceId): Promise<LocalLog> {
  const stored = await store.get(storeKeys.progress)
  let progress = stored === undefined ? NO_PROGRESS : parseProgress(storeKeys.progress, stored)
  const deviceHeads = new Map<string, DeviceHead>()
  const streamHeads = new Map<string, StreamHead>()
  const aheadByUserSeq = new Map<number, AheadEvent>()
  const ownHex = toHex(ownDeviceId)
  const changed = createPulse()
  const lifetimeListeners: ((endMs: number) => void)[] = []

  for await (const [key, value] of store.range(keysUnder('device/'))) {
    deviceHeads.set(key.slice('device/'.length), parseDeviceHead(key, value))
  }
  for await (const [key, value] of store.range(keysUnder('stream/'))) {
    streamHeads.set(key.slice('stream/'.length), parseStreamHead(key, value))
  }
  for await (const [key, value] of store.range({ ...keysUnder('event/'), gt: storeKeys.event(progress.cursor) })) {
    noteAhead(key, counterOf(key), parseEventRecord(key, value))
  }

  const lostByEvent = new Map<string, LostEvent>()
  const earlierByUserSeq = new Map<number, number>()
  for await (const [key, value] of store.range(keysUnder('lost/'))) {
    const { userSeq, record } = parseLostEvent(key, value)
    // Only that there is one: its bytes stay in the store.
    lostByEvent.set(key.slice('lost/'.length), { userSeq, record: record && new Uint8Array(0) })
  }
  for await (const [key, value] of store.range(keysUnder('earlier/'))) {
    earlierByUserSeq.set(counterOf(key), parseCounter(key, value))
  }

  function noteAhead(key: string, userSeq: number, { streamSeq, body }: EventRecord): void {
    const event = body.type === 'stored' ? parseEvent(body.wire) : undefined
    if (event === undefined) throw new AlarmError('store_damaged', { record: key })
    aheadByUserSeq.set(userSeq, { userSeq, streamSeq, streamId: event.streamId })
  }

  /** The events of a change that had been lost, with the places where they stood. */
  const findAgain = (events: readonly LogEvent[]) =>
    lostByEvent.size === 0
      ? []
      : events.flatMap(({ userSeq, body }) => {
          if (body.type !== 'stored') return []
          const hex = toHex(body.event.eventId)
          const lost = lostByEvent.get(hex)
          return lost === undefined ? [] : [{ userSeq, hex, eventId: body.event.eventId, earlier: lost.userSeq }]
        })

  const eventOperations = (event: LogEvent): StoreOperation[] => {
    const { userSeq, streamSeq, storedAtMs, deviceId, deviceSeq, chain, body } = event
    const record: EventRecord['body'] =
      body.type === 'stored' ? { type: 'stored', wire: body.wire } : { ...body, deviceId, deviceSeq }
    const operations = [
      put(storeKeys.event(userSeq), encodeEventRecord({ streamSeq, storedAtMs, body: record })),
      put(storeKeys.deviceEvent(deviceId, deviceSeq), encodeDeviceEventEntry({ userSeq, chain })),
    ]
    if (body.type === 'stored') {
      operations.push(put(storeKeys.streamEvent(body.event.streamId, userSeq), new Uint8Array(0)))
      const endMs = lifetimeEndMs(storedAtMs, body.event)
      if (endMs !== undefined)
        operations.push(put(storeKeys.expiry(endMs, storeKeys.event(userSeq)), new Uint8Array(0)))
    }
    return operations
  }

  const readStreamPlace = async (range: StoreRange): Promise<StreamHead | undefined> => {
    for await (const [key] of store.range(range)) {
      const userSeq = counterOf(key)
      const eventKey = storeKeys.event(userSeq)
      const value = await store.get(eventKey)
      if (value === undefined) throw new AlarmError('store_damaged', { record: eventKey })
      return { streamSeq: parseEventRecord(eventKey, value).streamSeq, userSeq }
    }
    return undefined
  }

  const toHeld = (userSeq: number, record: EventRecord): HeldEvent => ({
    userSeq,
    earlierUserSeq: earlierByUserSeq.get(userSeq),
    record,
  })

  return {
    get progress() {
      return progress
    },
    deviceHead: (deviceId) => deviceHeads.get(toHex(deviceId)),
    streamHead: (streamId) => streamHeads.get(toHex(streamId)),
    anyStream: () => {
      const [hex] = streamHeads.keys()
      return hex === undefined ? undefined : fromHex(hex)
    },
    ownAhead: () => [...aheadByUserSeq.values()].sort((a, b) => a.userSeq - b.userSeq),
    commit: async (change) => {
      const operations = change.events.flatMap(eventOperations)
      const again = findAgain(change.events)
      for (const { userSeq, eventId, earlier } of again) {
        operations.push(del(storeKeys.lostEvent(eventId)), put(storeKeys.earlierPlace(userSeq), encodeCounter(earlier)))
      }
      const newDeviceHeads = [...change.deviceHeads]
      const newStreamHeads = [...change.streamHeads]
      for (const { deviceId, head } of newDeviceHeads) {
        operations.push(put(storeKeys.deviceHead(deviceId), encodeDeviceHead(head)))
      }
      for (const { streamId, head } of newStreamHeads) {
        operations.push(put(storeKeys.streamHead(streamId), encodeStreamHead(head)))
      }
      const holes = change.events.reduce((left, { userSeq }) => fillHole(left, userSeq), change.progress.holes)
      const newProgress = { ...change.progress, holes }
      operations.push(put(storeKeys.progress, encodeProgress(newProgress)), ...change.also)
      await store.batch(operations)
      progress = newProgress
      for (const { userSeq, hex, earlier } of again) {
        lostByEvent.delete(hex)
        earlierByUserSeq.set(userSeq, earlier)
      }
      for (const { deviceId, head } of newDeviceHeads) deviceHeads.set(toHex(deviceId), head)
      for (const { streamId, head } of newStreamHeads) streamHeads.set(toHex(streamId), head)
      for (const { userSeq, streamSeq, deviceId, body } of change.events) {
        if (body.type !== 'stored' || toHex(deviceId) !== ownHex || userSeq <= progress.cursor) continue
        aheadByUserSeq.set(userSeq, { userSeq, streamSeq, streamId: body.event.streamId.slice() })
      }
      for (const userSeq of aheadByUserSeq.keys()) if (userSeq <= progress.cursor) aheadByUserSeq.delete(userSeq)
      const soonest = soonestEndMs(change.events)
      if (soonest !== undefined) for (const listener of lifetimeListeners) listener(soonest)
      changed.fire()
    },
    isHeld: (userSeq) =>
      userSeq <= progress.cursor ? !isInHole(progress.holes, userSeq) : aheadByUserSeq.has(userSeq),
    streamNeighbours: async (streamId, userSeq) => {
      const prefix = `by-stream/${toHex(streamId)}/`
      const at = storeKeys.streamEvent(streamId, userSeq)
      const before = await readStreamPlace({ ...keysUnder(prefix), lt: at, limit: 1, reverse: true })
      const after = await readStreamPlace({ ...keysUnder(prefix), gt: at, limit: 1 })
      return { ...(before && { before }), ...(after && { after }) }
    },
    placeOf: async (deviceId, deviceSeq) => {
      const key = storeKeys.deviceEvent(deviceId, deviceSeq)
      const value = await store.get(key)
      return value === undefined ? undefined : parseDeviceEventEntry(key, value).userSeq
    },
    get lostCount() {
      return [...lostByEvent.values()].filter(({ record }) => record !== undefined).length
    },
    forgetLost: (eventId) => {
      if (eventId !== undefined) lostByEvent.delete(toHex(eventId))
    },
    onLifetime: (listener) => {
      lifetimeListeners.push(listener)
    },
    chainAt: async (deviceId, deviceSeq) => {
      const key = storeKeys.deviceEvent(deviceId, deviceSeq)
      const value = await store.get(key)
      return value === undefined ? undefined : parseDeviceEventEntry(key, value).chain
    },
    eventsOfDevice: (deviceId, afterDeviceSeq) => readDeviceEvents(store, deviceId, afterDeviceSeq),
    read: async (streamId, after, limit) => {
      const held: HeldEvent[] = []
      if (streamId === undefined) {
        const range = { ...keysUnder('event/'), gt: storeKeys.event(after), limit }
        for await (const [key, value] of store.range(range)) {
          held.push(toHeld(counterOf(key), parseEventRecord(key, value)))
        }
        return held
      }
      const prefix = `by-stream/${toHex(streamId)}/`
      const range = { ...keysUnder(prefix), gt: storeKeys.streamEvent(streamId, after), limit }
      for await (const [key] of store.range(range)) {
        const userSeq = counterOf(key)
        const eventKey = storeKeys.event(userSeq)
        const value = await store.get(eventKey)
        if (value === undefined) throw new AlarmError('store_damaged', { record: eventKey })
        held.push(toHeld(userSeq, parseEventRecord(eventKey, value)))
      }
      return held
    },
    changed,
  }
}

function soonestEndMs(events: readonly LogEvent[]): number | undefined {
  const ends = events.flatMap(({ storedAtMs, body }) =>
    body.type === 'stored' ? (lifetimeEndMs(storedAtMs, body.event) ?? []) : [],
  )
  return ends.length === 0 ? undefined : Math.min(...ends)
}

async function* readDeviceEvents(store: Store, deviceId: Uint8Array, after: number): AsyncGenerator<number> {
  const prefix = `by-device/${toHex(deviceId)}/`
  const range = { ...keysUnder(prefix), gt: storeKeys.deviceEvent(deviceId, after) }
  for await (const [key, value] of store.range(range)) yield parseDeviceEventEntry(key, value).userSeq
}
