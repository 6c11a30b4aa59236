// The figures as tables in Markdown, so that a run can be pasted into README.md.

import type { BaselineResult } from './baseline.ts'
import type { CaseResult, LoadCase } from './cases.ts'
import { median } from './median.ts'
import type { ConnectionsResult } from './session-costs.ts'

export const whole = (value: number): string => Math.round(value).toLocaleString('en-US').replaceAll(',', ' ')
const milliseconds = (value: number): string => value.toFixed(value < 10 ? 2 : 0)
export const optional = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined ? '–' : format(value)

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)))
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`
  const rule = `|${widths.map((width, i) => (i === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`
  return [line(head), rule, ...rows.map(line)].join('\n')
}

export interface MeasuredCase {
  readonly load: LoadCase
  /** One a run. */
  readonly results: readonly CaseResult[]
}

/** One line about one run. */
export function formatRun({ eventsPerSecond, p50Ms, cpu }: CaseResult): string {
  const foreign = optional(cpu.foreignShare, (share) => `${Math.round(share * 100)} %`)
  return `${whole(eventsPerSecond)} events/s, p50 ${milliseconds(p50Ms)} ms, CPU of others ${foreign}`
}

/** Each column is the median of the runs by itself. */
export function formatCases(measured: readonly MeasuredCase[]): string {
  const head = [
    'users × in flight',
    'events/s',
    'p50 ms',
    'p99 ms',
    'events a commit',
    'server µs/event',
    'PostgreSQL µs/event',
    'load µs/event',
    'CPU of others',
  ]
  const rows = measured.map(({ load, results }) => {
    const of = (read: (result: CaseResult) => number): number => median(results.map(read))
    const ofOptional = (read: (result: CaseResult) => number | undefined): number | undefined => {
      const values = results.map(read).filter((value) => value !== undefined)
      return values.length === 0 ? undefined : median(values)
    }
    return [
      `${load.users} × ${load.inFlight}${load.database === 'pglite' ? ' on PGlite' : ''}`,
      whole(of((result) => result.eventsPerSecond)),
      milliseconds(of((result) => result.p50Ms)),
      milliseconds(of((result) => result.p99Ms)),
      optional(
        ofOptional((result) => result.eventsPerCommit),
        (value) => value.toFixed(1),
      ),
      of((result) => result.cpu.serverUs).toFixed(1),
      optional(
        ofOptional((result) => result.cpu.postgresUs),
        (value) => value.toFixed(1),
      ),
      of((result) => result.cpu.loadUs).toFixed(1),
      optional(
        ofOptional((result) => result.cpu.foreignShare),
        (value) => `${Math.round(value * 100)} %`,
      ),
    ]
  })
  return table(head, rows)
}

export function formatBaselines(baselines: readonly BaselineResult[]): string {
  const rows = baselines.map(({ name, insertsPerSecond, p50Ms, p99Ms }) => [
    name,
    whole(insertsPerSecond),
    milliseconds(p50Ms),
    milliseconds(p99Ms),
  ])
  return table(['beside it', 'a second', 'p50 ms', 'p99 ms'], rows)
}

export function formatConnections(result: ConnectionsResult): string {
  const rows = [
    ['handshakes a second of server CPU', whole(result.handshakesPerCpuSecond)],
    ['server CPU a handshake, µs', whole(result.cpuMsPerHandshake * 1000)],
    ['server CPU a resume without events, µs', whole(result.cpuMsPerResume * 1000)],
    [`bytes of heap and buffers an idle device (${whole(result.devices)} devices)`, whole(result.heapBytesPerDevice)],
  ]
  return table(['connections', ''], rows)
}
