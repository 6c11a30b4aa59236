// Reads from pg_stat_activity what backends wait for, over a connection of its own: the pool may be what is exhausted. It
// is opened when somebody asks, closed when nobody has for a while, and left alone for a while when it fails.

import { performance } from 'node:perf_hooks'
import pg from 'pg'
import type { QueryMonitor } from './query-monitor.ts'
import type { Statement } from './statement.ts'
import type { BackendState } from './wait-watch.ts'

export interface ActivityReaderParts {
  /** Where the backends are that are asked for. */
  url(): string
  readonly monitor: QueryMonitor
}

export interface ActivityReader {
  /** Of those that are at a query. Rejects when the database does not answer. */
  readStates(pids: readonly number[]): Promise<readonly BackendState[]>
  close(): Promise<void>
}

const TIMEOUT_MS = 1000
const IDLE_MS = 60_000
const RETRY_MS = 10_000

const readActivity: Statement = {
  name: '',
  text: `
    select
      a.pid,
      a.wait_event_type as "waitType",
      a.wait_event as "waitEvent"
    from pg_stat_activity as a
    where
      a.pid = any($1::integer[])
      and a.state = 'active'`,
}

export function createActivityReader({ url, monitor }: ActivityReaderParts): ActivityReader {
  let connecting: Promise<pg.Client> | undefined
  let idleTimer: NodeJS.Timeout | undefined
  let retryAtMs = 0
  let isClosed = false

  const open = async (): Promise<pg.Client> => {
    const client = new pg.Client({
      connectionString: url(),
      application_name: 'valise-watch',
      connectionTimeoutMillis: TIMEOUT_MS,
      query_timeout: 2 * TIMEOUT_MS,
    })
    // Whoever waits for an answer is told by its own rejection.
    client.on('error', () => undefined)
    await client.connect()
    // Not at connecting: PgBouncer refuses start-up parameters that it does not know.
    await client.query(`set statement_timeout to ${TIMEOUT_MS}`)
    return client
  }

  const end = async (): Promise<void> => {
    clearTimeout(idleTimer)
    const ending = connecting
    connecting = undefined
    await (await ending?.catch(() => undefined))?.end().catch(() => undefined)
  }

  return {
    readStates: async (pids) => {
      if (isClosed || performance.now() < retryAtMs) throw new Error('the database is not asked now')
      clearTimeout(idleTimer)
      connecting ??= open()
      try {
        const client = await connecting
        const rows = await monitor(readActivity, async () => {
          const result = await client.query<BackendState>(readActivity.text, [`{${pids.join(',')}}`])
          return result.rows
        })
        idleTimer = setTimeout(() => void end(), IDLE_MS).unref()
        return rows
      } catch (error) {
        retryAtMs = performance.now() + RETRY_MS
        await end()
        throw error
      }
    },
    close: async () => {
      isClosed = true
      await end()
    },
  }
}
