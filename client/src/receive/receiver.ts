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
import type { LocalLog, LogEvent } from '../store/local-log.ts'
import type { Progress } from '../store/records.ts'
import { type CheckedBatch, checkEvents, type EventsToCheck } from './check-events.ts'

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
  readonly checkpoints: Pick<Checkpoints, 'isCheckpoint' | 'compare' | 'countEvents'>
  /** Reads the device log up to an entry at least; throws alarms. */
  readDeviceLog(upTo: number): Promise<void>
}

const alarmOf = (error: { readonly alarm: AlarmError['alarm'] }): AlarmError =>
  new AlarmError(error.alarm.code, error.alarm.detail)

export function createReceiver(parts: ReceiverParts): Receiver {
  const { crypto, ownDeviceId, log, book, epochKeys, checkpoints } = parts
  /** The cursor at which a gap was found: found again there, it is an alarm. */
  let gapAskedAt: number | undefined
  /** Events up to here were said to have lost their bytes. */
  let toldThrough = 0

  const check = async (message: EventsToCheck): Promise<CheckedBatch | 'gap'> => {
    const run = () => checkEvents({ crypto, ownDeviceId, known: { ...knownOf(log), device: book.require() } }, message)
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
        if (gapAskedAt === log.progress.cursor) throw alarmOf(outcome)
        gapAskedAt = log.progress.cursor
        return 'gap'
    }
  }

  const applyBatch = async (message: EventsToCheck): Promise<Applied> => {
    const batch = await check(message)
    if (batch === 'gap') return { type: 'ask_again' }
    let ordinary = 0
    for (const event of batch.events) {
      if (event.isVoid) continue
      const content = openChecked(epochKeys, event)
      if (content === undefined) continue
      if (event.body.type === 'stored' && checkpoints.isCheckpoint(event.body.event)) {
        const { userSeq, deviceId } = event
        const writtenAtMs = eventIdTimeMs(event.body.event.eventId)
        await checkpoints.compare({ userSeq, deviceId, writtenAtMs }, content, batch)
      } else ordinary += 1
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
    apply: ({ events, through }) => applyBatch({ events, through }),
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
