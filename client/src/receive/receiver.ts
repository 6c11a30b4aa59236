// Applies what the server delivers: checks it, opens it, compares checkpoints, and commits events, chains and cursor in
// one batch; only then is the cursor acknowledged. It skips nothing: what does not fit stops the client.

import {
  type CaughtUp,
  type Crypto,
  type DeviceId,
  type Events,
  equalBytes,
  type ResyncRequired,
} from '@valise/protocol'
import type { EpochKeys } from '../account/epoch-keys.ts'
import type { LogBook } from '../account/log-book.ts'
import { AlarmError } from '../alarm.ts'
import type { Checkpoints } from '../checkpoint.ts'
import type { LocalLog } from '../store/local-log.ts'
import type { Progress } from '../store/records.ts'
import { type CheckedBatch, checkEvents, type EventsToCheck } from './check-events.ts'
import { toError } from './check-rules.ts'
import { alarmOf, openBatch } from './faults.ts'
import type { PrunedRanges } from './pruned-ranges.ts'

export type Applied =
  | { readonly type: 'applied'; readonly cursor: number; readonly events: number }
  /** Events of a device are missing: a new session is to ask for them, once. */
  | { readonly type: 'ask_again' }

export interface Receiver {
  /** Throws alarms. */
  apply(message: Events): Promise<Applied>
  caughtUp(message: CaughtUp): Promise<Applied>
  /** Moves the cursor over own events that now adjoin it. */
  advance(): Promise<void>
  /**
   * What of the log this device will only get the leaves of, if that is news. Nothing is skipped: they follow, and every
   * chain is checked over them. Throws alarms for the other reasons.
   */
  resync(message: ResyncRequired): { readonly from: number; readonly to: number } | undefined
}

export interface ReceiverParts {
  readonly crypto: Crypto
  readonly ownDeviceId: DeviceId
  readonly log: LocalLog
  readonly book: LogBook
  readonly epochKeys: EpochKeys
  readonly checkpoints: Pick<Checkpoints, 'compare' | 'countEvents'>
  readonly pruned: Pick<PrunedRanges, 'covers'>
  /** Reads the device log up to an entry at least; throws alarms. */
  readDeviceLog(upTo: number): Promise<void>
}

export function createReceiver(parts: ReceiverParts): Receiver {
  const { crypto, ownDeviceId, log, book, epochKeys, checkpoints } = parts
  /** The cursor at which a gap was found: found again there, it is an alarm. */
  let gapAskedAt: number | undefined
  /** Events up to here were said to have lost their bytes. */
  let toldThrough = 0

  const check = async (message: EventsToCheck): Promise<CheckedBatch | 'gap'> => {
    const run = () => checkEvents({ crypto, ownDeviceId, known: knownOf(parts) }, message)
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
        if (gapAskedAt === log.progress.cursor) throw toError(outcome)
        gapAskedAt = log.progress.cursor
        return 'gap'
    }
  }

  const applyBatch = async (message: EventsToCheck): Promise<Applied> => {
    const batch = await check(message)
    if (batch === 'gap') return { type: 'ask_again' }
    const { faults, ordinary } = openBatch(epochKeys, batch)
    const [fault] = faults
    if (fault !== undefined) throw alarmOf(fault)
    for (const { userSeq, isVoid, body } of batch.events) {
      if (!isVoid && body.type === 'stored') await checkpoints.compare(userSeq, body.event, batch)
    }
    const also = checkpoints.countEvents(ordinary)
    await log.commit({
      ...batch,
      deviceHeads: batch.deviceHeads.values(),
      streamHeads: batch.streamHeads.values(),
      also,
    })
    return { type: 'applied', cursor: batch.progress.cursor, events: batch.events.length }
  }

  return {
    apply: ({ events, through, at }) => applyBatch({ events, through, at }),
    caughtUp: ({ user_seq }) => applyBatch({ events: [], through: user_seq }),
    advance: async () => {
      const next = log.ownAhead()[0]
      if (next !== undefined && next.userSeq <= log.progress.cursor + 1) {
        await applyBatch({ events: [], through: log.progress.cursor })
      }
    },
    resync: ({ reason, from, to }) => {
      const { cursor } = log.progress
      if (reason !== 'retention') throw new AlarmError(reason, { cursor, from, to })
      const first = Math.max(cursor, toldThrough) + 1
      const last = from - 1
      if (last < first) return undefined
      toldThrough = last
      return { from: first, to: last }
    },
  }
}

const knownOf = ({ book, log, pruned }: Pick<ReceiverParts, 'book' | 'log' | 'pruned'>) => ({
  device: book.require(),
  logHeadAt: book.headAt,
  isPruned: pruned.covers,
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
