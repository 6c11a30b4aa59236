// What the store's unsealed records hold, as bytes. A record that does not parse is the alarm `store_damaged`.

import { createByteReader, createByteWriter, type DeviceId, type EventLeaf, toDeviceId } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import type { Hole } from './holes.ts'

/** What the bytes of an event were missing for when this device came for it. */
export type Excuse =
  /** Its lifetime had ended, by the server's time. */
  | 'lifetime'
  /** It lay in a range that the server said to have pruned for age or quota. */
  | 'pruned'

/** The position in the list is what is stored. */
const EXCUSES: readonly Excuse[] = ['lifetime', 'pruned']

/** One event of the user's log as this device keeps it; of one whose bytes were gone when it came, what the chain covers. */
export interface EventRecord {
  readonly streamSeq: number
  readonly storedAtMs: number
  readonly body:
    | { readonly type: 'stored'; readonly wire: Uint8Array }
    | {
        readonly type: 'expired'
        readonly deviceId: DeviceId
        readonly deviceSeq: number
        readonly leaf: EventLeaf
        readonly excuse: Excuse
      }
}

export function encodeEventRecord({ streamSeq, storedAtMs, body }: EventRecord): Uint8Array {
  const writer = createByteWriter()
    .u8(body.type === 'stored' ? 1 : 2)
    .u64(streamSeq)
    .u64(storedAtMs)
  if (body.type === 'stored') return writer.prefixed(body.wire).finish()
  const { deviceId, deviceSeq, leaf, excuse } = body
  writer.bytes(deviceId).u64(deviceSeq).u8(EXCUSES.indexOf(excuse))
  return writer.u32(leaf.ttlS).u8(leaf.flags).bytes(leaf.inner).finish()
}

export function parseEventRecord(key: string, bytes: Uint8Array): EventRecord {
  const reader = createByteReader(bytes)
  const kind = reader.u8()
  const streamSeq = reader.u64()
  const storedAtMs = reader.u64()
  if (kind === 1) {
    const wire = reader.prefixed(bytes.length)
    if (reader.finish()) return { streamSeq, storedAtMs, body: { type: 'stored', wire } }
  }
  if (kind === 2) {
    const deviceId = toDeviceId(reader.bytes(16))
    const deviceSeq = reader.u64()
    const excuse = EXCUSES[reader.u8()]
    const leaf = { ttlS: reader.u32(), flags: reader.u8(), inner: reader.bytes(32) }
    if (reader.finish() && deviceId !== undefined && excuse !== undefined) {
      return { streamSeq, storedAtMs, body: { type: 'expired', deviceId, deviceSeq, leaf, excuse } }
    }
  }
  throw new AlarmError('store_damaged', { record: key })
}

/** The newest event of a device: its number, the chain after it, the log seq it named, where it stands. */
export interface DeviceHead {
  readonly deviceSeq: number
  readonly chain: Uint8Array
  readonly logSeq: number
  readonly userSeq: number
}

export const encodeDeviceHead = (head: DeviceHead): Uint8Array =>
  createByteWriter().u64(head.deviceSeq).bytes(head.chain).u64(head.logSeq).u64(head.userSeq).finish()

export function parseDeviceHead(key: string, bytes: Uint8Array): DeviceHead {
  const reader = createByteReader(bytes)
  const head = { deviceSeq: reader.u64(), chain: reader.bytes(32), logSeq: reader.u64(), userSeq: reader.u64() }
  if (!reader.finish()) throw new AlarmError('store_damaged', { record: key })
  return head
}

export interface StreamHead {
  readonly streamSeq: number
  readonly userSeq: number
}

export const encodeStreamHead = (head: StreamHead): Uint8Array =>
  createByteWriter().u64(head.streamSeq).u64(head.userSeq).finish()

export function parseStreamHead(key: string, bytes: Uint8Array): StreamHead {
  const reader = createByteReader(bytes)
  const head = { streamSeq: reader.u64(), userSeq: reader.u64() }
  if (!reader.finish()) throw new AlarmError('store_damaged', { record: key })
  return head
}

