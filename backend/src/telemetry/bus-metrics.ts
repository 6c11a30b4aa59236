// What is counted of the bus between nodes, and of Redis beneath it. The names that begin with `redis_` are given.

import { LATENCY_BUCKETS_S, toSeconds } from './latency-buckets.ts'
import type { MetricKinds } from './metric-kinds.ts'

export interface RedisMetrics {
  /** Channels that Redis has confirmed and that somebody on this node still wants. */
  setSubscribersActive(count: number): void
  countSubscriberError(): void
  countSubscriberCleanupError(): void
}

const DIRECTIONS = ['in', 'out'] as const
/** `own` is an echo of this node's events, `forged` bytes without a valid seal, `malformed` sealed bytes that do not parse, `failed` an error of Redis or a handler. */
const ANNOUNCEMENT_RESULTS = ['ok', 'own', 'forged', 'malformed', 'failed'] as const
const PUBLISH_RESULTS = ['ok', 'failed'] as const

type AnnouncementResult = (typeof ANNOUNCEMENT_RESULTS)[number]

export interface BusMetrics {
  countAnnouncement(direction: (typeof DIRECTIONS)[number], result: AnnouncementResult): void
  /** Announcements that were not sent because the bus was away or too slow. */
  countAnnouncementDropped(): void
  /** From handing an announcement to Redis until it has answered. */
  observePublish(result: (typeof PUBLISH_RESULTS)[number], durationMs: number): void
  setBusHealthy(isHealthy: boolean): void
}

export function createRedisMetrics({ counter, gauge }: MetricKinds): RedisMetrics {
  const active = gauge('redis_subscribers_active', 'Active channel subscriptions of this node in Redis')
  const errors = counter('redis_subscriber_errors_total', 'Errors of the subscriber, its channels and handlers')
  const cleanupErrors = counter(
    'redis_subscriber_cleanup_errors_total',
    'Failed unsubscribes and failed ends of the subscriber',
  )
  return {
    setSubscribersActive: active.set,
    countSubscriberError: () => errors.inc({}),
    countSubscriberCleanupError: () => cleanupErrors.inc({}),
  }
}

export function createBusMetrics({ counter, gauge, histogram }: MetricKinds): BusMetrics {
  const announcements = counter('valise_bus_announcements_total', 'Announcements sent to and heard from the bus', {
    direction: DIRECTIONS,
    result: ANNOUNCEMENT_RESULTS,
  })
  const dropped = counter('valise_announcements_dropped_total', 'Announcements not sent: the bus was away or too slow')
  const publishDuration = histogram(
    'valise_redis_publish_duration_seconds',
    'From handing an announcement to Redis to its answer',
    LATENCY_BUCKETS_S,
    { result: PUBLISH_RESULTS },
  )
  const publishFailures = counter('valise_redis_publish_failures_total', 'Announcements that Redis did not take')
  const healthy = gauge('valise_bus_healthy', '1 while the bus reaches the other nodes, else 0')
  return {
    countAnnouncement: (direction, result) => announcements.inc({ direction, result }),
    countAnnouncementDropped: () => dropped.inc({}),
    observePublish: (result, durationMs) => {
      publishDuration.observe({ result }, toSeconds(durationMs))
      if (result === 'failed') publishFailures.inc({})
    },
    setBusHealthy: (isHealthy) => healthy.set(isHealthy ? 1 : 0),
  }
}
