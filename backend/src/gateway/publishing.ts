// From a publish message to receipts (DESIGN 5.2 to 5.5): checks each event, hands runs to the intake, and answers each
// event after the commit. An event that is refused never stops the ones the device sends later (ORD-6).

import {
  type Crypto,
  chainAfter,
  type ErrorCode,
  equalBytes,
  leafOf,
  type ParsedEvent,
  type Publish,
  type Receipt,
  type Refused,
} from '@valise/protocol'
import type { StoredPlace } from '../db/queries/events.ts'
import type { RateLimits } from '../limits/rate-limits.ts'
import { type SubmittedEvent, splitRuns } from '../log/batch.ts'
import { checkEvent, type ReadEvent, readEvent } from '../log/check-event.ts'
import type { Intake, IntakeVerdict } from '../log/intake.ts'
import type { EventLogMetrics } from '../telemetry/metrics.ts'
import type { Tracing } from '../telemetry/tracing.ts'
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'
import type { StorageGate } from './storage-gate.ts'

export interface PublishingParts {
  readonly crypto: Crypto
  readonly session: Session
  readonly connection: Pick<Connection, 'send' | 'close' | 'isClosed'>
  readonly intake: Pick<Intake, 'submit'>
  readonly rateLimits: Pick<RateLimits, 'admitEvents' | 'chargeEvents' | 'eventsRetryAfterMs'>
  readonly storage: StorageGate
  readonly metrics: Pick<EventLogMetrics, 'countStored' | 'countDuplicates' | 'countRefused' | 'countUnavailable'>
  readonly tracing: Tracing | undefined
  readonly maxPayload: number
  /** False for a recovery device. */
  readonly mayPublish: boolean
  isSuspended(): boolean
  readonly retryAfterMs: number
  /** Where an event of the session's device stands. */
  findStored(deviceSeq: number): Promise<StoredPlace | undefined>
  /** The device may push nothing more out of the user's quota today. */
  onDisplacementLimit(): void
  onFailure(error: unknown): void
  /** Unix milliseconds. */
  now(): number
  /** Milliseconds of a clock that never goes back. */
  monotonicMs(): number
}

export interface Publishing {
  publish(message: Publish): void
  /** Resolves when everything published so far is answered. */
  whenAnswered(): Promise<void>
}

/** The first `count` events may pass; those after them are told to come again later. */
interface Postponement {
  readonly count: number
  readonly code: 'rate_limited' | 'storage_low'
  readonly retryAfterMs: number
}

/** What a refusal by the database is called on the wire. */
const CODE_OF_STATUS = {
  conflict: 'device_seq_conflict',
  gap: 'device_seq_gap',
  chain_mismatch: 'chain_mismatch',
  stale_epoch: 'stale_epoch',
  epoch_invalid: 'epoch_invalid',
  log_seq_ahead: 'log_seq_ahead',
  log_seq_falls: 'log_seq_falls',
  log_head_false: 'log_head_false',
  checkpoint_false: 'checkpoint_false',
  suspended: 'device_suspended',
  displacement: 'displacement_limit',
  revoked: 'device_revoked',
  deleted: 'account_deleted',
  stream_limit: 'stream_limit_reached',
  event_refused: 'event_refused',
} as const satisfies Record<Exclude<IntakeVerdict['status'], 'stored' | 'duplicate' | 'unavailable'>, ErrorCode>

