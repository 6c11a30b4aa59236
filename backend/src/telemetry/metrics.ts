// Every number that can be scraped, by name, in one registry of its own (nothing global, so two servers in one
// process never mix). Parts ask for the small interface they use. No label holds a user, a device, a stream or
// free text: the values are closed unions, error codes or names of statements. How values are kept is `metric-kinds.ts`.

import { Registry } from 'prom-client'
import { createMetricKinds } from './metric-kinds.ts'

export interface RedisMetrics {
  /** Channels that Redis has confirmed and that somebody on this node still wants. */
  setSubscribersActive(count: number): void
  countSubscriberError(): void
  countSubscriberCleanupError(): void
}

export interface DatabaseMetrics {
  /** `operation` is a short fixed name (select, insert, begin …), never a query's text. */
  observeQuery(query: { operation: string; status: 'ok' | 'error'; durationMs: number }): void
  countSlowQuery(): void
  setPoolWaiting(count: number): void
}

export interface BusMetrics {
  countAnnouncement(direction: 'in' | 'out', result: AnnouncementResult): void
  /** Announcements that were not sent because the bus was away or too slow. */
  countAnnouncementDropped(): void
  setBusHealthy(isHealthy: boolean): void
}

/** `own` is an echo of this node's events, `malformed` bytes that do not parse, `failed` an error of Redis or a handler. */
export type AnnouncementResult = 'ok' | 'own' | 'malformed' | 'failed'

export interface GatewayMetrics {
  setConnections(count: number): void
  /** `result` is `ok` or a code of the protocol's registry. */
  countHandshake(result: string): void
  countClose(code: number): void
  countSessionRotation(reason: 'rekey' | 'age' | 'events'): void
  /** Events refused or handshakes turned away, for now, by the limit of a device, a user or an address. */
  countRateLimited(scope: 'device' | 'user' | 'address', count: number): void
  /** Sockets that are not read, so that TCP pushes back. */
  setSocketsPaused(count: number): void
  /** Where to read, at each scrape, the bytes that wait in all sockets. */
  watchSendBufferedBytes(read: () => number): void
}

export interface EventLogMetrics {
  countStored(count: number): void
  countDuplicates(count: number): void
  /** `code` is a code of the protocol's registry. */
  countRefused(code: string, count?: number): void
  observeBatchEvents(count: number): void
  observeCommit(durationMs: number): void
  setIntakeBufferedBytes(bytes: number): void
}

export interface DeliveryMetrics {
  /** From the commit to the bytes being handed to the sockets of this node. */
  observeRelay(durationMs: number): void
  countCatchUp(): void
  countReplay(): void
  setConnectionsBehind(count: number): void
}

export interface ProcessMetrics {
  observeEventLoopLag(lagMs: number): void
}

export interface Metrics {
  readonly redis: RedisMetrics
  readonly database: DatabaseMetrics
  readonly bus: BusMetrics
  readonly gateway: GatewayMetrics
  readonly log: EventLogMetrics
  readonly delivery: DeliveryMetrics
  readonly process: ProcessMetrics
  readonly contentType: string
  /** The text that Prometheus scrapes. */
  render(): Promise<string>
  /** The present value of a gauge or a counter, or a histogram's count, summed over the labels not given. */
  read(name: string, labels?: Readonly<Record<string, string>>): Promise<number>
}

/** From a fast primary-key read to a statement that runs into its timeout. */
const LATENCY_BUCKETS_MS = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 5000, 10_000, 30_000]
const BATCH_BUCKETS = [1, 2, 5, 10, 25, 50, 100, 200, 350, 512]
const LAG_BUCKETS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000]

