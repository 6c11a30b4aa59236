// What is counted of the database: every query by operation and status, the pool, and the room it takes.

import { OPERATIONS, type Operation } from '../db/statement.ts'
import { LATENCY_BUCKETS_MS, LATENCY_BUCKETS_S, toSeconds } from './latency-buckets.ts'
import type { MetricKinds } from './metric-kinds.ts'

/** `timeout`: it was given up, by the server or by us, because its time was over. */
export const QUERY_STATUSES = ['ok', 'error', 'timeout'] as const
export type QueryStatus = (typeof QUERY_STATUSES)[number]

export interface PoolState {
  /** Connections it may have. */
  readonly size: number
  readonly busy: number
  /** Queries that wait for one. */
  readonly waiting: number
}

export interface DatabaseMetrics {
  observeQuery(query: { operation: Operation; status: QueryStatus; durationMs: number }): void
  countSlowQuery(): void
  /** Where to read, at each scrape, how the pool stands; an embedded database has none. */
  watchPool(read: () => PoolState): void
  /** From asking the pool for a connection until there was one, or none to be had. */
  observePoolWait(durationMs: number): void
  setDatabaseBytes(bytes: number): void
}

export function createDatabaseMetrics({ counter, gauge, watchedGauge, histogram }: MetricKinds): DatabaseMetrics {
  const labels = { operation: OPERATIONS, status: QUERY_STATUSES }
  // Its name and unit are given; all others are in seconds, as Prometheus wants them.
  const duration = histogram('database_query_duration_ms', 'Duration of database queries', LATENCY_BUCKETS_MS, labels)
  const queries = counter('database_queries_total', 'Database queries', labels)
  const slowQueries = counter('database_slow_queries_total', 'Database queries over the slow-query threshold')
  const poolSize = watchedGauge(
    'valise_pool_size',
    'Database connections that this node may have; 0 when it is embedded',
  )
  const poolBusy = watchedGauge('valise_pool_busy', 'Database connections in use')
  const poolWaiting = watchedGauge('valise_pool_waiting', 'Queries waiting for a database connection')
  const poolWait = histogram(
    'valise_pool_wait_seconds',
    'Time that queries and transactions waited for a database connection',
    LATENCY_BUCKETS_S,
  )
  const databaseBytes = gauge('valise_database_size_bytes', 'Size of the database, looked at once a minute')
  return {
    observeQuery: ({ operation, status, durationMs }) => {
      duration.observe({ operation, status }, durationMs)
      queries.inc({ operation, status })
    },
    countSlowQuery: () => slowQueries.inc({}),
    watchPool: (read) => {
      poolSize.watch(() => read().size)
      poolBusy.watch(() => read().busy)
      poolWaiting.watch(() => read().waiting)
    },
    observePoolWait: (durationMs) => poolWait.observe({}, toSeconds(durationMs)),
    setDatabaseBytes: databaseBytes.set,
  }
}
