// What the status page takes from the registry of metrics at one moment: the same numbers that are scraped, under the
// page's own names. Pure; no book-keeping of its own.

import type { MetricSample } from '../telemetry/metrics.ts'

const GAUGES = {
  connections: 'valise_connections',
  connections_behind: 'valise_connections_behind',
  sockets_paused: 'valise_sockets_paused',
  send_buffered_bytes: 'valise_send_buffered_bytes',
  intake_buffered_bytes: 'valise_intake_buffered_bytes',
  pool_waiting: 'valise_pool_waiting',
  subscriptions: 'redis_subscribers_active',
} as const

const COUNTERS = {
  events_stored: 'valise_events_stored_total',
  events_duplicate: 'valise_events_duplicate_total',
  events_refused: 'valise_events_refused_total',
  handshakes: 'valise_handshakes_total',
  rotations: 'valise_session_rotations_total',
  replays: 'valise_replays_total',
  catch_ups: 'valise_catch_ups_total',
  queries: 'database_queries_total',
  slow_queries: 'database_slow_queries_total',
  announcements_dropped: 'valise_announcements_dropped_total',
} as const

/** With the milliseconds of their unit. */
const HISTOGRAMS = {
  commit: { name: 'valise_commit_duration_seconds', unitMs: 1000 },
  relay: { name: 'valise_relay_duration_seconds', unitMs: 1000 },
  query: { name: 'database_query_duration_ms', unitMs: 1 },
  lag: { name: 'valise_event_loop_lag_seconds', unitMs: 1000 },
} as const

/** Counters that are shown code by code, with the label that holds the code. */
const CODED = {
  handshake: { name: 'valise_handshakes_total', label: 'result' },
  event: { name: 'valise_events_refused_total', label: 'code' },
  close: { name: 'valise_closes_total', label: 'code' },
  limit: { name: 'valise_rate_limited_total', label: 'scope' },
  query: { name: 'database_queries_total', label: 'status' },
} as const

export type GaugeName = keyof typeof GAUGES
export type CounterName = keyof typeof COUNTERS
export type HistogramName = keyof typeof HISTOGRAMS
export type CodeKind = keyof typeof CODED

export const GAUGE_NAMES = Object.keys(GAUGES) as [GaugeName, ...GaugeName[]]
export const COUNTER_NAMES = Object.keys(COUNTERS) as [CounterName, ...CounterName[]]
export const CODE_KINDS = Object.keys(CODED) as [CodeKind, ...CodeKind[]]

/** In milliseconds, since the process began; `counts[i]` is how many were at most `bounds[i]`, the last bound being infinite. */
export interface HistogramReading {
  readonly bounds: readonly number[]
  readonly counts: readonly number[]
  readonly sum: number
}

export interface CodeCount {
  readonly kind: CodeKind
  readonly code: string
  readonly count: number
}

/** Of the process itself. */
export interface ProcessReading {
  readonly rssBytes: number
  /** Of all threads, since the process began. */
  readonly cpuMs: number
}

export interface Reading extends ProcessReading {
  /** Unix milliseconds. */
  readonly atMs: number
  readonly gauges: Readonly<Record<GaugeName, number>>
  readonly counters: Readonly<Record<CounterName, number>>
  readonly histograms: Readonly<Record<HistogramName, HistogramReading>>
  readonly codes: readonly CodeCount[]
}

/** What is no error: `ok` of handshakes and queries, an end by the peer or in order, for new keys, of a node that stops. */
const HARMLESS: ReadonlySet<string> = new Set(['ok', 'peer', '1000', '1001', '1012'])
/** The labels are closed lists; should one ever not be, the page still stays small. */
const MAX_CODES = 200

export function takeReading(samples: readonly MetricSample[], atMs: number, process: ProcessReading): Reading {
  const sums = new Map<string, number>()
  for (const { name, value } of samples) sums.set(name, (sums.get(name) ?? 0) + value)
  const sumOf = (name: string): number => sums.get(name) ?? 0
  return {
    ...process,
    atMs,
    gauges: mapValues(GAUGES, sumOf),
    counters: mapValues(COUNTERS, sumOf),
    histograms: mapValues(HISTOGRAMS, ({ name, unitMs }) => readHistogram(samples, name, unitMs, sumOf(`${name}_sum`))),
    codes: CODE_KINDS.flatMap((kind) => readCodes(samples, kind)).slice(0, MAX_CODES),
  }
}

function readHistogram(samples: readonly MetricSample[], name: string, unitMs: number, sum: number): HistogramReading {
  const countByBound = new Map<number, number>()
  for (const sample of samples) {
    if (sample.name !== `${name}_bucket`) continue
    const bound = sample.labels['le'] === '+Inf' ? Number.POSITIVE_INFINITY : Number(sample.labels['le'])
    countByBound.set(bound, (countByBound.get(bound) ?? 0) + sample.value)
  }
  const sorted = [...countByBound].sort(([one], [other]) => one - other)
  return {
    bounds: sorted.map(([bound]) => bound * unitMs),
    counts: sorted.map(([, count]) => count),
    sum: sum * unitMs,
  }
}

function readCodes(samples: readonly MetricSample[], kind: CodeKind): CodeCount[] {
  const { name, label } = CODED[kind]
  const countByCode = new Map<string, number>()
  for (const sample of samples) {
    const code = String(sample.labels[label] ?? '')
    if (sample.name !== name || sample.value === 0 || code === '' || HARMLESS.has(code)) continue
    countByCode.set(code, (countByCode.get(code) ?? 0) + sample.value)
  }
  return [...countByCode].map(([code, count]) => ({ kind, code, count }))
}

function mapValues<Name extends string, Value, Mapped>(
  record: Readonly<Record<Name, Value>>,
  map: (value: Value) => Mapped,
): Record<Name, Mapped> {
  const entries = Object.entries<Value>(record).map(([name, value]) => [name, map(value)])
  return Object.fromEntries(entries) as Record<Name, Mapped>
}
