// Announcements as bytes: version, kind, the origin's node id, then the kind's fields, big-endian and fixed. The user
// is named by the channel. Parsing is strict and never throws: one wrong byte of structure and the whole is refused.

import { createByteReader, fromHex, toHex } from '@valise/protocol'
import type { WholeItem } from '../db/queries/events.ts'
import type { TraceContext } from '../telemetry/tracing.ts'
import type { Announcement } from './bus.ts'

/** Items above this are left out: the receiver reads the log instead, and Redis carries no bulk. */
export const MAX_ANNOUNCED_ITEM_BYTES = 64 * 1024
export const NODE_ID_BYTES = 16
const GAP_ID_BYTES = 16

/** What travels: an announcement, or word that this origin could not send some (`gapId` tells one such word apart). */
export type BusMessage = Announcement | { readonly type: 'missed'; readonly gapId: Uint8Array }

const VERSION = 4
const HEADER_BYTES = 2 + NODE_ID_BYTES
const KIND = {
  events: 1,
  device_log: 2,
  device_revoked: 3,
  account_deleted: 4,
  session_superseded: 5,
  missed: 6,
  presence: 7,
  storage_notice: 8,
} as const satisfies Record<BusMessage['type'], number>

/** userSeq, streamSeq, storedAtMs, deviceId, deviceSeq, length of wire. */
const ITEM_FIXED_BYTES = 8 + 8 + 8 + 16 + 8 + 4
/** from, to, arrivedAtMs, what follows. */
const EVENTS_FIXED_BYTES = 8 + 8 + 8 + 1

/** What follows the fixed part, in this order. */
const FOLLOWS = { trace: 2, items: 1 } as const
const TRACE_ID_BYTES = 16
const SPAN_ID_BYTES = 8
const TRACE_BYTES = TRACE_ID_BYTES + SPAN_ID_BYTES
/** Of the longest message there is. */
export const MAX_MESSAGE_BYTES = HEADER_BYTES + EVENTS_FIXED_BYTES + TRACE_BYTES + MAX_ANNOUNCED_ITEM_BYTES

const itemBytes = (item: WholeItem): number => ITEM_FIXED_BYTES + item.wire.length

function fitting(items: readonly WholeItem[] | undefined): readonly WholeItem[] | undefined {
  let bytes = 0
  for (const item of items ?? []) bytes += itemBytes(item)
  return bytes > MAX_ANNOUNCED_ITEM_BYTES ? undefined : items
}

interface Cursor {
  readonly buffer: Buffer
  at: number
}

function putU64(cursor: Cursor, value: number): void {
  cursor.buffer.writeUInt32BE(Math.floor(value / 2 ** 32), cursor.at)
  cursor.buffer.writeUInt32BE(value % 2 ** 32, cursor.at + 4)
  cursor.at += 8
}

function putBytes(cursor: Cursor, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw new RangeError(`expected ${length} bytes`)
  cursor.buffer.set(bytes, cursor.at)
  cursor.at += length
}

function start(type: BusMessage['type'], origin: Uint8Array, bodyBytes: number): Cursor {
  const cursor: Cursor = { buffer: Buffer.allocUnsafe(HEADER_BYTES + bodyBytes), at: 2 }
  cursor.buffer[0] = VERSION
  cursor.buffer[1] = KIND[type]
  putBytes(cursor, origin, NODE_ID_BYTES)
  return cursor
}

function encodeEvents(message: Extract<BusMessage, { type: 'events' }>, origin: Uint8Array): Buffer {
  const { trace } = message
  const items = fitting(message.items)
  const fixedBytes = EVENTS_FIXED_BYTES + (trace === undefined ? 0 : TRACE_BYTES)
  const bodyBytes = (items ?? []).reduce((sum, item) => sum + itemBytes(item), fixedBytes)
  const cursor = start('events', origin, bodyBytes)
  putU64(cursor, message.from)
  putU64(cursor, message.to)
  putU64(cursor, message.arrivedAtMs)
  cursor.buffer[cursor.at++] = (trace === undefined ? 0 : FOLLOWS.trace) | (items === undefined ? 0 : FOLLOWS.items)
  if (trace !== undefined) {
    putBytes(cursor, fromHex(trace.traceId) ?? new Uint8Array(0), TRACE_ID_BYTES)
    putBytes(cursor, fromHex(trace.spanId) ?? new Uint8Array(0), SPAN_ID_BYTES)
  }
  for (const item of items ?? []) {
    putU64(cursor, item.userSeq)
    putU64(cursor, item.streamSeq)
    putU64(cursor, item.storedAtMs)
    putBytes(cursor, item.deviceId, 16)
    putU64(cursor, item.deviceSeq)
    cursor.at = cursor.buffer.writeUInt32BE(item.wire.length, cursor.at)
    putBytes(cursor, item.wire, item.wire.length)
  }
  return cursor.buffer
}

