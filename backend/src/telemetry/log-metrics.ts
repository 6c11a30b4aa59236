// What is counted of events: on their way into the log, and from the log to their receivers.

import { ERROR_CODES, type ErrorCode } from '@valise/protocol'
import { LATENCY_BUCKETS_S, toSeconds } from './latency-buckets.ts'
import type { MetricKinds } from './metric-kinds.ts'

export interface EventLogMetrics {
  countStored(count: number): void
  countDuplicates(count: number): void
  countRefused(code: ErrorCode, count?: number): void
  /** Events told to come again because the database could not be asked: what the server owes its users. */
  countUnavailable(count: number): void
  observeBatchEvents(count: number): void
  observeCommit(durationMs: number): void
  setIntakeBufferedBytes(bytes: number): void
  setAppendsFailing(isFailing: boolean): void
}

/** `local`: both devices are connected to this node; `remote`: the event was published on another. */
const PATHS = ['local', 'remote'] as const
export type DeliveryPath = (typeof PATHS)[number]

export interface DeliveryMetrics {
  /** From the commit to the bytes being handed to the sockets of this node. */
  observeRelay(durationMs: number): void
  /** From a publish message's arrival to its events being handed to a socket; once a commit, user and node. */
  observeEndToEnd(path: DeliveryPath, durationMs: number): void
  countCatchUp(): void
  countReplay(): void
  setConnectionsBehind(count: number): void
}

const BATCH_BUCKETS = [1, 2, 5, 10, 25, 50, 100, 200, 350, 512]

export function createEventLogMetrics({ counter, gauge, histogram }: MetricKinds): EventLogMetrics {
  const stored = counter('valise_events_stored_total', 'Events stored')
  const duplicates = counter('valise_events_duplicate_total', 'Events answered with their first receipt')
  const gaps = counter('valise_events_gap_total', 'Events refused because one before them is missing')
  const refused = counter('valise_events_refused_total', 'Events refused', { code: ERROR_CODES })
  const unavailable = counter(
    'valise_events_unavailable_total',
    'Events neither stored nor refused: the database could not be asked',
  )
  const batchEvents = histogram('valise_batch_events', 'Events in one committed batch', BATCH_BUCKETS)
  const commitDuration = histogram(
    'valise_commit_duration_seconds',
    'From the begin of a batch to its commit',
    LATENCY_BUCKETS_S,
  )
  const appendsFailing = gauge('valise_appends_failing', '1 while this node cannot store events, else 0')
  const intakeBuffered = gauge('valise_intake_buffered_bytes', 'Bytes of events waiting for a commit')
  return {
    countStored: (count) => stored.inc({}, count),
    countDuplicates: (count) => duplicates.inc({}, count),
    countRefused: (code, count = 1) => {
      refused.inc({ code }, count)
      if (code === 'device_seq_gap') gaps.inc({}, count)
    },
    countUnavailable: (count) => unavailable.inc({}, count),
    observeBatchEvents: (count) => batchEvents.observe({}, count),
    observeCommit: (durationMs) => commitDuration.observe({}, toSeconds(durationMs)),
    setIntakeBufferedBytes: intakeBuffered.set,
    setAppendsFailing: (isFailing) => appendsFailing.set(isFailing ? 1 : 0),
  }
}

export function createDeliveryMetrics({ counter, gauge, histogram }: MetricKinds): DeliveryMetrics {
  const relayDuration = histogram(
    'valise_relay_duration_seconds',
    'From commit to the sockets of this node',
    LATENCY_BUCKETS_S,
  )
  const endToEnd = histogram(
    'valise_end_to_end_duration_seconds',
    'From the arrival of published events to the socket of a live receiver',
    LATENCY_BUCKETS_S,
    { path: PATHS },
  )
  const catchUps = counter('valise_catch_ups_total', 'Connections sent back to the log to catch up')
  const replays = counter('valise_replays_total', 'Replays begun')
  const behind = gauge('valise_connections_behind', 'Connections whose socket is above its high-water mark')
  return {
    observeRelay: (durationMs) => relayDuration.observe({}, toSeconds(durationMs)),
    observeEndToEnd: (path, durationMs) => endToEnd.observe({ path }, toSeconds(durationMs)),
    countCatchUp: () => catchUps.inc({}),
    countReplay: () => replays.inc({}),
    setConnectionsBehind: behind.set,
  }
}
