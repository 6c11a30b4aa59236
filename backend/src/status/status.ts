// The status of a server as `/status.json` gives it: who it is, whether it is ready, what happens now, the last minutes
// second by second, and what went wrong, by code. Numbers and codes only; nothing of a user, a device or a stream.

import { ERROR_CODES, errorEntry } from '@valise/protocol'
import { z } from 'zod'
import type { Readiness } from '../http/readiness.ts'
import type { LimitScope } from '../telemetry/gateway-metrics.ts'
import type { History } from './history.ts'
import { type HistogramSpan, quantileOf, spanOf } from './quantile.ts'
import {
  CODE_KINDS,
  COUNTER_NAMES,
  type CodeCount,
  type CounterName,
  GAUGE_NAMES,
  type HistogramName,
  type Reading,
} from './reading.ts'

/** One value a second; null where there is nothing to tell, as of the latency of a second in which nothing was stored. */
const SERIES_NAMES = [
  'connections',
  'connections_behind',
  'events_per_s',
  'handshakes_per_s',
  'queries_per_s',
  'commit_p50_ms',
  'commit_p99_ms',
  'relay_p50_ms',
  'relay_p99_ms',
  'query_p50_ms',
  'query_p99_ms',
  'lag_ms',
  'cpu_share',
  'rss_bytes',
  'rotations',
  'replays',
  'slow_queries',
  'errors',
] as const
export type SeriesName = (typeof SERIES_NAMES)[number]

const FIGURE_NAMES = [...SERIES_NAMES, ...GAUGE_NAMES] as const

const textSchema = z.string().max(1000)
const countSchema = z.number().min(0)
const figureSchema = z.number().nullable()

const statusSchema = z.object({
  server: z.object({
    version: textSchema,
    /** base64url, as clients pin it. */
    fingerprint: textSchema,
    database: z.enum(['postgres', 'pglite']),
    bus: z.enum(['redis', 'local']),
    started_at_ms: countSchema,
  }),
  now_ms: countSchema,
  readiness: z.object({
    is_ready: z.boolean(),
    problems: z.array(textSchema).max(20),
    notes: z.array(textSchema).max(20),
  }),
  /** Gauges as they stand; rates, latencies and shares over the last `window_ms`. */
  now: z.record(z.enum(FIGURE_NAMES), figureSchema),
  window_ms: countSchema,
  /** Counted since the server began. */
  total: z.record(z.enum(COUNTER_NAMES), countSchema),
  /** Counted within the seconds below. */
  recent: z.record(z.enum(COUNTER_NAMES), countSchema),
  /** When each second ended, Unix milliseconds; the values of each series stand beside it. */
  seconds: z.array(countSchema).max(1000),
  series: z.record(z.enum(SERIES_NAMES), z.array(figureSchema).max(1000)),
  /** What went wrong, the latest first. */
  errors: z
    .array(
      z.object({
        kind: z.enum(CODE_KINDS),
        code: textSchema,
        text: textSchema,
        total: countSchema,
        recent: countSchema,
        last_ms: countSchema.nullable(),
      }),
    )
    .max(1000),
})
export type Status = z.infer<typeof statusSchema>

/** `undefined` for what no server of this version says. */
export const parseStatus = (json: unknown): Status | undefined => statusSchema.safeParse(json).data

export type ServerFacts = Status['server']

/** A latency of a single second jumps; over so many it can be read. */
const WINDOW_READINGS = 10

/** `history` holds one reading at least. */
export function describeStatus(server: ServerFacts, history: History, readiness: Readiness): Status {
  const { readings } = history
  const { problems, notes } = readiness
  const latest = readings.at(-1)
  const first = readings[0]
  if (latest === undefined || first === undefined) throw new Error('there is no reading yet')
  const windowStart = readings.at(-1 - WINDOW_READINGS) ?? first
  const perSecond = readings.slice(1).map((later, i) => figuresOfSecond(readings[i] ?? first, later))
  const now = figuresBetween(windowStart, latest)
  return {
    server,
    now_ms: latest.atMs,
    readiness: { is_ready: problems.length === 0, problems: [...problems], notes: [...notes] },
    now: { ...now, ...latest.gauges },
    window_ms: latest.atMs - windowStart.atMs,
    total: latest.counters,
    recent: differences(first, latest),
    seconds: readings.slice(1).map(({ atMs }) => atMs),
    series: recordOf(SERIES_NAMES, (name) => perSecond.map((figures) => figures[name])),
    errors: describeErrors(first, latest, history),
  }
}

type Figures = Readonly<Record<SeriesName, number | null>>

/** A second that is over does not change: who looks every second pays for the newest one. */
const knownFigures = new WeakMap<Reading, { readonly earlier: Reading; readonly figures: Figures }>()

