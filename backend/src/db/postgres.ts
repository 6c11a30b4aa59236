// The door to the database: PostgreSQL through `pg`, and the types that the embedded database fills too.
// Every query, of the pool or inside a transaction, passes one monitor that counts, times and, when slow, logs it,
// never with a value. Commits are durable: a server or role with synchronous_commit off is refused (P3).

import { performance } from 'node:perf_hooks'
import pg from 'pg'
import type { Log } from '../telemetry/log.ts'
import type { DatabaseMetrics } from '../telemetry/metrics.ts'
import type { Database, Queryable } from './database.ts'
import { isConnectionLost } from './sql-state.ts'
import { checkServer, settleConnection } from './startup-checks.ts'
import { operationOf, type Statement } from './statement.ts'
import { runTransaction } from './transaction.ts'
import { PARSERS } from './values.ts'

export type { Database, Queryable } from './database.ts'
export { isRefusedData } from './sql-state.ts'
export type { Statement } from './statement.ts'

export interface DatabaseParts {
  readonly log: Log
  readonly metrics: DatabaseMetrics
  readonly slowQueryMs: number
}

export interface PostgresParts extends DatabaseParts {
  readonly url: string
  readonly poolSize: number
  readonly statementTimeoutMs?: number
}

const STATEMENT_TIMEOUT_MS = 15_000
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
const CONNECT_TIMEOUT_MS = 5_000
/** A connection the network swallowed gives no answer at all: give up this long after the server should have. */
const LOST_ANSWER_MS = 5_000

/** Throws a DatabaseRefusedError when the server's version or settings break a promise. */
export async function openPostgres(parts: PostgresParts): Promise<Database> {
  const { log, metrics, url, poolSize, statementTimeoutMs = STATEMENT_TIMEOUT_MS } = parts
  const monitor = createQueryMonitor(parts)
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    application_name: 'valise',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: statementTimeoutMs,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    keepAlive: true,
    types: { getTypeParser: (oid: number) => PARSERS[oid] ?? keepText },
    onConnect: async (client) => settleConnection(connectionOf(client, statementTimeoutMs, () => undefined)),
  })
  const endings = new Set<Promise<unknown>>()
  let isClosing = false
  pool.on('connect', (client) => {
    client.on('error', (err) => {
      if (!isClosing) log.warn({ event: 'db.connection.lose', err }, 'A database connection was lost')
    })
    const ending: Promise<unknown> = new Promise((resolve) => client.once('end', resolve)).then(() =>
      endings.delete(ending),
    )
    endings.add(ending)
  })
  metrics.watchPool(() => ({
    size: poolSize,
    busy: pool.totalCount - pool.idleCount,
    waiting: pool.waitingCount,
  }))
  // The client has reported it; without a listener the pool would end the process.
  pool.on('error', () => undefined)

  const connectionOf = (client: pg.ClientBase, timeoutMs: number, onLost: () => void): Queryable => ({
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
        if (isConnectionLost(error)) onLost()
        throw error
      }
    },
  })

  type Use<T> = (connection: Queryable, waitMs: number) => Promise<T>
  const borrow = async <T>(timeoutMs: number, use: Use<T>): Promise<T> => {
    const startedAtMs = performance.now()
    const client = await pool.connect().finally(() => metrics.observePoolWait(performance.now() - startedAtMs))
    let isLost = false
    const connection = connectionOf(client, timeoutMs, () => {
      isLost = true
    })
    try {
      return await use(connection, performance.now() - startedAtMs)
    } finally {
      client.release(isLost)
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

  /** The pool's own end waits neither for queries that have no connection yet nor for the server to let go. */
  const close = async (): Promise<void> => {
    isClosing = true
    await Promise.allSettled(underWay)
    await pool.end()
    await Promise.all(endings)
  }

  const database: Database = {
    kind: 'postgres',
    query: <Row extends object>(statement: Statement, values: readonly unknown[]) =>
      monitor(statement, (note) =>
        lend(statementTimeoutMs, (connection, waitMs) => {
          note.waitMs = waitMs
          return connection.query<Row>(statement, values)
        }),
      ),
    transaction: (options, work) =>
      runTransaction(
        (use) =>
          lend(options.timeoutMs ?? statementTimeoutMs, (connection) =>
            use({ query: (statement, values) => monitor(statement, () => connection.query(statement, values)) }),
          ),
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
  } catch (error) {
    await close()
    throw error
  }
  return database
}

const keepText = (text: string): string => text

/** What a query can tell about itself while it runs. */
export interface QueryNote {
  /** Milliseconds it waited for a connection. */
  waitMs: number
}

export type QueryMonitor = <Row>(statement: Statement, run: (note: QueryNote) => Promise<Row[]>) => Promise<Row[]>

/** The one place where queries are counted and timed, those that fail or time out too. */
export function createQueryMonitor({ log, metrics, slowQueryMs }: DatabaseParts): QueryMonitor {
  return async (statement, run) => {
    const operation = operationOf(statement)
    const startedAtMs = performance.now()
    const note: QueryNote = { waitMs: 0 }
    const finish = (status: 'ok' | 'error', rows: number): void => {
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
          rows,
        },
        'A database query was slow',
      )
    }
    let rows: Awaited<ReturnType<typeof run>>
    try {
      rows = await run(note)
    } catch (error) {
      finish('error', 0)
      throw error
    }
    finish('ok', rows.length)
    return rows
  }
}
