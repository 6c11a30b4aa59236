// Takes this device's copy of the log back to where it and the server's agree, in one batch. What stood after it is not
// lost: own events wait to be sent again, byte for byte, and those of other devices are set aside until they come again.

import { type Crypto, type DeviceId, isSameId, type ParsedEvent, parseEvent, toHex } from '@valise/protocol'
import type { EpochKeys } from '../account/epoch-keys.ts'
import { PROFILE_STREAM } from '../account/profile.ts'
import { AlarmError } from '../alarm.ts'
import { CHECKPOINT_STREAM } from '../checkpoint.ts'
import { encodeSealedEvent } from '../publish/own-chain.ts'
import { FAULT_STREAM } from '../receive/fault-report.ts'
import { cutPruned } from '../receive/pruned-ranges.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { lifetimeEndMs } from '../store/expired-record.ts'
import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import {
  type DeviceHead,
  type EventRecord,
  encodeCounter,
  encodeDeviceHead,
  encodeLostEvent,
  encodeProgress,
  encodeStreamHead,
  parseCounter,
  parseDeviceEventEntry,
  parseEventRecord,
  type StreamHead,
} from '../store/records.ts'
import { del, put, type Store, type StoreOperation } from '../store/store.ts'
import { readStreamNames } from '../store/stream-names.ts'
import type { LostOwnEvent } from './reseal.ts'

export interface RebaseParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly crypto: Crypto
  readonly ownDeviceId: DeviceId
  readonly epochKeys: Pick<EpochKeys, 'streamId'>
  /** What replaces own events whose bytes are erased, and all behind them. */
  resealErased(lost: readonly LostOwnEvent[]): Promise<StoreOperation[]>
}

export interface RestoredLog {
  /** The last place at which both logs agree. */
  readonly through: number
  readonly logEpoch: Uint8Array
  readonly logEpochAtMs: number
  readonly acceptedAtMs: number
}

export interface Rebased {
  readonly through: number
  /** Own events that are sent again; those the server still has get their first receipt. */
  readonly ownEvents: number
  /** Events of other devices that are set aside until those devices, or the server, bring them again. */
  readonly otherEvents: number
}

/** Whoever had the store open opens it anew. Throws an `AlarmError` when the store is damaged. */
export async function rebaseLog(parts: RebaseParts, restored: RestoredLog): Promise<Rebased> {
  const { store, ownDeviceId } = parts
  const { through, logEpoch, logEpochAtMs, acceptedAtMs } = restored
  const names = await streamNames(parts)
  const heads = createHeads()
  const operations: StoreOperation[] = []
  const lostOwn: LostOwnEvent[] = []
  let otherEvents = 0

  for await (const [key, value] of store.range(keysUnder('event/'))) {
    const userSeq = counterOf(key)
    const record = parseEventRecord(key, value)
    const event = record.body.type === 'stored' ? parse(key, record.body.wire) : undefined
    if (userSeq <= through) {
      heads.note(userSeq, record, event)
      continue
    }
    const { deviceId, deviceSeq } = placeOf(record, event)
    operations.push(
      del(key),
      del(storeKeys.deviceEvent(deviceId, deviceSeq)),
      del(storeKeys.earlierPlace(userSeq)),
      del(storeKeys.voided(userSeq)),
      del(storeKeys.late(userSeq)),
    )
    const isOwn = isSameId(deviceId, ownDeviceId)
    if (event === undefined) {
      if (isOwn) lostOwn.push({ deviceSeq, streamName: PROFILE_STREAM, wire: undefined })
      continue
    }
    const lostKey = storeKeys.lostEvent(event.eventId)
    const endMs = lifetimeEndMs(record.storedAtMs, event)
    if (endMs !== undefined) {
      operations.push(del(storeKeys.expiry(endMs, key)), put(storeKeys.expiry(endMs, lostKey), new Uint8Array(0)))
    }
    operations.push(del(storeKeys.streamEvent(event.streamId, userSeq)))
    operations.push(put(lostKey, encodeLostEvent({ userSeq, record: isOwn ? undefined : value })))
    if (isOwn) {
      const hex = toHex(event.streamId)
      const streamName = names.get(hex) ?? hex
      const sealed = { position: undefined, streamName, wire: event.wire }
      operations.push(put(storeKeys.sealedEvent(deviceSeq), encodeSealedEvent(sealed)))
      lostOwn.push({ deviceSeq, streamName, wire: event.wire })
    } else otherEvents += 1
  }

  operations.push(
    ...(await parts.resealErased(lostOwn)),
    ...(await replaceUnder(store, 'device/', await heads.devices(store))),
    ...(await replaceUnder(store, 'stream/', heads.streams())),
    ...(await moveReadersBack(store, through)),
    ...(await cutPruned(store, through)),
    put(
      storeKeys.progress,
      encodeProgress({
        cursor: through,
        logEpoch,
        lastHole: heads.lastHole(through),
        holes: [],
        logEpochAtMs,
        acceptedAtMs,
      }),
    ),
    del(storeKeys.lostLog),
  )
  await store.batch(operations)
  return { through, ownEvents: lostOwn.length, otherEvents }
}

