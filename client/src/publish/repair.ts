// Repairs the run of sealed events after a refusal: seals them again under the newest device log, or puts a tombstone in
// the place of one that is refused for good and keeps its content (ORD-6, REF-2). Its methods run in the client's lane.

import { type ChainPosition, type ErrorCode, type EventId, equalBytes, errorEntry } from '@valise/protocol'
import type { LogBook } from '../account/log-book.ts'
import { AlarmError } from '../alarm.ts'
import type { Clock } from '../clock.ts'
import type { ServerTime } from '../server-time.ts'
import type { LocalLog } from '../store/local-log.ts'
import type { StoreOperation } from '../store/store.ts'
import type { Outbox } from './outbox.ts'
import type { OwnChain, SealedItem } from './own-chain.ts'
import { draftTombstone, redraft } from './redraft.ts'
import { hasOutlived, judgeClaim, refusalAlarm } from './refusals.ts'
import type { RefusedContent, RefusedItem } from './refused-content.ts'
import { type Draft, type SealingParts, sealRun } from './sealing-run.ts'
import type { Repair } from './send-window.ts'

/** An event that was refused for good and replaced by an empty one; its content is kept (REF-2). */
export interface PublishRefusal {
  readonly eventId: EventId
  readonly streamName: string
  readonly code: ErrorCode
  /** Fit to show to a person. */
  readonly text: string
  /** False for an event that was stored once, was lost by the server, and has outlived its lifetime since. */
  readonly isKept: boolean
}

export interface RepairParts extends SealingParts {
  readonly clock: Clock
  readonly serverTime: Pick<ServerTime, 'now'>
  readonly outbox: Outbox
  readonly refusedContent: RefusedContent
  readonly chain: OwnChain
  readonly log: LocalLog
  readonly book: LogBook
  /** Reads the device log and epoch keys anew. */
  refreshDeviceLog(): Promise<void>
  /** What a checkpoint that is sealed now names. */
  checkpointList(): readonly ChainPosition[] | undefined
  onRefusal(refusal: PublishRefusal): void
  /** The server ends a lifetime that by its own time has not ended: the next session is to say its time again. */
  onTimeDoubted(): void
  /** The outbox or the window became shorter. */
  onSettled(): void
}

export interface Repairer {
  /**
   * Throws the alarm for a refusal whose claim cannot be true; `given_up` when the session is ended over it; `waiting` until
   * the key of the epoch is there.
   */
  repair(
    repair: Exclude<Repair, { type: 'send_again' }>,
    session: { readonly maxPayload: number },
  ): Promise<'repaired' | 'given_up' | 'waiting'>
}

export function createRepairer(
  parts: RepairParts & {
    /** False while the key of the epoch is missing. */
    canSeal(): boolean
    /** These follow or replace those from their first device_seq on. */
    onSealed(items: readonly SealedItem[]): void
  },
): Repairer {
  const { clock, outbox, refusedContent, chain, log, book } = parts
  let isTimeDoubted = false

  const isKnownStream = (streamId: Draft['streamId']): boolean =>
    log.streamHead(streamId) !== undefined || log.ownAhead().some((own) => equalBytes(own.streamId, streamId))

  const isClaimPossible = (item: SealedItem, code: ErrorCode, maxPayload: number): boolean => {
    // A log that was restored without a word keeps its epoch; then only this device's user has said so.
    const restoredAtMs = Math.max(log.progress.logEpochAtMs, log.progress.acceptedAtMs)
    const facts = { maxPayload, nowMs: parts.serverTime.now(), restoredAtMs, isKnownStream }
    const verdict = judgeClaim(code, item.event, facts)
    if (verdict === 'denied') throw refusalAlarm('truth_refused', item.deviceSeq, code)
    const isFalse = verdict === 'false' || (verdict === 'ask_time' && isTimeDoubted)
    if (isFalse) throw refusalAlarm('refusal_false', item.deviceSeq, code)
    isTimeDoubted = verdict === 'ask_time'
    if (isTimeDoubted) parts.onTimeDoubted()
    return verdict === 'possible'
  }

  /** What is kept of an event that a tombstone replaces. */
  const toKept = async (item: SealedItem, code: ErrorCode): Promise<RefusedItem | undefined> => {
    // One that was stored once has had its lifetime, and is not to outlive it here.
    if (item.event.isKept || (item.position === undefined && code === 'event_expired')) return undefined
    const { eventId, streamName, ttlS, content } = await redraft(parts, item)
    return content === undefined ? undefined : { eventId, streamName, ttlS, content, code }
  }

  /** Reads what the server shows now; throws the alarm when it denies what it showed. */
  const refresh = async (code: ErrorCode, first: SealedItem): Promise<void> => {
    await parts.refreshDeviceLog()
    const { epoch, seq } = book.require()
    const { logSeq } = first.event
    // Sealed under the newest epoch that the server shows, or under an entry that it has shown: it denies its own log.
    const isDenied = code === 'stale_epoch' ? epoch.logSeq <= logSeq : logSeq <= seq
    if (isDenied) throw new AlarmError('device_log_shorter', { seq })
  }

  const itemsFrom = (first: SealedItem): SealedItem[] =>
    chain.unreceipted.filter((item) => item.deviceSeq >= first.deviceSeq)

  const replaceFrom = async (
    first: SealedItem,
    drafts: readonly Draft[],
    also: readonly StoreOperation[],
  ): Promise<void> => {
    const end = { deviceSeq: first.deviceSeq - 1, chain: first.event.chainPrev }
    const sealed = await sealRun(parts, book.require(), end, drafts)
    await chain.save(sealed, also)
    parts.onSealed(sealed)
  }

  /** Where one lifetime ended before its event was stored, those of others may have: one repair is enough for all. */
  const bury = async (code: ErrorCode, first: SealedItem): Promise<void> => {
    const nowMs = parts.serverTime.now()
    const drafts: Draft[] = []
    const buried: { readonly item: SealedItem; readonly kept: RefusedItem | undefined }[] = []
    for (const item of itemsFrom(first)) {
      const isBuried =
        item === first || (code === 'event_expired' && !item.event.isTombstone && hasOutlived(item.event, nowMs))
      drafts.push(isBuried ? draftTombstone(parts, item, code) : await redraft(parts, item))
      if (isBuried) buried.push({ item, kept: await toKept(item, code) })
    }
    const positions = buried.flatMap(({ item }) => (item.position === undefined ? [] : [item.position]))
    const keeping = refusedContent.keep(
      buried.flatMap(({ kept }) => kept ?? []),
      clock.now(),
    )
    await replaceFrom(first, drafts, [...positions.map(outbox.removal), ...keeping.operations])
    keeping.kept()
    for (const position of positions) outbox.settled(position)
    for (const { item, kept } of buried) {
      const { eventId, streamName } = item
      parts.onRefusal({ eventId, streamName, code, text: errorEntry(code).text, isKept: kept !== undefined })
    }
    parts.onSettled()
  }

  return {
    repair: async (repair, { maxPayload }) => {
      const first = chain.find(repair.deviceSeq)
      if (first === undefined) throw new Error('a repair of an event that is not in the window')
      if (repair.type === 'seal_again') await refresh(repair.code, first)
      else if (!isClaimPossible(first, repair.code, maxPayload)) return 'given_up'
      if (!parts.canSeal()) return 'waiting'
      if (repair.type === 'bury') await bury(repair.code, first)
      else await replaceFrom(first, await Promise.all(itemsFrom(first).map((item) => redraft(parts, item))), [])
      return 'repaired'
    },
  }
}
