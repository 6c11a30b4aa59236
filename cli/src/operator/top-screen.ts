// What `valise top` shows, as lines of a given width and height. Pure: a status in, text out. A server's words are shown
// as printable text only.

import type { Status } from '@valise/backend'
import { printable } from '../visible.ts'

export interface ScreenSize {
  readonly columns: number
  readonly rows: number
  readonly hasColour: boolean
}

/** `away`: the server did not answer; what is shown is what it said last, if anything. */
export type TopState =
  | { readonly type: 'live'; readonly status: Status }
  | { readonly type: 'away'; readonly status: Status | undefined; readonly forMs: number; readonly reason: string }

type Paint = (text: string) => string

interface Paints {
  readonly strong: Paint
  readonly faint: Paint
  readonly good: Paint
  readonly fair: Paint
  readonly bad: Paint
  readonly plot: Paint
}

const painted =
  (code: string): Paint =>
  (text) =>
    `\u001b[${code}m${text}\u001b[0m`
const plain: Paint = (text) => text
const COLOURED: Paints = {
  strong: painted('1'),
  faint: painted('2'),
  good: painted('32'),
  fair: painted('33'),
  bad: painted('31'),
  plot: painted('36'),
}
const UNCOLOURED: Paints = { strong: plain, faint: plain, good: plain, fair: plain, bad: plain, plot: plain }

const BARS = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const
const TITLE_WIDTH = 16
const FIGURE_WIDTH = 24
const MIN_PLOT_WIDTH = 10
const MAX_ERRORS = 8
/** As `59 min 59 s ago`. */
const LATEST_WIDTH = 15
/** A narrower terminal leaves out the kind of a code and how often it came in all. */
const WIDE_ERRORS = 80

type Series = Status['series'][keyof Status['series']]

interface Row {
  readonly title: string
  readonly figure: string
  readonly series: Series
}

export function renderTop(state: TopState, size: ScreenSize): string[] {
  const paints = size.hasColour ? COLOURED : UNCOLOURED
  const { status } = state
  const lines = [headline(state, paints, size.columns), ...remarks(state, paints, size.columns)]
  if (status !== undefined) {
    lines.push(paints.faint(cut(facts(status), size.columns)), '')
    lines.push(...rowsOf(status).map((row) => drawRow(row, paints, size.columns)))
    lines.push('', ...drawErrors(status, paints, size.columns))
  }
  return lines.slice(0, size.rows)
}

function headline(state: TopState, { strong, good, fair, bad }: Paints, columns: number): string {
  const name = strong('Valise')
  const room = columns - 8
  if (state.type === 'away') return `${name}  ${bad(cut(`no answer: ${printable(state.reason)}`, room))}`
  const { is_ready, notes } = state.status.readiness
  if (!is_ready) return `${name}  ${bad(cut('not ready', room))}`
  return `${name}  ${notes.length > 0 ? fair(cut('ready, with a remark', room)) : good(cut('ready', room))}`
}

function remarks(state: TopState, { fair, bad }: Paints, columns: number): string[] {
  if (state.type === 'away') {
    return state.status === undefined ? [] : [bad(cut(`as it was ${duration(state.forMs)} ago:`, columns))]
  }
  const { problems, notes } = state.status.readiness
  const shown = (text: string): string => cut(printable(text), columns)
  return [...problems.map((text) => bad(shown(text))), ...notes.map((text) => fair(shown(text)))]
}

const DATABASES = { postgres: 'PostgreSQL', pglite: 'embedded database' } as const
const BUSES = { redis: 'Redis', local: 'bus in the process' } as const

function facts({ server, now_ms }: Status): string {
  const { version, database, bus, started_at_ms, fingerprint } = server
  const parts = [
    `up ${duration(now_ms - started_at_ms)}`,
    `version ${printable(version)}`,
    DATABASES[database],
    BUSES[bus],
    printable(fingerprint),
  ]
  return parts.join(' · ')
}