export function createMetrics(): Metrics {
  const registry = new Registry()
  const { gauge, watchedGauge, counter, histogram } = createMetricKinds(registry)

  const subscribersActive = gauge('redis_subscribers_active', 'Active channel subscriptions of this node in Redis')
  const subscriberErrors = counter(
    'redis_subscriber_errors_total',
    'Errors of the subscriber, its channels and handlers',
  )
  const cleanupErrors = counter(
    'redis_subscriber_cleanup_errors_total',
    'Failed unsubscribes and failed ends of the subscriber',
  )

  const queryDuration = histogram('database_query_duration_ms', 'Duration of database queries', LATENCY_BUCKETS_MS, [
    'operation',
    'status',
  ])
  const queries = counter('database_queries_total', 'Database queries', ['operation', 'status'])
  const slowQueries = counter('database_slow_queries_total', 'Database queries over the slow-query threshold')
  const poolWaiting = gauge('valise_pool_waiting', 'Queries waiting for a database connection')

  const announcements = counter('valise_bus_announcements_total', 'Announcements sent to and heard from the bus', [
    'direction',
    'result',
  ])
  const announcementsDropped = counter(
    'valise_announcements_dropped_total',
    'Announcements not sent: the bus was away or too slow',
  )
  const busHealthy = gauge('valise_bus_healthy', '1 while the bus reaches the other nodes, else 0')

  const connections = gauge('valise_connections', 'Open connections')
  const handshakes = counter('valise_handshakes_total', 'Handshakes', ['result'])
  const closes = counter('valise_closes_total', 'Closed connections by close code', ['code'])
  const rotations = counter('valise_session_rotations_total', 'Changes of session keys', ['reason'])
  const rateLimited = counter('valise_rate_limited_total', 'Events and handshakes told to come again later', ['scope'])
  const socketsPaused = gauge('valise_sockets_paused', 'Sockets that are not read, so that TCP pushes back')
  const sendBuffered = watchedGauge('valise_send_buffered_bytes', 'Bytes that peers have not taken yet')

  const stored = counter('valise_events_stored_total', 'Events stored')
  const duplicates = counter('valise_events_duplicate_total', 'Events answered with their first receipt')
  const refused = counter('valise_events_refused_total', 'Events refused', ['code'])
  const batchEvents = histogram('valise_batch_events', 'Events in one committed batch', BATCH_BUCKETS)
  const commitDuration = histogram(
    'valise_commit_duration_ms',
    'From the begin of a batch to its commit',
    LATENCY_BUCKETS_MS,
  )
  const intakeBuffered = gauge('valise_intake_buffered_bytes', 'Bytes of events waiting for a commit')

  const relayDuration = histogram(
    'valise_relay_duration_ms',
    'From commit to the sockets of this node',
    LATENCY_BUCKETS_MS,
  )
  const catchUps = counter('valise_catch_ups_total', 'Connections sent back to the log to catch up')
  const replays = counter('valise_replays_total', 'Replays begun')
  const behind = gauge('valise_connections_behind', 'Connections whose socket is above its high-water mark')

  const eventLoopLag = histogram(
    'valise_event_loop_lag_ms',
    'Longest stall of the event loop in each second',
    LAG_BUCKETS_MS,
  )

  return {
    redis: {
      setSubscribersActive: (count) => subscribersActive.set({}, count),
      countSubscriberError: () => subscriberErrors.inc({}),
      countSubscriberCleanupError: () => cleanupErrors.inc({}),
    },
    database: {
      observeQuery: ({ operation, status, durationMs }) => {
        queryDuration.observe({ operation, status }, durationMs)
        queries.inc({ operation, status })
      },
      countSlowQuery: () => slowQueries.inc({}),
      setPoolWaiting: (count) => poolWaiting.set({}, count),
    },
    bus: {
      countAnnouncement: (direction, result) => announcements.inc({ direction, result }),
      countAnnouncementDropped: () => announcementsDropped.inc({}),
      setBusHealthy: (isHealthy) => busHealthy.set({}, isHealthy ? 1 : 0),
    },
    gateway: {
      setConnections: (count) => connections.set({}, count),
      countHandshake: (result) => handshakes.inc({ result }),
      countClose: (code) => closes.inc({ code: String(code) }),
      countSessionRotation: (reason) => rotations.inc({ reason }),
      countRateLimited: (scope, count) => rateLimited.inc({ scope }, count),
      setSocketsPaused: (count) => socketsPaused.set({}, count),
      watchSendBufferedBytes: sendBuffered.watch,
    },
    log: {
      countStored: (count) => stored.inc({}, count),
      countDuplicates: (count) => duplicates.inc({}, count),
      countRefused: (code, count = 1) => refused.inc({ code }, count),
      observeBatchEvents: (count) => batchEvents.observe({}, count),
      observeCommit: (durationMs) => commitDuration.observe({}, durationMs),
      setIntakeBufferedBytes: (bytes) => intakeBuffered.set({}, bytes),
    },
    delivery: {
      observeRelay: (durationMs) => relayDuration.observe({}, durationMs),
      countCatchUp: () => catchUps.inc({}),
      countReplay: () => replays.inc({}),
      setConnectionsBehind: (count) => behind.set({}, count),
    },
    process: { observeEventLoopLag: (lagMs) => eventLoopLag.observe({}, lagMs) },
    contentType: registry.contentType,
    render: () => registry.metrics(),
    read: async (name, labels = {}) => {
      const metric = (await registry.getMetricsAsJSON()).find((candidate) => candidate.name === name)
      if (metric === undefined) throw new RangeError(`no metric is named ${name}`)
      let sum = 0
      for (const sample of metric.values) {
        // A histogram's samples carry names of their own; its plain values have none or the metric's.
        const sampleName = 'metricName' in sample ? sample.metricName : undefined
        if (sampleName !== undefined && sampleName !== name && sampleName !== `${name}_count`) continue
        const held: Readonly<Record<string, string | number | undefined>> = sample.labels
        if (Object.entries(labels).every(([label, value]) => held[label] === value)) sum += sample.value
      }
      return sum
    },
  }
}
