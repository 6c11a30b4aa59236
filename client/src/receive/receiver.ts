// Applies what the server delivers: checks it, compares checkpoints, judges what it can open, and commits events, chains,
// cursor and holds in one batch; only then is the cursor acknowledged. It skips nothing: what an honest server would have
// refused stops the client, and a device that is at fault is held back.

import {
  type CaughtUp,
  type Crypto,
  type DeviceId,
  type Events,
  equalBytes,
  type ResyncRequired,
} from '@valise/protocol'
import type { LogBook } from '../account/log-book.ts'
import { AlarmError } from '../alarm.ts'
import type { Checkpoints } from '../checkpoint.ts'
import { countHoles } from '../store/holes.ts'
import type { LocalLog } from '../store/local-log.ts'
import type { Progress } from '../store/records.ts'
import { type CheckedBatch, checkEvents, type EventsToCheck, type KnownLog } from './check-events.ts'
import { toError } from './check-rules.ts'
import type { Holds, JudgedBatch } from './holds.ts'
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
  readonly holds: Pick<Holds, 'judge'>
  readonly checkpoints: Pick<Checkpoints, 'compare' | 'countEvents'>
  readonly lateEvents: Pick<LateEvents, 'operations' | 'emit'>
  /** Own events that may stand in the log and have no receipt here: no more places than that can be holes. */
  unreceipted(): number
  /** The server no longer had the bytes of these, and they were read. */
  onPruned(range: PrunedRange): void
  /** Reads the device log up to an entry at least; throws alarms. */
  readDeviceLog(upTo: number): Promise<void>
}

type Items = EventsToCheck['events']

export function createReceiver(parts: ReceiverParts): Receiver {
  const { crypto, ownDeviceId, log, book, holds, checkpoints, lateEvents } = parts
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
      checkEvents({ crypto, ownDeviceId, known: known({ ...knownOf(parts), isPruned: pruned.covers }) }, message)
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
      case 'update_needed':
        throw toError(outcome)
      case 'gap':
        return new AlarmError(outcome.alarm.code, outcome.alarm.detail)
    }
  }

  /** Compares checkpoints and judges what counts. Throws alarms. */
  const judge = async (batch: CheckedBatch): Promise<JudgedBatch & { readonly ordinary: number[] }> => {
    for (const { userSeq, isVoid, body } of batch.events) {
      if (!isVoid && body.type === 'stored') await checkpoints.compare(userSeq, body.event, batch)
    }
    const judged = holds.judge(batch)
    const ordinary = judged.opened.filter(({ event }) => event.checkpoint === undefined)
    return { ...judged, ordinary: ordinary.map(({ userSeq }) => userSeq) }
  }

  /** Stores events at places that this device had been told were empty. */
  const applyLate = async ({ events, at }: Pick<EventsToCheck, 'events' | 'at'>): Promise<AlarmError | undefined> => {
    const first = events[0]?.[0]
    const last = events.at(-1)?.[0]
    if (first === undefined || last === undefined) return undefined
    const batch = await check({ events, through: last, at }, (known) => knownForLate(known, first))
    if (batch instanceof AlarmError) return batch
    const change = await placeLate(log, batch)
    const judged = await judge(batch)
    const { ordinary } = judged
    const counted = checkpoints.countEvents(ordinary.length)
    const late = lateEvents.operations(ordinary, log.progress.cursor)
    await log.commit({ ...change, also: [...judged.also, ...counted, ...late] })
    await judged.onStored()
    await lateEvents.emit(ordinary)
    return undefined
  }

  const applyNew = async (message: EventsToCheck, isComplete: boolean): Promise<Applied> => {
    const batch = await check(message)
    if (batch instanceof AlarmError) return doubt(batch)
    const doubted = isComplete ? doubtIfMissing(batch.missing, message.through) : undefined
    if (doubted !== undefined) return doubted
    const judged = await judge(batch).catch((error: unknown) => {
      // What another device has seen may stand in a hole.
      if (batch.missing > 0 && error instanceof AlarmError && error.alarm.code === 'events_withheld') return error
      throw error
    })
    if (judged instanceof AlarmError) return doubt(judged)
    const { cursor } = batch.progress
    await log.commit({
      ...batch,
      deviceHeads: batch.deviceHeads.values(),
      streamHeads: batch.streamHeads.values(),
      also: [...judged.also, ...checkpoints.countEvents(judged.ordinary.length), ...pruned.operations(cursor)],
    })
    await judged.onStored()
    tellPruned(pruned.reached(cursor))
    return { type: 'applied', cursor, events: batch.events.length }
  }

  const applyBatch = async ({ events, through, at }: EventsToCheck): Promise<Applied> => {
    const isAgain = ([userSeq]: Items[number]): boolean => userSeq > again.after && userSeq <= again.through
    const missing = await applyLate({ events: await dropHeld({ crypto, log }, events.filter(isAgain)), at })
    if (missing !== undefined) return doubt(missing)
    // While it reads again, what is missing may be about to come.
    const isComplete = !isReadingAgain || through > again.through
    return applyNew({ events: events.filter((item) => !isAgain(item)), through, at }, isComplete)
  }

  const tellPruned = (range: PrunedRange | undefined): void => {
    if (range !== undefined) parts.onPruned(range)
  }

  return {
    begin: () => {
      tellPruned(pruned.forget())
      const { cursor, holes } = log.progress
      const isUnexplained = askedFor !== undefined || countHoles(holes) > parts.unreceipted()
      const after = isUnexplained && holes[0] !== undefined ? holes[0].from - 1 : cursor
      again = { after, through: cursor }
      isReadingAgain = after < cursor
      if (isReadingAgain) askedFor = `${cursor}/${countHoles(holes)}`
      return after
    },
    apply: ({ events, through, at }) => applyBatch({ events, through, at }),
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

const knownOf = ({ book, log }: Pick<ReceiverParts, 'book' | 'log'>) => ({
  device: book.require(),
  logHeadAt: book.headAt,
  progress: log.progress,
  deviceHead: log.deviceHead,
  streamHead: log.streamHead,
  ownAhead: log.ownAhead,
})

/** The log epoch of the session must be the one the cursor belongs to; a first session adopts it. */
export function checkLogEpoch(progress: Progress, session: { readonly logEpoch: Uint8Array; readonly head: number }) {
  const { cursor, logEpoch } = progress
  if (logEpoch !== undefined && !equalBytes(logEpoch, session.logEpoch)) {
    throw new AlarmError('log_epoch_changed', { cursor, head: session.head })
  }
  if (cursor > session.head) throw new AlarmError('cursor_beyond_head', { cursor, head: session.head })
}