const parse = (key: string, wire: Uint8Array): ParsedEvent & { readonly wire: Uint8Array } => {
  const event = parseEvent(wire)
  if (event === undefined) throw new AlarmError('store_damaged', { record: key })
  return { ...event, wire }
}

const placeOf = ({ body }: EventRecord, event: ParsedEvent | undefined): { deviceId: DeviceId; deviceSeq: number } => {
  if (event !== undefined) return event
  if (body.type === 'expired') return body
  throw new Error('a stored event that was not parsed')
}

/** The newest event of each device and stream among those that stay. */
function createHeads() {
  const byDevice = new Map<string, { deviceId: DeviceId; deviceSeq: number; logSeq: number; userSeq: number }>()
  const byStream = new Map<string, { streamId: Uint8Array; head: StreamHead }>()
  let at = 0
  let lastHole = 0
  return {
    note: (userSeq: number, record: EventRecord, event: ParsedEvent | undefined): void => {
      const { deviceId, deviceSeq } = placeOf(record, event)
      const hex = toHex(deviceId)
      const logSeq = event?.logSeq ?? byDevice.get(hex)?.logSeq ?? 0
      byDevice.set(hex, { deviceId, deviceSeq, logSeq, userSeq })
      if (userSeq > at + 1) lastHole = userSeq - 1
      if (event === undefined) lastHole = userSeq
      else {
        const head = { streamSeq: record.streamSeq, userSeq }
        byStream.set(toHex(event.streamId), { streamId: event.streamId.slice(), head })
      }
      at = userSeq
    },
    lastHole: (through: number): number => (through > at ? through : lastHole),
    devices: async (store: Store): Promise<StoreOperation[]> => {
      const operations: StoreOperation[] = []
      for (const { deviceId, ...place } of byDevice.values()) {
        const key = storeKeys.deviceEvent(deviceId, place.deviceSeq)
        const stored = await store.get(key)
        if (stored === undefined) throw new AlarmError('store_damaged', { record: key })
        const head: DeviceHead = { ...place, chain: parseDeviceEventEntry(key, stored).chain }
        operations.push(put(storeKeys.deviceHead(deviceId), encodeDeviceHead(head)))
      }
      return operations
    },
    streams: (): StoreOperation[] =>
      [...byStream.values()].map(({ streamId, head }) => put(storeKeys.streamHead(streamId), encodeStreamHead(head))),
  }
}

/** Removes what is under the prefix and not put anew. */
async function replaceUnder(store: Store, prefix: string, puts: readonly StoreOperation[]): Promise<StoreOperation[]> {
  const kept = new Set(puts.map(({ key }) => key))
  const operations: StoreOperation[] = [...puts]
  for await (const [key] of store.range(keysUnder(prefix))) if (!kept.has(key)) operations.push(del(key))
  return operations
}

/** A reader who was further goes on here, and is not shown again what he had read. */
async function moveReadersBack(store: Store, through: number): Promise<StoreOperation[]> {
  const operations: StoreOperation[] = []
  for await (const [key, value] of store.range(keysUnder('position/'))) {
    const position = parseCounter(key, value)
    if (position <= through) continue
    const name = key.slice('position/'.length)
    operations.push(put(key, encodeCounter(through)), put(storeKeys.readBefore(name), encodeCounter(position)))
  }
  return operations
}

/** By stream id in hexadecimal: what this device published in has a name, if only the client's own. */
async function streamNames({ store, sealer, epochKeys }: RebaseParts): Promise<ReadonlyMap<string, string>> {
  const names = await readStreamNames({ store, sealer })
  for (const name of [CHECKPOINT_STREAM, PROFILE_STREAM, FAULT_STREAM]) {
    const streamId = epochKeys.streamId(name)
    if (streamId !== undefined) names.set(toHex(streamId), name)
  }
  return names
}
