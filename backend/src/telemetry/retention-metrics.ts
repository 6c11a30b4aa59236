// What is counted of events whose bytes go, while their rows and leaves stay.

import { LATENCY_BUCKETS_S, toSeconds } from './latency-buckets.ts'
import type { MetricKinds } from './metric-kinds.ts'

/** `age`: older than the operator keeps them; `quota`: of a user with more than the operator keeps of one. */
const REASONS = ['age', 'quota'] as const

export interface RetentionMetrics {
  countExpired(events: number): void
  countPruned(reason: (typeof REASONS)[number], events: number): void
  /** A device reached the limit of what it may push out of its user's quota in 24 hours. */
  countDisplacementLimit(): void
  /** One batch, from its begin to its commit. */
  observePrune(durationMs: number): void
}

export function createRetentionMetrics({ counter, histogram }: MetricKinds): RetentionMetrics {
  const expired = counter('valise_events_expired_total', 'Events whose lifetime ended and whose bytes are gone')
  const pruned = counter('valise_events_pruned_total', 'Events whose bytes went for their age or for the quota', {
    reason: REASONS,
  })
  const displacement = counter(
    'valise_displacement_limits_total',
    "Devices that pushed out as much of their user's other devices as they may in a day, each at most once an hour",
  )
  const duration = histogram(
    'valise_prune_duration_seconds',
    'Duration of one batch that expires or prunes',
    LATENCY_BUCKETS_S,
  )
  return {
    countExpired: (events) => expired.inc({}, events),
    countPruned: (reason, events) => pruned.inc({ reason }, events),
    countDisplacementLimit: () => displacement.inc({}),
    observePrune: (durationMs) => duration.observe({}, toSeconds(durationMs)),
  }
}
