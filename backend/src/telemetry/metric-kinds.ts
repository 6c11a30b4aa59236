// The three kinds of metric over one prom-client registry, with their label names checked by the compiler.

import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

type Labels<Name extends string> = Readonly<Record<Name, string>>

export interface MetricKinds {
  gauge(name: string, help: string): { set(labels: Labels<never>, value: number): void }
  /** Reads its value when it is scraped; 0 until `watch` says what to read. */
  watchedGauge(name: string, help: string): { watch(read: () => number): void }
  counter<Name extends string = never>(
    name: string,
    help: string,
    labelNames?: readonly Name[],
  ): { inc(labels: Labels<Name>, count?: number): void }
  histogram<Name extends string = never>(
    name: string,
    help: string,
    buckets: readonly number[],
    labelNames?: readonly Name[],
  ): { observe(labels: Labels<Name>, value: number): void }
}

export function createMetricKinds(registry: Registry): MetricKinds {
  const registers = [registry]
  return {
    gauge: (name, help) => {
      const metric = new Gauge({ name, help, registers })
      return { set: (_labels, value) => metric.set(value) }
    },
    watchedGauge: (name, help) => {
      let read = (): number => 0
      const metric: Gauge = new Gauge({ name, help, registers, collect: () => metric.set(read()) })
      return {
        watch: (next) => {
          read = next
        },
      }
    },
    counter: <Name extends string>(name: string, help: string, labelNames: readonly Name[] = []) => {
      const metric = new Counter<Name>({ name, help, labelNames, registers })
      return { inc: (labels: Labels<Name>, count = 1) => metric.inc(labels, count) }
    },
    histogram: <Name extends string>(
      name: string,
      help: string,
      buckets: readonly number[],
      labelNames: readonly Name[] = [],
    ) => {
      const metric = new Histogram<Name>({ name, help, buckets: [...buckets], labelNames, registers })
      return { observe: (labels: Labels<Name>, value: number) => metric.observe(labels, value) }
    },
  }
}
