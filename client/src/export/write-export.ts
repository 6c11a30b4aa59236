// Writes everything that a device holds and can read: its account's device log, and every event open and sealed, with the
// key of that event alone, so that the file can be checked without a server and opens nothing that is not in it.

import {
  type Crypto,
  decodeUtf8,
  encodeUtf8,
  findDevice,
  formatUuid,
  type ParsedEvent,
  parseEvent,
  toBase64Url,
  toHex,
  verifyEventSignature,
} from '@valise/protocol'
import { PROFILE_STREAM } from '../account/profile.ts'
import { AlarmError, ClientStoppedError, refusedFor } from '../alarm.ts'
import { CHECKPOINT_STREAM } from '../checkpoint.ts'
import type { Clock } from '../clock.ts'
import type { DeviceParts } from '../device-parts.ts'
import { FAULT_STREAM } from '../receive/fault-report.ts'
import { isVoidEvent } from '../receive/void-events.ts'
import type { EventContent } from '../sealing/content.ts'
import { eventSubkey } from '../sealing/event-subkey.ts'
import { openContent } from '../sealing/open-content.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { expireRecord, isOver } from '../store/expired-record.ts'
import { keysUnder, storeKeys } from '../store/layout.ts'
import type { HeldEvent } from '../store/local-log.ts'
import type { Store } from '../store/store.ts'
import { readStreamNames } from '../store/stream-names.ts'
import { formatExportLine, type WrittenContent, type WrittenLine } from './export-lines.ts'

export interface ExportParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly crypto: Crypto
  readonly clock: Clock
  readonly device: DeviceParts
  /** Streams to be named although this device never used them. */
  readonly streamNames: readonly string[]
}

const PAGE = 64
const EXPORT_ID_BYTES = 16

/** Lines, without their ends, of a device whose client has stopped. Holds a page of events at a time. */
export async function* writeExport(parts: ExportParts): AsyncGenerator<string> {
  const { store, crypto, clock, device } = parts
  const { book, localLog, identity } = device
  const log = book.require()
  const counts = { device_log_entries: 0, events: 0, leaf: 0, void: 0, held: 0 }
  let check = new Uint8Array(32)
  const write = (written: WrittenLine): string => {
    const text = formatExportLine(written)
    check = nextCheck(crypto, check, text)
    return text
  }
  yield write({
    type: 'valise_export',
    version: 2,
    export_id: toHex(crypto.randomBytes(EXPORT_ID_BYTES)),
    exported_at: clock.now(),
    user_id: toHex(log.userId),
    device_id: formatUuid(identity.deviceId),
  })
  for await (const [, entry] of store.range(keysUnder('log/'))) {
    yield write({ type: 'device_log', seq: counts.device_log_entries, entry: toBase64Url(entry) })
    counts.device_log_entries += 1
  }
  const nameByStream = await nameStreams(parts)
  for (let after = 0; ; ) {
    const page = await localLog.read(undefined, after, PAGE)
    for (const held of page) {
      const line = toLine(crypto, device, nameByStream, hideExpired(crypto, held, device.serverTime.now()))
      yield write(line)
      counts[line.type === 'event' ? 'events' : line.type] += 1
    }
    after = page.at(-1)?.userSeq ?? after
    if (page.length < PAGE) break
  }
  yield formatExportLine({ type: 'end', ...counts, check: toHex(check) })
}

/** c_n of the file's running hash. */
export function nextCheck(crypto: Crypto, check: Uint8Array, text: string): Uint8Array<ArrayBuffer> {
  const line = encodeUtf8(text)
  const input = new Uint8Array(check.length + line.length)
  input.set(check)
  input.set(line, check.length)
  return new Uint8Array(crypto.sha256(input))
}

/** By stream id in hexadecimal: those this device used, those asked for, and those of the client itself. */
async function nameStreams({ store, sealer, device, streamNames }: ExportParts): Promise<Map<string, string>> {
  const names = await readStreamNames({ store, sealer })
  for (const name of [CHECKPOINT_STREAM, PROFILE_STREAM, FAULT_STREAM, ...streamNames]) {
    const streamId = device.epochKeys.streamId(name)
    if (streamId !== undefined) names.set(toHex(streamId), name)
  }
  return names
}

/** What has outlived its lifetime is left out, erased or not (RET-9). */
function hideExpired(crypto: Crypto, held: HeldEvent, nowMs: number): HeldEvent {
  const { userSeq, record } = held
  const event = record.body.type === 'stored' ? parseEvent(record.body.wire) : undefined
  if (event === undefined || !isOver(record.storedAtMs, event, nowMs)) return held
  return { ...held, record: expireRecord(crypto, storeKeys.event(userSeq), record) }
}

function toLine(
  crypto: Crypto,
  { book, epochKeys, holds }: DeviceParts,
  nameByStream: ReadonlyMap<string, string>,
  { userSeq, record }: HeldEvent,
): Extract<WrittenLine, { type: 'event' | 'leaf' | 'void' | 'held' }> {
  const { streamSeq, storedAtMs, body } = record
  const place = { user_seq: userSeq, stream_seq: streamSeq, stored_at: storedAtMs }
  if (body.type === 'expired') {
    const { deviceId, deviceSeq, leaf, excuse } = body
    const covered = { ttl_s: leaf.ttlS, flags: leaf.flags, inner: toHex(leaf.inner) }
    return { type: 'leaf', ...place, device_id: formatUuid(deviceId), device_seq: deviceSeq, ...covered, excuse }
  }
  const event = parseEvent(body.wire)
  if (event !== undefined && isVoidEvent(book.state, event)) {
    return { type: 'void', ...place, wire: toBase64Url(body.wire) }
  }
  if (event !== undefined && (holds.standing.isHeld(event) || !isSigned(crypto, book, event))) {
    return { type: 'held', ...place, wire: toBase64Url(body.wire) }
  }
  const key = event && epochKeys.contentKey(event.epoch)
  const opened = event && key && openContent(key, event)
  if (event === undefined || key === undefined || opened === undefined || opened.type === 'fault') {
    throw new AlarmError('store_damaged', { record: storeKeys.event(userSeq) })
  }
  if (opened.type === 'unknown_version') throw new ClientStoppedError(refusedFor('update_needed'))
  const content = opened.type === 'content' ? opened.content : undefined
  return {
    type: 'event',
    ...place,
    device_id: formatUuid(event.deviceId),
    device_seq: event.deviceSeq,
    event_id: formatUuid(event.eventId),
    stream: nameByStream.get(toHex(event.streamId)) ?? null,
    stream_id: toHex(event.streamId),
    ttl_s: event.ttlS,
    size: content?.body.length ?? 0,
    content: content === undefined ? null : toWrittenContent(content),
    key: toBase64Url(eventSubkey(key, event)),
    wire: toBase64Url(body.wire),
  }
}

/** An event whose own signature is wrong was proved by a later one; by itself it proves nothing to who checks the file. */
const isSigned = (crypto: Crypto, book: DeviceParts['book'], event: ParsedEvent): boolean => {
  const device = findDevice(book.state, event.deviceId)
  return device !== undefined && verifyEventSignature(crypto, device.record.edPub, event)
}

function toWrittenContent({ type, atMs, body }: EventContent): WrittenContent {
  const text = decodeUtf8(body)
  return text === undefined ? { type, at: atMs, base64url: toBase64Url(body) } : { type, at: atMs, text }
}
