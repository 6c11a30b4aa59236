// The three kinds of metric over one prom-client registry. A label's values are a closed list, written down where the
// metric is made and checked by the compiler wherever it is counted: no id and no text of a peer can become one.

import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

/** By label, every value it can have. */
export type LabelValues = Readonly<Record<string, readonly string[]>>

type Labels<Values extends LabelValues> = { readonly [Name in keyof Values]: Values[Name][number] }

/** What a metric is, for whoever compares the documents with it. */
export interface MetricDefinition {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels: LabelValues
}

export interface MetricKinds {
  readonly definitions: readonly MetricDefinition[]
  gauge(name: string, help: string): { set(value: number): void }
  /** Reads its value when it is scraped; 0 until `watch` says what to read. */
  watchedGauge(name: string, help: string): { watch(read: () => number): void }
  counter<const Values extends LabelValues = Record<never, never>>(
    name: string,
    help: string,
    labels?: Values,
  ): { inc(labels: Labels<Values>, count?: number): void }
  histogram<const Values extends LabelValues = Record<never, never>>(
    name: string,
    help: string,
    buckets: readonly number[],
    labels?: Values,
  ): { observe(labels: Labels<Values>, value: number): void }
}

export function createMetricKinds(registry: Registry): MetricKinds {
  const registers = [registry]
  const definitions: MetricDefinition[] = []
  const define = (type: MetricDefinition['type'], name: string, help: string, labels: LabelValues = {}) => {
    definitions.push({ name, type, help, labels })
    return { name, help, labelNames: Object.keys(labels), registers }
  }
  return {
    definitions,
    gauge: (name, help) => {
      const metric = new Gauge(define('gauge', name, help))
      return { set: (value) => metric.set(value) }
    },
    watchedGauge: (name, help) => {
      let read = (): number => 0
      const metric: Gauge = new Gauge({ ...define('gauge', name, help), collect: () => metric.set(read()) })
      return {
        watch: (next) => {
          read = next
        },
      }
    },
    counter: (name, help, labels) => {
      const metric = new Counter(define('counter', name, help, labels))
      return { inc: (values, count = 1) => metric.inc(values, count) }
    },
    histogram: (name, help, buckets, labels) => {
      const metric = new Histogram({ ...define('histogram', name, help, labels), buckets: [...buckets] })
      return { observe: (values, value) => metric.observe(values, value) }
    },
  }
}
