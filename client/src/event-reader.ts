// Reads events out of the local log: opened, in user_seq order, without the streams the client keeps for itself.
// Everything here was verified before it was stored.

import {
  type DeviceId,
  type EventId,
  isSameId,
  type ParsedEvent,
  parseEvent,
  type StreamId,
  toHex,
} from '@valise/protocol'
import type { EpochKeys } from './account/epoch-keys.ts'
import { AlarmError, ClientStoppedError, refusedFor } from './alarm.ts'
import type { EventContent } from './sealing/content.ts'
import { openContent } from './sealing/open-content.ts'
import { isOver } from './store/expired-record.ts'
import { storeKeys } from './store/layout.ts'
import type { HeldEvent, LocalLog } from './store/local-log.ts'

export interface ReceivedEvent {
  readonly userSeq: number
  readonly streamSeq: number
  readonly storedAtMs: number
  readonly deviceId: DeviceId
  readonly deviceSeq: number
  readonly eventId: EventId
  readonly streamId: StreamId
  readonly content: EventContent
  readonly isOwn: boolean
}

export interface ReadOptions {
  /** A user_seq: only what stands after it. */
  readonly after?: number
  /** Also what this device published, in its place in the log. */
  readonly includeOwn?: boolean
  /** How far the reader had read of a log that the server lost: what of it comes again is left out. */
  readonly readBefore?: number
  readonly signal?: AbortSignal
}

export interface EventReader {
  /**
   * What is stored, then what comes, until the signal aborts or `stopped` answers. Rejects before an event whose content only
   * a newer program can read: that event and those after it are for that program.
   */
  follow(streamName: string | undefined, options: ReadOptions): AsyncIterable<ReceivedEvent>
  /** What is stored now, own events included, without those that only a newer program can read. */
  stored(streamName: string): AsyncIterable<ReceivedEvent>
}

export interface EventReaderParts {
  readonly ownDeviceId: DeviceId
  readonly log: LocalLog
  readonly epochKeys: EpochKeys
  /** True for an event that counts no more, or that is held back: it is passed over. */
  isHidden(event: Pick<ParsedEvent, 'deviceId' | 'deviceSeq'>): boolean
  /** The server's time: what has outlived its lifetime is not shown, erased or not (RET-9). */
  nowMs(): number
  /** Streams that `follow` without a name leaves out. */
  readonly ownStreams: readonly string[]
  /** True while own events may still appear below what is stored. */
  hasUnreceipted(): boolean
  /** Why nothing more will come: an error to throw, or null for a quiet end. */
  stopped(): Error | null | undefined
}

const PAGE = 64

type HeldContent = Omit<ReceivedEvent, 'content'> & { readonly content: EventContent | undefined }

const isReadable = (event: HeldContent): event is ReceivedEvent => event.content !== undefined

export function createEventReader(parts: EventReaderParts): EventReader {
  const { ownDeviceId, log, epochKeys } = parts

  /** With `content` undefined: it is of a newer program. `undefined`: nothing is to be shown. */
  const open = ({ userSeq, record }: HeldEvent): HeldContent | undefined => {
    if (record.body.type === 'expired') return undefined
    const event: ParsedEvent | undefined = parseEvent(record.body.wire)
    const isPassedOver =
      event !== undefined && (parts.isHidden(event) || isOver(record.storedAtMs, event, parts.nowMs()))
    if (isPassedOver) return undefined
    const key = event && epochKeys.contentKey(event.epoch)
    const opened = event && key && openContent(key, event)
    if (event === undefined || opened === undefined || opened.type === 'fault') {
      throw new AlarmError('store_damaged', { record: storeKeys.event(userSeq) })
    }
    if (opened.type === 'nothing') return undefined
    const { deviceId, deviceSeq, eventId, streamId } = event
    const { streamSeq, storedAtMs } = record
    const isOwn = isSameId(deviceId, ownDeviceId)
    const content = opened.type === 'content' ? opened.content : undefined
    return { userSeq, streamSeq, storedAtMs, deviceId, deviceSeq, eventId, streamId, content, isOwn }
  }

  /** Up to here the order is final: own events without receipt stand after the newest one that has one (ORD-4). */
  const settledUpTo = (includeOwn: boolean): number => {
    const { cursor } = log.progress
    if (!includeOwn || !parts.hasUnreceipted()) return cursor
    return Math.min(cursor, log.deviceHead(ownDeviceId)?.userSeq ?? 0)
  }

  async function* follow(streamName: string | undefined, options: ReadOptions): AsyncGenerator<ReceivedEvent> {
    const { after = 0, includeOwn = false, readBefore = 0, signal } = options
    let position = after
    while (signal?.aborted !== true) {
      const changesBefore = log.changed.count
      const limit = settledUpTo(includeOwn)
      const streamId = streamName === undefined ? undefined : epochKeys.streamId(streamName)
      const isUnknown = streamName !== undefined && streamId === undefined
      const held = isUnknown ? [] : await log.read(streamId, position, PAGE)
      const settled = held.filter(({ userSeq }) => userSeq <= limit)
      const hidden = new Set(streamName === undefined ? parts.ownStreams.map(toStreamHex) : [])
      for (const candidate of settled) {
        position = candidate.userSeq
        if (candidate.earlierUserSeq !== undefined && candidate.earlierUserSeq <= readBefore) continue
        const event = open(candidate)
        if (event === undefined || (event.isOwn && !includeOwn) || hidden.has(toHex(event.streamId))) continue
        if (!isReadable(event)) throw new ClientStoppedError(refusedFor('update_needed'))
        yield event
        if (isAborted(signal)) return
      }
      if (settled.length === PAGE) continue
      const stopped = parts.stopped()
      if (stopped === null) return
      if (stopped !== undefined) throw stopped
      if (log.changed.count === changesBefore) await log.changed.next(signal).catch(() => {})
    }
  }

  const toStreamHex = (name: string): string => {
    const id = epochKeys.streamId(name)
    return id === undefined ? '' : toHex(id)
  }

  async function* stored(streamName: string): AsyncGenerator<ReceivedEvent> {
    const streamId = epochKeys.streamId(streamName)
    if (streamId === undefined) return
    for (let position = 0; ; ) {
      const held = await log.read(streamId, position, PAGE)
      for (const candidate of held) {
        position = candidate.userSeq
        const event = open(candidate)
        if (event !== undefined && isReadable(event)) yield event
      }
      if (held.length < PAGE) return
    }
  }

  return { follow, stored }
}

const isAborted = (signal: AbortSignal | undefined): boolean => signal?.aborted === true
