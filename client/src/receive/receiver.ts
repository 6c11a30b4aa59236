// Applies what the server delivers: checks it, opens it, compares checkpoints, and commits events, chains and cursor in
// one batch; only then is the cursor acknowledged. It skips nothing: what does not fit stops the client.

import {
  type CaughtUp,
  type Crypto,
  type DeviceId,
  type Events,
  equalBytes,
  eventIdTimeMs,
  formatUuid,
  type ResyncRequired,
} from '@valise/protocol'
import type { EpochKeys } from '../account/epoch-keys.ts'
import type { LogBook } from '../account/log-book.ts'
import { AlarmError } from '../alarm.ts'
import type { Checkpoints } from '../checkpoint.ts'
import { type EventContent, parseContent } from '../sealing/content.ts'
import { openEvent } from '../sealing/event-seal.ts'
import { countHoles } from '../store/holes.ts'
import type { LocalLog, LogEvent } from '../store/local-log.ts'
import type { Progress } from '../store/records.ts'
import { type CheckedBatch, checkEvents, type EventsToCheck, type KnownLog } from './check-events.ts'
import type { LateEvents } from './late-events.ts'
import { createPrunedClaim, type PrunedRange } from './pruned-ranges.ts'
import { dropHeld, knownForLate, placeLate } from './read-again.ts'

export type Applied =
  | { readonly type: 'applied'; readonly cursor: number; readonly events: number }
  /** Events are missing: a new session is to ask for them, once. */
  | { readonly type: 'ask_again' }

export interface Receiver {
  /** A session begins: the cursor that it resumes from, which lies before a hole that nothing explains. */
  begin(): number
  /** Throws alarms. */
  apply(message: Events): Promise<Applied>
  caughtUp(message: CaughtUp): Promise<Applied>
  /** Own events got their places: moves the cursor over those that now adjoin it. */
  advance(): Promise<Applied>
  /**
   * What of the log this device will only get the leaves of. Nothing is skipped: they follow, and every chain is checked
   * over them. Throws alarms for the other reasons.
   */
  resync(message: ResyncRequired): void
}

export interface ReceiverParts {
  readonly crypto: Crypto
  readonly ownDeviceId: DeviceId
  readonly log: LocalLog
  readonly book: LogBook
  readonly epochKeys: EpochKeys
  readonly checkpoints: Pick<Checkpoints, 'isCheckpoint' | 'compare' | 'countEvents'>
  readonly lateEvents: Pick<LateEvents, 'operations' | 'emit'>
  /** Own events that may stand in the log and have no receipt here: no more places than that can be holes. */
  unreceipted(): number
  /** The server no longer had the bytes of these, and they were read. */
  onPruned(range: PrunedRange): void
  /** Reads the device log up to an entry at least; throws alarms. */
  readDeviceLog(upTo: number): Promise<void>
}

const alarmOf = (error: { readonly alarm: AlarmError['alarm'] }): AlarmError =>
  new AlarmError(error.alarm.code, error.alarm.detail)

type Items = EventsToCheck['events']

