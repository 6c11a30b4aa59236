// Every number that can be scraped, by name, in one registry of its own (nothing global but Node's own facts, so two
// servers in one process never mix). Parts ask for the small interface they use. docs/OPERATIONS.md has the table.

import { Registry } from 'prom-client'
import { type BusMetrics, createBusMetrics, createRedisMetrics, type RedisMetrics } from './bus-metrics.ts'
import { createDatabaseMetrics, type DatabaseMetrics } from './database-metrics.ts'
import { createGatewayMetrics, type GatewayMetrics } from './gateway-metrics.ts'
import { createAdminMetrics, createHttpMetrics, type HttpMetrics, type PlaceMetrics } from './http-metrics.ts'
import {
  createDeliveryMetrics,
  createEventLogMetrics,
  type DeliveryMetrics,
  type EventLogMetrics,
} from './log-metrics.ts'
import { createMetricKinds, type MetricDefinition } from './metric-kinds.ts'
import { createPairingMetrics, type PairingMetrics } from './pairing-metrics.ts'
import { createProcessMetrics, type ProcessMetrics, renderNodeMetrics } from './process-metrics.ts'
import { createRetentionMetrics, type RetentionMetrics } from './retention-metrics.ts'
import { createStorageMetrics, type StorageMetrics } from './storage-metrics.ts'

export type { BusMetrics, RedisMetrics } from './bus-metrics.ts'
export type { DatabaseMetrics } from './database-metrics.ts'
export type { GatewayMetrics } from './gateway-metrics.ts'
export type { HttpMetrics } from './http-metrics.ts'
export type { DeliveryMetrics, EventLogMetrics } from './log-metrics.ts'
export type { ProcessMetrics } from './process-metrics.ts'
export type { RetentionMetrics } from './retention-metrics.ts'

export interface Metrics {
  readonly redis: RedisMetrics
  readonly database: DatabaseMetrics
  readonly bus: BusMetrics
  readonly gateway: GatewayMetrics
  readonly http: HttpMetrics
  readonly admin: PlaceMetrics
  readonly log: EventLogMetrics
  readonly delivery: DeliveryMetrics
  readonly retention: RetentionMetrics
  readonly pairing: PairingMetrics
  readonly process: ProcessMetrics
  readonly storage: StorageMetrics
  /** Of this server's own metrics, with every value that a label can have. */
  readonly definitions: readonly MetricDefinition[]
  readonly contentType: string
  /** The text that Prometheus scrapes. */
  render(): Promise<string>
  /** Everything that is scraped, as numbers: what the status page is made of. */
  samples(): Promise<readonly MetricSample[]>
  /** The present value of a gauge or a counter, or a histogram's count, summed over the labels not given. */
  read(name: string, labels?: Readonly<Record<string, string>>): Promise<number>
}

/** A line of the exposition: a histogram's are named `…_bucket` (with `le`), `…_sum` and `…_count`. */
export interface MetricSample {
  readonly name: string
  readonly labels: Readonly<Record<string, string | number | undefined>>
  readonly value: number
}

export function createMetrics(): Metrics {
  const registry = new Registry()
  const kinds = createMetricKinds(registry)
  return {
    redis: createRedisMetrics(kinds),
    database: createDatabaseMetrics(kinds),
    bus: createBusMetrics(kinds),
    gateway: createGatewayMetrics(kinds),
    http: createHttpMetrics(kinds),
    admin: createAdminMetrics(kinds),
    log: createEventLogMetrics(kinds),
    delivery: createDeliveryMetrics(kinds),
    retention: createRetentionMetrics(kinds),
    pairing: createPairingMetrics(kinds),
    process: createProcessMetrics(kinds),
    storage: createStorageMetrics(kinds),
    definitions: kinds.definitions,
    contentType: registry.contentType,
    render: async () => `${await registry.metrics()}\n${await renderNodeMetrics()}`,
    samples: async () => flatten(await registry.getMetricsAsJSON()),
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

function flatten(metrics: Awaited<ReturnType<Registry['getMetricsAsJSON']>>): MetricSample[] {
  return metrics.flatMap(({ name, values }) =>
    values.map((sample): MetricSample => {
      const named = 'metricName' in sample && typeof sample.metricName === 'string' ? sample.metricName : name
      return { name: named, labels: sample.labels, value: sample.value }
    }),
  )
}
