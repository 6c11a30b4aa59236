// The one place where queries are counted and timed, those that fail or time out too. A slow one is logged with what it
// waited for, as far as that can be told, and never with a parameter or a literal.

import { performance } from 'node:perf_hooks'
import type { Log } from '../telemetry/log.ts'
import type { DatabaseMetrics } from '../telemetry/metrics.ts'
import { statusOfError } from './sql-state.ts'
import { operationOf, type Statement } from './statement.ts'
import type { ObservedWait } from './wait-watch.ts'

export interface QueryMonitorParts {
  readonly log: Log
  readonly metrics: DatabaseMetrics
  readonly slowQueryMs: number
}

/** What a query can tell about itself while it runs. */
export interface QueryNote {
  /** Milliseconds it waited for a connection. */
  waitMs: number
  /** Milliseconds it waited for the disk, where this process writes it. */
  diskMs: number
  /** What its backend was seen to wait for. */
  observed: ObservedWait
}

/** `waitedMs` is what passed for it before it was called: a transaction waits for its connection before it begins. */
export type QueryMonitor = <Row>(
  statement: Statement,
  run: (note: QueryNote) => Promise<Row[]>,
  waitedMs?: number,
) => Promise<Row[]>

export function createQueryMonitor({ log, metrics, slowQueryMs }: QueryMonitorParts): QueryMonitor {
  return async (statement, run, waitedMs = 0) => {
    const operation = operationOf(statement)
    const startedAtMs = performance.now() - waitedMs
    const note: QueryNote = { waitMs: waitedMs, diskMs: 0, observed: { kind: 'unknown' } }
    const finish = (status: 'ok' | 'error' | 'timeout', rows: number): void => {
      const durationMs = performance.now() - startedAtMs
      metrics.observeQuery({ operation, status, durationMs })
      if (durationMs < slowQueryMs) return
      metrics.countSlowQuery()
      log.warn(
        {
          event: 'db.query.slow',
          operation,
          statement: statement.name,
          status,
          durationMs: Math.round(durationMs),
          waitMs: Math.round(note.waitMs),
          ...explainWait(note, durationMs),
          rows,
        },
        'A database query was slow',
      )
    }
    let rows: Awaited<ReturnType<typeof run>>
    try {
      rows = await run(note)
    } catch (error) {
      finish(statusOfError(error), 0)
      throw error
    }
    finish('ok', rows.length)
    return rows
  }
}

/** What took at least half of its time, by our own clock; otherwise what its backend was seen at. */
function explainWait({ waitMs, diskMs, observed }: QueryNote, durationMs: number) {
  if (waitMs >= durationMs / 2) return { waitedFor: 'connection' }
  if (diskMs >= durationMs / 2) return { waitedFor: 'disk' }
  return observed.event === undefined
    ? { waitedFor: observed.kind }
    : { waitedFor: observed.kind, waitEvent: observed.event }
}