/** Ids of a wrong length are the caller's bug and throw a RangeError. */
export function encodeBusMessage(message: BusMessage, origin: Uint8Array): Buffer {
  switch (message.type) {
    case 'events':
      return encodeEvents(message, origin)
    case 'device_log': {
      const cursor = start(message.type, origin, 8)
      putU64(cursor, message.seq)
      return cursor.buffer
    }
    case 'device_revoked': {
      const cursor = start(message.type, origin, 16)
      putBytes(cursor, message.deviceId, 16)
      return cursor.buffer
    }
    case 'account_deleted':
      return start(message.type, origin, 0).buffer
    case 'session_superseded': {
      const cursor = start(message.type, origin, 16 + 8)
      putBytes(cursor, message.deviceId, 16)
      putU64(cursor, message.sessionNumber)
      return cursor.buffer
    }
    case 'presence': {
      const cursor = start(message.type, origin, 16 + 8 + 1 + 8)
      putBytes(cursor, message.deviceId, 16)
      putU64(cursor, message.sessionNumber)
      cursor.buffer[cursor.at++] = message.isOnline ? 1 : 0
      putU64(cursor, message.atMs)
      return cursor.buffer
    }
    case 'storage_notice': {
      const cursor = start(message.type, origin, 16 + 8)
      putBytes(cursor, message.deviceId, 16)
      putU64(cursor, message.bytes)
      return cursor.buffer
    }
    case 'missed': {
      const cursor = start(message.type, origin, GAP_ID_BYTES)
      putBytes(cursor, message.gapId, GAP_ID_BYTES)
      return cursor.buffer
    }
  }
}

type Reader = ReturnType<typeof createByteReader>

function readItem(reader: Reader): WholeItem {
  const userSeq = reader.u64()
  const streamSeq = reader.u64()
  const storedAtMs = reader.u64()
  const deviceId = reader.bytes(16)
  const deviceSeq = reader.u64()
  const wire = reader.prefixed(MAX_ANNOUNCED_ITEM_BYTES)
  return { userSeq, streamSeq, storedAtMs, deviceId, deviceSeq, wire }
}

const readTrace = (reader: Reader): TraceContext => ({
  traceId: toHex(reader.bytes(TRACE_ID_BYTES)),
  spanId: toHex(reader.bytes(SPAN_ID_BYTES)),
})

function readEvents(reader: Reader, userId: Uint8Array, end: number): BusMessage | undefined {
  const from = reader.u64()
  const to = reader.u64()
  const arrivedAtMs = reader.u64()
  const follows = reader.u8()
  if (reader.hasFailed() || follows > (FOLLOWS.trace | FOLLOWS.items) || from < 1 || from > to) return undefined
  const trace = (follows & FOLLOWS.trace) === 0 ? undefined : readTrace(reader)
  const grown = { type: 'events', userId, from, to, arrivedAtMs, trace } as const
  if ((follows & FOLLOWS.items) === 0) return { ...grown, items: undefined }
  const items: WholeItem[] = []
  let before = from - 1
  while (reader.offset() < end) {
    const item = readItem(reader)
    // A sealed event is never empty.
    const isWrong = item.userSeq <= before || item.userSeq > to || item.wire.length === 0
    if (reader.hasFailed() || isWrong) return undefined
    before = item.userSeq
    items.push(item)
  }
  return { ...grown, items }
}

function readPresence(reader: Reader, userId: Uint8Array): BusMessage | undefined {
  const deviceId = reader.bytes(16)
  const sessionNumber = reader.u64()
  const online = reader.u8()
  const atMs = reader.u64()
  return online > 1 ? undefined : { type: 'presence', userId, deviceId, sessionNumber, isOnline: online === 1, atMs }
}

function readBody(reader: Reader, kind: number, userId: Uint8Array, end: number): BusMessage | undefined {
  switch (kind) {
    case KIND.events:
      return readEvents(reader, userId, end)
    case KIND.device_log:
      return { type: 'device_log', userId, seq: reader.u64() }
    case KIND.device_revoked:
      return { type: 'device_revoked', userId, deviceId: reader.bytes(16) }
    case KIND.account_deleted:
      return { type: 'account_deleted', userId }
    case KIND.session_superseded:
      return { type: 'session_superseded', userId, deviceId: reader.bytes(16), sessionNumber: reader.u64() }
    case KIND.presence:
      return readPresence(reader, userId)
    case KIND.storage_notice:
      return { type: 'storage_notice', userId, deviceId: reader.bytes(16), bytes: reader.u64() }
    case KIND.missed:
      return { type: 'missed', gapId: reader.bytes(GAP_ID_BYTES) }
    default:
      return undefined
  }
}

/** The bytes of the result are views into `bytes`. `userId` is that of the channel. */
export function parseBusMessage(
  bytes: Uint8Array,
  userId: Uint8Array,
): { readonly origin: Uint8Array; readonly message: BusMessage } | undefined {
  if (bytes.length > MAX_MESSAGE_BYTES) return undefined
  const reader = createByteReader(bytes)
  if (reader.u8() !== VERSION) return undefined
  const kind = reader.u8()
  const origin = reader.bytes(NODE_ID_BYTES)
  const message = readBody(reader, kind, userId, bytes.length)
  return message !== undefined && reader.finish() ? { origin, message } : undefined
}