function rowsOf({ now, series, total, recent }: Status): Row[] {
  const twice = (one: number | null, other: number | null): string =>
    one === null ? '–' : `${milliseconds(one)}, p99 ${milliseconds(other)}`
  const counted = (name: keyof Status['recent']): string => `${count(recent[name])}, in all ${count(total[name])}`
  return [
    {
      title: 'connections',
      figure: `${count(now.connections)}, behind ${count(now.connections_behind)}`,
      series: series.connections,
    },
    { title: 'events /s', figure: count(now.events_per_s), series: series.events_per_s },
    { title: 'commit p50', figure: twice(now.commit_p50_ms, now.commit_p99_ms), series: series.commit_p99_ms },
    { title: 'relay p50', figure: twice(now.relay_p50_ms, now.relay_p99_ms), series: series.relay_p99_ms },
    { title: 'handshakes /s', figure: count(now.handshakes_per_s), series: series.handshakes_per_s },
    { title: 'queries /s', figure: count(now.queries_per_s), series: series.queries_per_s },
    { title: 'slow queries', figure: counted('slow_queries'), series: series.slow_queries },
    { title: 'key rotations', figure: counted('rotations'), series: series.rotations },
    { title: 'replays', figure: counted('replays'), series: series.replays },
    { title: 'longest stall', figure: milliseconds(now.lag_ms), series: series.lag_ms },
    { title: 'CPU', figure: `${count((now.cpu_share ?? 0) * 100)} %`, series: series.cpu_share },
    { title: 'memory', figure: bytes(now.rss_bytes), series: series.rss_bytes },
  ]
}

function drawRow({ title, figure, series }: Row, { strong, faint, plot }: Paints, columns: number): string {
  const width = columns - TITLE_WIDTH - FIGURE_WIDTH
  const name = faint(cut(title.padEnd(TITLE_WIDTH), columns))
  if (width < MIN_PLOT_WIDTH) return name + strong(cut(figure, columns - TITLE_WIDTH))
  return name + strong(cut(figure, FIGURE_WIDTH - 1).padEnd(FIGURE_WIDTH)) + plot(bars(series, width))
}

/** The last `width` seconds; the newest is on the right, a second without a value is empty. */
function bars(series: Series, width: number): string {
  const shown = series.slice(-width)
  const highest = Math.max(...shown.map((value) => value ?? 0))
  const drawn = shown.map((value) => {
    if (value === null || highest <= 0) return ' '
    return BARS[value <= 0 ? 0 : Math.max(1, Math.round((value / highest) * (BARS.length - 1)))] ?? ' '
  })
  return drawn.join('').padStart(width)
}

function drawErrors({ errors, now_ms }: Status, { strong, faint, bad }: Paints, columns: number): string[] {
  if (errors.length === 0) return [faint(cut('nothing went wrong since this server began', columns))]
  const isWide = columns >= WIDE_ERRORS
  const figures = (recent: string, total: string, latest: string): string =>
    `${recent.padStart(8)}${isWide ? total.padStart(10) : ''}  ${latest.padEnd(LATEST_WIDTH)}`
  const figuresWidth = figures('', '', '').length
  const rows = errors.slice(0, MAX_ERRORS).map(({ kind, code, text, recent, total, last_ms }) => ({
    name: `${isWide ? `${kind} ` : ''}${printable(code)}`,
    figures: figures(count(recent), count(total), last_ms === null ? '–' : `${duration(now_ms - last_ms)} ago`),
    meaning: printable(text),
  }))
  const title = 'what went wrong'
  const longest = Math.max(title.length, ...rows.map(({ name }) => name.length))
  const width = Math.max(0, Math.min(longest, columns - figuresWidth))
  const left = (name: string): string => cut(name, width).padEnd(width)
  return [
    strong(cut(left(title) + figures('5 min', 'in all', 'latest'), columns)),
    ...rows.map((row) => {
      const meaning = cut(row.meaning, columns - width - figuresWidth - 1)
      return `${bad(left(row.name))}${cut(row.figures, columns - width)}${meaning === '' ? '' : ` ${faint(meaning)}`}`
    }),
  ]
}

const numbers = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 1 })

function count(value: number | null): string {
  return value === null ? '–' : numbers.format(value >= 10 ? Math.round(value) : value)
}

function milliseconds(value: number | null): string {
  if (value === null) return '–'
  if (value >= 10_000) return `${count(value / 1000)} s`
  return `${value < 1 ? value.toFixed(2) : count(value)} ms`
}

const bytes = (value: number | null): string => (value === null ? '–' : `${numbers.format(value / 1024 / 1024)} MiB`)

function duration(spanMs: number): string {
  const seconds = Math.max(0, Math.floor(spanMs / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds / 3600) % 24} h`
}

const cut = (text: string, width: number): string => {
  if (text.length <= width) return text
  return width < 1 ? '' : `${text.slice(0, width - 1)}…`
}