function figuresOfSecond(earlier: Reading, later: Reading): Figures {
  const known = knownFigures.get(later)
  if (known?.earlier === earlier) return known.figures
  const figures = figuresBetween(earlier, later)
  knownFigures.set(later, { earlier, figures })
  return figures
}

function figuresBetween(earlier: Reading, later: Reading): Figures {
  const elapsedMs = Math.max(1, later.atMs - earlier.atMs)
  const counted = differences(earlier, later)
  const span = (name: HistogramName) =>
    spanOf(earlier === later ? undefined : earlier.histograms[name], later.histograms[name])
  const [commit, relay, query, lag] = [span('commit'), span('relay'), span('query'), span('lag')]
  const ratePerS = (name: CounterName): number => round((1000 * counted[name]) / elapsedMs)
  return {
    connections: later.gauges.connections,
    connections_behind: later.gauges.connections_behind,
    events_per_s: ratePerS('events_stored'),
    handshakes_per_s: ratePerS('handshakes'),
    queries_per_s: ratePerS('queries'),
    commit_p50_ms: latency(commit, 0.5),
    commit_p99_ms: latency(commit, 0.99),
    relay_p50_ms: latency(relay, 0.5),
    relay_p99_ms: latency(relay, 0.99),
    query_p50_ms: latency(query, 0.5),
    query_p99_ms: latency(query, 0.99),
    // The longest stall of each second is what was observed, once a second.
    lag_ms: lag.total > 0 ? round(lag.sum / lag.total) : null,
    cpu_share: round((later.cpuMs - earlier.cpuMs) / elapsedMs),
    rss_bytes: later.rssBytes,
    rotations: counted.rotations,
    replays: counted.replays,
    slow_queries: counted.slow_queries,
    errors: countErrors(later) - countErrors(earlier),
  }
}

const latency = (span: HistogramSpan, share: number): number | null => {
  const quantile = quantileOf(span, share)
  return quantile === undefined ? null : round(quantile)
}

const differences = (earlier: Reading, later: Reading): Record<CounterName, number> =>
  recordOf(COUNTER_NAMES, (name) => later.counters[name] - earlier.counters[name])

/** A handshake that fails closes its socket with a code too, or meets a limit: it is counted there. */
const countErrors = ({ codes }: Reading): number =>
  codes.reduce((sum, { kind, count }) => (kind === 'handshake' ? sum : sum + count), 0)

function describeErrors(first: Reading, latest: Reading, history: History): Status['errors'] {
  const countBefore = new Map(first.codes.map(({ kind, code, count }) => [`${kind} ${code}`, count]))
  return latest.codes
    .map(({ kind, code, count }) => ({
      kind,
      code,
      text: describeCode({ kind, code }),
      total: count,
      recent: count - (countBefore.get(`${kind} ${code}`) ?? 0),
      last_ms: history.lastSeen({ kind, code }) ?? null,
    }))
    .sort((one, other) => (other.last_ms ?? 0) - (one.last_ms ?? 0) || other.total - one.total)
}

const LIMIT_TEXTS: Readonly<Record<LimitScope, string>> = {
  device: 'A device published more than VALISE_DEVICE_EVENTS_PER_S',
  user: 'The devices of a user published more than VALISE_USER_EVENTS_PER_S',
  device_bytes: 'A device published more than VALISE_DEVICE_BYTES_PER_S',
  user_bytes: 'The devices of a user published more than VALISE_USER_BYTES_PER_S',
  append: 'Device logs were appended to more often than VALISE_DEVICE_APPENDS_PER_MIN or VALISE_USER_APPENDS_PER_MIN',
  registration: 'More accounts were registered than VALISE_REGISTRATIONS_PER_HOUR or VALISE_NODE_REGISTRATIONS_PER_MIN',
  storage: 'The server is short of storage',
  address: 'An address began more handshakes than VALISE_HANDSHAKES_PER_MIN',
  invitation: 'More invitation codes were tried than may be',
  mailbox: 'An address asked for mailboxes more often than VALISE_MAILBOX_REQUESTS_PER_MIN',
}

const limitTextByCode: ReadonlyMap<string, string> = new Map(Object.entries(LIMIT_TEXTS))

/** In the words of the registry of errors. */
function describeCode({ kind, code }: Pick<CodeCount, 'kind' | 'code'>): string {
  if (kind === 'limit') return limitTextByCode.get(code) ?? ''
  if (kind === 'query') return 'A database query failed or timed out'
  const known = ERROR_CODES.find((candidate) =>
    kind === 'close' ? String(errorEntry(candidate).close) === code : candidate === code,
  )
  return known === undefined ? '' : errorEntry(known).text
}

function recordOf<Name extends string, Value>(
  names: readonly Name[],
  read: (name: Name) => Value,
): Record<Name, Value> {
  return Object.fromEntries(names.map((name) => [name, read(name)])) as Record<Name, Value>
}

const round = (value: number): number => Math.round(value * 100) / 100
