// The door to the database: PostgreSQL through `pg`, and the types that the embedded database fills too.
// Every query, of the pool or inside a transaction, passes one monitor (query-monitor.ts) that counts, times and, when
// slow, logs it, never with a value. Commits are durable: a server or role with synchronous_commit off is refused (P3).

import { performance } from 'node:perf_hooks'
import type pg from 'pg'
import { createActivityReader } from './activity-reader.ts'
import { createConnectionPool } from './connection-pool.ts'
import type { Database, Queryable } from './database.ts'
import { parseDatabaseUrl } from './database-url.ts'
import { refuseSharedBackends } from './pooler-check.ts'
import { createQueryMonitor, type QueryMonitorParts, type QueryNote } from './query-monitor.ts'
import { settleConnection } from './session-settings.ts'
import { isConnectionLost } from './sql-state.ts'
import { checkServer, DatabaseRefusedError } from './startup-checks.ts'
import type { Statement } from './statement.ts'
import { begin, runTransaction } from './transaction.ts'
import { createWaitWatch } from './wait-watch.ts'

export type { Database, Queryable } from './database.ts'
export { isRefusedData } from './sql-state.ts'
export type { Statement } from './statement.ts'

export interface PostgresParts extends QueryMonitorParts {
  readonly url: string
  readonly poolSize: number
  readonly statementTimeoutMs?: number
}

const STATEMENT_TIMEOUT_MS = 15_000
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
/** A connection the network swallowed gives no answer at all: give up this long after the server should have. */
const LOST_ANSWER_MS = 5_000

/** Throws a DatabaseRefusedError when the server's version or settings break a promise, a ReadOnlyError on a standby. */
export async function openPostgres(parts: PostgresParts): Promise<Database> {
  const { log, metrics, url, poolSize, statementTimeoutMs = STATEMENT_TIMEOUT_MS } = parts
  const parsed = parseDatabaseUrl(url)
  if (!parsed.ok) throw new DatabaseRefusedError(`DATABASE_URL ${parsed.problem}`)
  const monitor = createQueryMonitor(parts)
  const settings = { statementTimeoutMs, idleInTransactionTimeoutMs: IDLE_IN_TRANSACTION_TIMEOUT_MS }
  /** That of the first connection. */
  let schema: string | undefined
  const pool = createConnectionPool({
    urls: parsed.urls,
    poolSize,
    log,
    settle: async (client) => {
      const settled = await settleConnection(
        connectionOf(client, statementTimeoutMs, () => undefined),
        settings,
        schema,
      )
      schema ??= settled.schema
      return settled.pid
    },
  })
  const activity = createActivityReader({ url: () => pool.presentUrl, monitor })
  const waitWatch = createWaitWatch({ slowQueryMs: parts.slowQueryMs, readStates: activity.readStates })
  let isClosing = false
  metrics.watchPool(() => ({ size: poolSize, ...pool.counts }))

  const connectionOf = (client: pg.ClientBase, timeoutMs: number, onError: (error: unknown) => void): Queryable => ({
    query: async <Row extends object>(statement: Statement, values: readonly unknown[]) => {
      const config = {
        text: statement.text,
        values: [...values],
        query_timeout: timeoutMs + LOST_ANSWER_MS,
        ...(statement.name === '' ? {} : { name: statement.name }),
      }
      try {
        return (await client.query<Row>(config)).rows
      } catch (error) {
        onError(error)
        throw error
      }
    },
  })

  interface Lent extends Queryable {
    readonly waitMs: number
    readonly pid: number | undefined
  }
  type Use<T> = (connection: Lent) => Promise<T>
  const borrow = async <T>(timeoutMs: number, use: Use<T>): Promise<T> => {
    const startedAtMs = performance.now()
    const taken = await pool.take().finally(() => metrics.observePoolWait(performance.now() - startedAtMs))
    let isLost = false
    const connection = connectionOf(taken.client, timeoutMs, (error) => {
      taken.note(error)
      if (isConnectionLost(error)) isLost = true
    })
    try {
      return await use({ ...connection, waitMs: performance.now() - startedAtMs, pid: taken.pid })
    } finally {
      taken.release(isLost)
    }
  }

  const underWay = new Set<Promise<unknown>>()
  const lend = async <T>(timeoutMs: number, use: Use<T>): Promise<T> => {
    if (isClosing) throw new Error('the database is closed')
    const work = borrow(timeoutMs, use)
    underWay.add(work)
    try {
      return await work
    } finally {
      underWay.delete(work)
    }
  }

  const runOn = async <Row extends object>(
    { query, pid }: Lent,
    note: QueryNote,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<Row[]> => {
    const end = waitWatch.begin(pid)
    try {
      return await query<Row>(statement, values)
    } finally {
      note.observed = end()
    }
  }

  /** A transaction's wait for its connection belongs to its first statement, also when there is none to be had. */
  const lendToTransaction = async <T>(timeoutMs: number, use: (connection: Queryable) => Promise<T>): Promise<T> => {
    const askedAtMs = performance.now()
    let isLent = false
    try {
      return await lend(timeoutMs, (lent) => {
        isLent = true
        let owedMs = lent.waitMs
        const query = <Row extends object>(statement: Statement, values: readonly unknown[]): Promise<Row[]> => {
          const waitedMs = owedMs
          owedMs = 0
          return monitor(statement, (note) => runOn<Row>(lent, note, statement, values), waitedMs)
        }
        return use({ query })
      })
    } catch (error) {
      if (!isLent) await monitor(begin, () => Promise.reject(error), performance.now() - askedAtMs)
      throw error
    }
  }

  /** The pool's own end waits neither for queries that have no connection yet nor for the server to let go. */
  const close = async (): Promise<void> => {
    isClosing = true
    await Promise.allSettled(underWay)
    waitWatch.close()
    await Promise.all([pool.end(), activity.close()])
  }

  const database: Database = {
    kind: 'postgres',
    query: <Row extends object>(statement: Statement, values: readonly unknown[]) =>
      monitor(statement, (note) =>
        lend(statementTimeoutMs, (lent) => {
          note.waitMs = lent.waitMs
          return runOn<Row>(lent, note, statement, values)
        }),
      ),
    transaction: (options, work) =>
      runTransaction(
        (use) => lendToTransaction(options.timeoutMs ?? statementTimeoutMs, use),
        options,
        work,
        (err, attempt) =>
          log.warn(
            { event: 'db.transaction.retry', transaction: options.name, attempt, err },
            'A transaction runs again',
          ),
      ),
    close,
  }
  try {
    await checkServer(database, log)
    if (poolSize > 1) {
      await lend(statementTimeoutMs, (one) => lend(statementTimeoutMs, (other) => refuseSharedBackends(one, other)))
    }
  } catch (error) {
    await close()
    throw error
  }
  return database
}
