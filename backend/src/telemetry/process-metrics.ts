// What is seen of the process: its event loop and its disk, and of prom-client's default metrics those that an operator
// uses and whose names keep Prometheus' rules. Node's facts belong to the process, so they are watched once in it.

import { collectDefaultMetrics, Registry } from 'prom-client'
import { toSeconds } from './latency-buckets.ts'
import type { MetricKinds } from './metric-kinds.ts'

export interface ProcessMetrics {
  observeEventLoopLag(lagMs: number): void
  /** Where to read, at each scrape, the bytes still free where the data folder lies. */
  watchFreeBytes(read: () => number): void
}

const LAG_BUCKETS_S = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000].map(toSeconds)

export function createProcessMetrics({ histogram, watchedGauge }: MetricKinds): ProcessMetrics {
  const lag = histogram(
    'valise_event_loop_lag_seconds',
    'Longest stall of the event loop in each second',
    LAG_BUCKETS_S,
  )
  const freeBytes = watchedGauge('valise_data_free_bytes', 'Bytes free on the file system of the data folder')
  return {
    observeEventLoopLag: (lagMs) => lag.observe({}, toSeconds(lagMs)),
    watchFreeBytes: freeBytes.watch,
  }
}

const NODE_METRICS = new Set([
  'process_cpu_seconds_total',
  'process_max_fds',
  'process_open_fds',
  'process_resident_memory_bytes',
  'process_start_time_seconds',
  'nodejs_external_memory_bytes',
  'nodejs_gc_duration_seconds',
  'nodejs_heap_size_used_bytes',
])

let nodeRegistry: Registry | undefined

/** The text of Node's own metrics; watching begins with the first call. */
export function renderNodeMetrics(): Promise<string> {
  nodeRegistry ??= createNodeRegistry()
  return nodeRegistry.metrics()
}

function createNodeRegistry(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const { name } of registry.getMetricsAsArray()) if (!NODE_METRICS.has(name)) registry.removeSingleMetric(name)
  return registry
}