/** Where one event of a device stands, and the device's chain after it. */
export interface DeviceEventEntry {
  readonly userSeq: number
  readonly chain: Uint8Array
}

export const encodeDeviceEventEntry = (entry: DeviceEventEntry): Uint8Array =>
  createByteWriter().u64(entry.userSeq).bytes(entry.chain).finish()

export function parseDeviceEventEntry(key: string, bytes: Uint8Array): DeviceEventEntry {
  const reader = createByteReader(bytes)
  const entry = { userSeq: reader.u64(), chain: reader.bytes(32) }
  if (!reader.finish()) throw new AlarmError('store_damaged', { record: key })
  return entry
}

/** How far this device has the user's log. */
export interface Progress {
  readonly cursor: number
  /** The history the cursor belongs to; `undefined` until the first session. */
  readonly logEpoch: Uint8Array | undefined
  /** The highest user_seq up to the cursor that this device holds nothing readable of. */
  readonly lastHole: number
  /** The places up to the cursor that this device holds nothing of, in order. */
  readonly holes: readonly Hole[]
  /** When that history began, Unix milliseconds by the server's database; as it was first told, for it never changes. */
  readonly logEpochAtMs: number
  /** When this device's user last accepted a log that had lost events, Unix milliseconds; 0 = never. */
  readonly acceptedAtMs: number
}

export const NO_PROGRESS: Progress = {
  cursor: 0,
  logEpoch: undefined,
  lastHole: 0,
  holes: [],
  logEpochAtMs: 0,
  acceptedAtMs: 0,
}

export function encodeProgress(progress: Progress): Uint8Array {
  const { cursor, logEpoch, lastHole, holes, logEpochAtMs, acceptedAtMs } = progress
  const writer = createByteWriter()
    .u64(cursor)
    .prefixed(logEpoch ?? new Uint8Array(0))
    .u64(lastHole)
    .u64(logEpochAtMs)
    .u64(acceptedAtMs)
    .u64(holes.length)
  for (const { from, to } of holes) writer.u64(from).u64(to)
  return writer.finish()
}

export function parseProgress(key: string, bytes: Uint8Array): Progress {
  const reader = createByteReader(bytes)
  const cursor = reader.u64()
  const logEpoch = reader.prefixed(16)
  const lastHole = reader.u64()
  const logEpochAtMs = reader.u64()
  const acceptedAtMs = reader.u64()
  const holes: Hole[] = []
  const holeCount = Math.min(reader.u64(), bytes.length)
  for (let i = 0; i < holeCount; i++) holes.push({ from: reader.u64(), to: reader.u64() })
  if (!reader.finish() || (logEpoch.length !== 0 && logEpoch.length !== 16)) {
    throw new AlarmError('store_damaged', { record: key })
  }
  return {
    cursor,
    logEpoch: logEpoch.length === 0 ? undefined : logEpoch,
    lastHole,
    holes,
    logEpochAtMs,
    acceptedAtMs,
  }
}

/** An event that stood in the log the server lost; without its record it is one of this device's own. */
export interface LostEvent {
  readonly userSeq: number
  readonly record: Uint8Array | undefined
}

export const encodeLostEvent = ({ userSeq, record }: LostEvent): Uint8Array =>
  createByteWriter()
    .u64(userSeq)
    .prefixed(record ?? new Uint8Array(0))
    .finish()

export function parseLostEvent(key: string, bytes: Uint8Array): LostEvent {
  const reader = createByteReader(bytes)
  const userSeq = reader.u64()
  const record = reader.prefixed(bytes.length)
  if (!reader.finish()) throw new AlarmError('store_damaged', { record: key })
  return { userSeq, record: record.length === 0 ? undefined : record }
}

export const encodeCounter = (value: number): Uint8Array => createByteWriter().u64(value).finish()

export function parseCounter(key: string, bytes: Uint8Array): number {
  const reader = createByteReader(bytes)
  const value = reader.u64()
  if (!reader.finish()) throw new AlarmError('store_damaged', { record: key })
  return value
}