export function createReceiver(parts: ReceiverParts): Receiver {
  const { crypto, ownDeviceId, log, book, epochKeys, checkpoints, lateEvents } = parts
  const pruned = createPrunedClaim()
  /** What was missing when it was asked for: found so again, it is an alarm. */
  let askedFor: string | undefined
  /** Places that this session reads again: after the first, up to the second. */
  let again = { after: 0, through: 0 }
  let isReadingAgain = false

  /** Something is missing. Throws when it was asked for already and nothing has come since. */
  const doubt = (alarm: AlarmError): Applied => {
    const { cursor, holes } = log.progress
    const missing = `${cursor}/${countHoles(holes)}`
    if (askedFor === missing) throw alarm
    askedFor = missing
    return { type: 'ask_again' }
  }

  const doubtIfMissing = (missing: number, through: number): Applied | undefined => {
    const explained = parts.unreceipted()
    if (missing <= explained) return undefined
    return doubt(new AlarmError('events_missing', { cursor: log.progress.cursor, through, missing, explained }))
  }

  const check = async (
    message: EventsToCheck,
    known = (full: KnownLog) => full,
  ): Promise<CheckedBatch | AlarmError> => {
    const run = () =>
      checkEvents({ crypto, ownDeviceId, known: known({ ...knownOf(log), device: book.require() }) }, message)
    let outcome = run()
    if (outcome.type === 'log_behind') {
      await parts.readDeviceLog(outcome.logSeq)
      outcome = run()
    }
    switch (outcome.type) {
      case 'ok':
        return outcome.batch
      case 'log_behind':
        throw new AlarmError('device_log_shorter', { seq: outcome.logSeq, known: book.require().seq })
      case 'alarm':
        throw alarmOf(outcome)
      case 'gap':
        return alarmOf(outcome)
    }
  }

  /** Opens what counts and compares checkpoints. The places of the application's events. */
  const openBatch = async (batch: CheckedBatch): Promise<number[]> => {
    const ordinary: number[] = []
    for (const event of batch.events) {
      if (event.isVoid) continue
      const content = openChecked(epochKeys, event)
      if (content === undefined) continue
      if (event.body.type === 'stored' && checkpoints.isCheckpoint(event.body.event)) {
        const { userSeq, deviceId } = event
        const writtenAtMs = eventIdTimeMs(event.body.event.eventId)
        await checkpoints.compare({ userSeq, deviceId, writtenAtMs }, content, batch)
      } else ordinary.push(event.userSeq)
    }
    return ordinary
  }

  /** Stores events at places that this device had been told were empty. */
  const applyLate = async (events: Items): Promise<AlarmError | undefined> => {
    const first = events[0]?.[0]
    const last = events.at(-1)?.[0]
    if (first === undefined || last === undefined) return undefined
    const batch = await check({ events, through: last }, (known) => knownForLate(known, first))
    if (batch instanceof AlarmError) return batch
    const change = await placeLate(log, batch)
    const ordinary = await openBatch(batch)
    const also = [...checkpoints.countEvents(ordinary.length), ...lateEvents.operations(ordinary, log.progress.cursor)]
    await log.commit({ ...change, also })
    await lateEvents.emit(ordinary)
    return undefined
  }

  const applyNew = async (message: EventsToCheck, isComplete: boolean): Promise<Applied> => {
    const batch = await check(message)
    if (batch instanceof AlarmError) return doubt(batch)
    const doubted = isComplete ? doubtIfMissing(batch.missing, message.through) : undefined
    if (doubted !== undefined) return doubted
    const ordinary = await openBatch(batch).catch((error: unknown) => {
      // What another device has seen may stand in a hole.
      if (batch.missing > 0 && error instanceof AlarmError && error.alarm.code === 'events_withheld') return error
      throw error
    })
    if (ordinary instanceof AlarmError) return doubt(ordinary)
    const { cursor } = batch.progress
    await log.commit({
      ...batch,
      deviceHeads: batch.deviceHeads.values(),
      streamHeads: batch.streamHeads.values(),
      also: [...checkpoints.countEvents(ordinary.length), ...pruned.operations(cursor)],
    })
    tellPruned(pruned.reached(cursor))
    return { type: 'applied', cursor, events: batch.events.length }
  }

  const applyBatch = async ({ events, through }: EventsToCheck): Promise<Applied> => {
    const isAgain = ([userSeq]: Items[number]): boolean => userSeq > again.after && userSeq <= again.through
    const missing = await applyLate(await dropHeld({ crypto, log }, events.filter(isAgain)))
    if (missing !== undefined) return doubt(missing)
    // While it reads again, what is missing may be about to come.
    const isComplete = !isReadingAgain || through > again.through
    return applyNew({ events: events.filter((item) => !isAgain(item)), through }, isComplete)
  }

  const tellPruned = (range: PrunedRange | undefined): void => {
    if (range !== undefined) parts.onPruned(range)
  }

  return {
    begin: () => {
      tellPruned(pruned.end())
      const { cursor, holes } = log.progress
      const isUnexplained = askedFor !== undefined || countHoles(holes) > parts.unreceipted()
      const after = isUnexplained && holes[0] !== undefined ? holes[0].from - 1 : cursor
      again = { after, through: cursor }
      isReadingAgain = after < cursor
      if (isReadingAgain) askedFor = `${cursor}/${countHoles(holes)}`
      return after
    },
    apply: ({ events, through }) => applyBatch({ events, through }),
    caughtUp: async ({ user_seq }) => {
      isReadingAgain = false
      const result = await applyNew({ events: [], through: user_seq }, true)
      if (result.type === 'applied') {
        askedFor = undefined
        tellPruned(pruned.end())
      }
      return result
    },
    advance: async () => {
      const { cursor, holes } = log.progress
      const next = log.ownAhead()[0]
      const isComplete = !isReadingAgain
      if (next !== undefined && next.userSeq <= cursor + 1) return applyNew({ events: [], through: cursor }, isComplete)
      const doubted = isComplete ? doubtIfMissing(countHoles(holes), cursor) : undefined
      return doubted ?? { type: 'applied', cursor, events: 0 }
    },
    resync: ({ reason, from, to }) => {
      const { cursor } = log.progress
      if (reason !== 'retention') throw new AlarmError(reason, { cursor, from, to })
      pruned.make({ from, to }, cursor)
    },
  }
}

const knownOf = (log: LocalLog) => ({
  progress: log.progress,
  deviceHead: log.deviceHead,
  streamHead: log.streamHead,
  ownAhead: log.ownAhead,
})

/** The content; `undefined` for tombstones and events whose bytes expired. Throws the alarm for what does not open. */
function openChecked(epochKeys: EpochKeys, { userSeq, deviceId, body }: LogEvent): EventContent | undefined {
  if (body.type === 'expired') return undefined
  const { event } = body
  const where = { user_seq: userSeq, device: formatUuid(deviceId), epoch: event.epoch }
  const key = epochKeys.contentKey(event.epoch)
  const data = key === undefined ? undefined : openEvent(key, event)
  if (data === undefined) throw new AlarmError('event_unreadable', where)
  if (event.isTombstone) return undefined
  const content = parseContent(data)
  if (content === undefined) throw new AlarmError('event_unreadable', where)
  return content
}

/** The log epoch of the session must be the one the cursor belongs to; a first session adopts it. */
export function checkLogEpoch(progress: Progress, session: { readonly logEpoch: Uint8Array; readonly head: number }) {
  const { cursor, logEpoch } = progress
  if (logEpoch !== undefined && !equalBytes(logEpoch, session.logEpoch)) {
    throw new AlarmError('log_epoch_changed', { cursor, head: session.head })
  }
  if (cursor > session.head) throw new AlarmError('cursor_beyond_head', { cursor, head: session.head })
}
