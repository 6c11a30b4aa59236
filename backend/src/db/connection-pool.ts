// The connections to PostgreSQL. Each is settled before it is used. When one shows that its server is not what it was
// (read-only, shut down, gone), all that were opened before are thrown away, because a failover behind one address
// leaves every one of them with the old server. Of several hosts it stays with the one that takes writes.

import type { EventEmitter } from 'node:events'
import pg from 'pg'
import type { Log } from '../telemetry/log.ts'
import { isPoolExhausted, isServerChanged } from './sql-state.ts'
import { PARSERS } from './values.ts'

export interface ConnectionPoolParts {
  /** One a host. */
  readonly urls: readonly string[]
  readonly poolSize: number
  readonly log: Log
  /** Sets a new connection and resolves to its backend's id; rejects when it must not be used. */
  settle(client: pg.ClientBase): Promise<number>
}

export interface ConnectionPool {
  /** A settled connection of the present server. Give it back with `release`. */
  take(): Promise<TakenConnection>
  readonly counts: { readonly busy: number; readonly waiting: number }
  /** Of the host that new connections go to. */
  readonly presentUrl: string
  /** Waits neither for connections that are taken nor for those that are still awaited. */
  end(): Promise<void>
}

export interface TakenConnection {
  readonly client: pg.ClientBase
  readonly pid: number | undefined
  /** Each error of the connection is to be noted. */
  note(error: unknown): void
  /** A lost one is not used again. */
  release(isLost: boolean): void
}

const CONNECT_TIMEOUT_MS = 5_000
/** One that does not answer must not keep the others waiting. */
const CONNECT_TIMEOUT_OF_SEVERAL_MS = 2_000
/** A name may point to another server some day. */
const MAX_LIFETIME_S = 30 * 60

export function createConnectionPool(parts: ConnectionPoolParts): ConnectionPool {
  const { urls, log } = parts
  const known = new WeakMap<pg.ClientBase, { readonly generation: number; pid: number | undefined }>()
  const endings = new Set<Promise<unknown>>()
  let generation = 0
  let hostIndex = 0
  let isClosing = false

  const noteChange = (): void => {
    generation++
  }

  const open = (config: pg.ClientConfig): pg.Client => {
    const client = new pg.Client({ ...config, connectionString: urls[hostIndex] })
    known.set(client, { generation, pid: undefined })
    return client
  }

  const pool = new pg.Pool({
    // The pool constructs what it is given; a function that returns an object may stand for a class.
    Client: function ofPresentHost(config: pg.ClientConfig) {
      return open(config)
    } as unknown as new () => pg.ClientBase,
    max: parts.poolSize,
    application_name: 'valise',
    connectionTimeoutMillis: urls.length > 1 ? CONNECT_TIMEOUT_OF_SEVERAL_MS : CONNECT_TIMEOUT_MS,
    maxLifetimeSeconds: MAX_LIFETIME_S,
    keepAlive: true,
    types: { getTypeParser: (oid: number) => PARSERS[oid] ?? keepText },
    onConnect: async (client) => {
      const pid = await parts.settle(client)
      const mark = known.get(client)
      if (mark !== undefined) mark.pid = pid
    },
  })
  pool.on('connect', (client) => {
    client.on('error', (err) => {
      if (isClosing) return
      log.warn({ event: 'db.connection.lose', err }, 'A database connection was lost')
      noteChange()
    })
    const ending: Promise<unknown> = once(client, 'end').then(() => endings.delete(ending))
    endings.add(ending)
  })
  // The client has reported it; without a listener the pool would end the process.
  pool.on('error', () => undefined)

  const connect = async (): Promise<pg.PoolClient> => {
    for (let tried = 1; ; tried++) {
      const triedIndex = hostIndex
      try {
        return await pool.connect()
      } catch (error) {
        if (isPoolExhausted(error)) throw error
        if (hostIndex === triedIndex) hostIndex = (hostIndex + 1) % urls.length
        if (tried >= urls.length) throw error
      }
    }
  }

  return {
    take: async () => {
      let client = await connect()
      while (known.get(client)?.generation !== generation) {
        client.release(true)
        client = await connect()
      }
      return {
        client,
        pid: known.get(client)?.pid,
        release: (isLost) => client.release(isLost),
        note: (error) => {
          // Only the first of those that were with the same server says something new.
          if (isServerChanged(error) && known.get(client)?.generation === generation) noteChange()
        },
      }
    },
    get counts() {
      return { busy: pool.totalCount - pool.idleCount, waiting: pool.waitingCount }
    },
    get presentUrl() {
      return urls[hostIndex] ?? ''
    },
    end: async () => {
      isClosing = true
      await pool.end()
      await Promise.all(endings)
    },
  }
}

const once = (emitter: EventEmitter, event: string): Promise<void> =>
  new Promise((resolve) => emitter.once(event, () => resolve()))

const keepText = (text: string): string => text