export function createPublishing(parts: PublishingParts): Publishing {
  const { session, connection, metrics, rateLimits } = parts
  let receipts: Receipt[] = []
  const inFlight = new Set<Promise<void>>()
  /** The event that was told to come again later: those after it could only be a gap, and wait for it too (LIM-3). */
  let held: { readonly fromSeq: number; readonly code: Postponement['code'] } | undefined

  /** Receipts of one commit leave in one message: the answers of a commit arrive in one run of microtasks. */
  const queueReceipt = (receipt: Receipt): void => {
    if (receipts.push(receipt) > 1) return
    queueMicrotask(() => {
      const message = { type: 'receipts' as const, receipts }
      receipts = []
      connection.send(message)
    })
  }

  const refuse = (refusal: Omit<Refused, 'type'>): void => {
    metrics.countRefused(refusal.code)
    connection.send({ type: 'refused', ...refusal })
    const { code } = refusal
    if (code === 'device_seq_conflict' || code === 'device_revoked' || code === 'account_deleted')
      connection.close(code)
  }

  const answer = (event: SubmittedEvent, verdict: Exclude<IntakeVerdict, { status: 'unavailable' }>): void => {
    if (verdict.status === 'stored' || verdict.status === 'duplicate') {
      const isDuplicate = verdict.status === 'duplicate'
      if (isDuplicate) metrics.countDuplicates(1)
      else metrics.countStored(1)
      return queueReceipt([verdict.deviceSeq, verdict.streamSeq, verdict.userSeq, verdict.storedAtMs, isDuplicate])
    }
    if (verdict.status === 'displacement' && verdict.isCertain) parts.onDisplacementLimit()
    refuse({ device_seq: event.deviceSeq, code: CODE_OF_STATUS[verdict.status], ...detailsOf(verdict) })
  }

  const detailsOf = (verdict: IntakeVerdict): Pick<Refused, 'expected' | 'retry_after_ms'> => {
    if (verdict.status === 'gap') return { expected: verdict.expected }
    if (verdict.status !== 'displacement') return {}
    return { retry_after_ms: verdict.isCertain ? verdict.retryAfterMs : parts.retryAfterMs }
  }

  const submitRun = async (events: readonly SubmittedEvent[], arrivedAtMs: number): Promise<void> => {
    const { userKey, deviceKey, userId, deviceId } = session
    const span = parts.tracing?.start('event.publish')
    const trace = span?.context
    const verdicts = await parts.intake.submit({ userKey, deviceKey, userId, deviceId, events, arrivedAtMs, trace })
    span?.end({ 'valise.events': events.length, 'valise.stored': countStored(verdicts) })
    let unavailable = 0
    for (const [index, event] of events.entries()) {
      const verdict = verdicts[index]
      if (verdict === undefined || verdict.status === 'unavailable') unavailable++
      else if (!connection.isClosed()) answer(event, verdict)
    }
    // One word for all of them: what is unanswered is not stored, or will be found stored when it is sent again.
    if (unavailable === 0) return
    metrics.countUnavailable(unavailable)
    connection.send({ type: 'unavailable', retry_after_ms: parts.retryAfterMs })
  }

  /** Its lifetime ended before it came, or before it came again: then it has its receipt, whatever became of its bytes. */
  const answerExpired = async (deviceSeq: number, event: ParsedEvent | undefined): Promise<void> => {
    try {
      const stored = await parts.findStored(deviceSeq)
      if (connection.isClosed()) return
      if (
        stored !== undefined &&
        event !== undefined &&
        equalBytes(stored.chain, chainAfter(parts.crypto, event.chainPrev, leafOf(parts.crypto, event)))
      ) {
        metrics.countDuplicates(1)
        return queueReceipt([deviceSeq, stored.streamSeq, stored.userSeq, stored.storedAtMs, true])
      }
      refuse({ device_seq: deviceSeq, code: 'event_expired' })
    } catch (error) {
      parts.onFailure(error)
      connection.send({ type: 'unavailable', retry_after_ms: parts.retryAfterMs })
    }
  }

  const track = (answering: Promise<void>): void => {
    const flight = answering.finally(() => inFlight.delete(flight))
    inFlight.add(flight)
  }

  /** How many of the events may pass, and what the others are told. */
  const decide = (events: readonly ReadEvent[], heldFor: Postponement['code'] | undefined): Postponement => {
    const { storage, retryAfterMs } = parts
    if (storage.isPublishingClosed()) {
      storage.countRefused(events.length)
      return { count: 0, code: 'storage_low', retryAfterMs: storage.retryAfterMs }
    }
    const sizes = events.map(({ wire }) => wire.length)
    switch (heldFor) {
      case undefined:
        return { code: 'rate_limited', ...rateLimits.admitEvents(session, sizes) }
      case 'rate_limited':
        return { count: 0, code: heldFor, retryAfterMs: rateLimits.eventsRetryAfterMs(session, sizes) }
      case 'storage_low':
        return { count: 0, code: heldFor, retryAfterMs }
    }
  }

  /** Answers what is to come again later; the events that may pass. */
  const admit = (events: readonly ReadEvent[]): readonly ReadEvent[] => {
    const isHeld = held !== undefined && deviceSeqOf(events[0]) > held.fromSeq
    const { count, code, retryAfterMs } = decide(events, isHeld ? held?.code : undefined)
    if (!isHeld) {
      const fromSeq = deviceSeqOf(events[count])
      held = fromSeq === 0 ? undefined : { fromSeq, code }
    }
    for (const event of events.slice(count)) {
      refuse({ device_seq: deviceSeqOf(event), code, retry_after_ms: retryAfterMs })
    }
    const admitted = events.slice(0, count)
    rateLimits.chargeEvents(
      session,
      admitted.reduce((sum, { parsed }) => sum + lookUpCost(parsed), 0),
    )
    return admitted
  }

  return {
    publish: ({ events }) => {
      const arrivedAtMs = parts.monotonicMs()
      if (parts.isSuspended()) {
        for (const event of events.map(readEvent)) refuse({ device_seq: deviceSeqOf(event), code: 'device_suspended' })
        return
      }
      const { maxPayload, mayPublish } = parts
      const rules = { userId: session.userId, deviceId: session.deviceId, maxPayload, mayPublish }
      const accepted: SubmittedEvent[] = []
      for (const event of admit(events.map(readEvent))) {
        const checked = checkEvent(parts.crypto, rules, event, parts.now())
        if (checked.ok) accepted.push(checked.event)
        else if (checked.code === 'event_expired') track(answerExpired(checked.deviceSeq, event.parsed))
        else refuse({ device_seq: checked.deviceSeq, code: checked.code })
      }
      for (const run of splitRuns(accepted)) track(submitRun(run, arrivedAtMs))
    },
    whenAnswered: async () => {
      await Promise.all(inFlight)
    },
  }
}

const countStored = (verdicts: readonly IntakeVerdict[]): number =>
  verdicts.filter(({ status }) => status === 'stored').length

/** 0 when the bytes do not parse. */
const deviceSeqOf = (event: ReadEvent | undefined): number => event?.parsed?.deviceSeq ?? 0

/** Looking up so many positions of a checkpoint costs the database about what storing an event costs. */
const POSITIONS_AN_EVENT = 8

/** In events, beyond the event itself. */
const lookUpCost = (event: ParsedEvent | undefined): number =>
  Math.floor((event?.checkpoint?.length ?? 0) / POSITIONS_AN_EVENT)
