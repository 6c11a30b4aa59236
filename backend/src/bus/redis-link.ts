// One connection to Redis that is made anew whenever it is lost, with jittered backoff, for ever. Every connection is a
// fresh client that starts with nothing: no command waits in a queue while Redis is away, and no timer outlives close().
// A heartbeat finds a Redis that stopped answering. Any error on a live connection ends it.

import { createClient } from '@redis/client'
import type { Log } from '../telemetry/log.ts'

export interface RedisTimings {
  /** A PING as often; a connection that has not answered one when the next is due is lost. */
  readonly heartbeatMs: number
  readonly connectTimeoutMs: number
  /** How long close() waits for Redis to confirm. */
  readonly closeTimeoutMs: number
  /** The wait before the next attempt after that many failures in a row, 1, 2, 3 … */
  retryDelayMs(failures: number): number
}

export const DEFAULT_REDIS_TIMINGS: RedisTimings = {
  heartbeatMs: 2000,
  connectTimeoutMs: 2000,
  closeTimeoutMs: 2000,
  // Full jitter, so that the nodes of a restarted Redis do not come back at one moment.
  retryDelayMs: (failures) => Math.random() * Math.min(2000, 50 * 2 ** failures),
}

/** A connection that lasted as long has proved itself: the next loss counts as the first again. */
const PROVEN_AFTER_MS = 5000

export type RedisClient = ReturnType<typeof createRedisClient>

export interface RedisLinkParts {
  readonly url: string
  /** Shown by CLIENT LIST. */
  readonly name: string
  readonly timings: RedisTimings
  readonly log: Log
  onUp(client: RedisClient): void
  /** A live connection was lost or has been closed: what is still in flight on it is void. */
  onDown(): void
  /** A live connection was lost, or an attempt failed. */
  onError(): void
}

export interface RedisLink {
  /** Resolves when the first attempt has succeeded or failed. */
  readonly firstAttempt: Promise<void>
  /** Undefined while Redis is away. */
  readonly client: RedisClient | undefined
  /** Ends a connection that is not to be trusted any more; without effect when it is not the present one. */
  fail(client: RedisClient, error: unknown): void
  /**
   * Runs `farewell` on a live connection, then quits it, and connects no more. Rejects with what failed, but only when
   * the connection is released all the same. A second call does nothing.
   */
  close(farewell: () => Promise<void>): Promise<void>
}

type LinkState =
  | { readonly type: 'connecting'; readonly attempt: Promise<void> }
  | { readonly type: 'up'; readonly client: RedisClient; readonly sinceMs: number; readonly heartbeat: NodeJS.Timeout }
  | { readonly type: 'waiting'; readonly timer: NodeJS.Timeout }
  | { readonly type: 'closed' }

export function createRedisClient(url: string, name: string, timings: RedisTimings) {
  return createClient({
    url,
    name,
    // Messages of RESP3 are always bytes, whatever else is being answered at the time. Needs Redis 6.
    RESP: 3,
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    // The heartbeat covers every command; a timer for each would cost more than the command.
    commandOptions: { timeout: 0 },
    socket: {
      connectTimeout: timings.connectTimeoutMs,
      // For the client's own first words only: later, any write would put it off, so the heartbeat decides.
      socketTimeout: timings.connectTimeoutMs + 2 * timings.heartbeatMs,
      reconnectStrategy: false,
    },
  })
}

/** Throws only for a URL that cannot be one of Redis. */
export function createRedisLink(parts: RedisLinkParts): RedisLink {
  const { url, name, timings, log } = parts
  let failures = 0
  let awaySinceMs: number | undefined

  const noteAway = (err: unknown): void => {
    parts.onError()
    if (awaySinceMs !== undefined) return
    awaySinceMs = performance.now()
    log.warn({ event: 'bus.redis.lost', connection: name, err }, 'Redis is away')
  }

  const noteBack = (): void => {
    if (awaySinceMs === undefined) return
    const awayMs = Math.round(performance.now() - awaySinceMs)
    awaySinceMs = undefined
    log.info({ event: 'bus.redis.restored', connection: name, awayMs }, 'Redis is back')
  }

  const retryLater = (): void => {
    failures++
    const timer = setTimeout(() => {
      state = { type: 'connecting', attempt: connect(createRedisClient(url, name, timings)) }
    }, timings.retryDelayMs(failures))
    state = { type: 'waiting', timer }
  }

  const fail = (client: RedisClient, error: unknown): void => {
    if (state.type !== 'up' || state.client !== client) return
    clearInterval(state.heartbeat)
    if (performance.now() - state.sinceMs >= PROVEN_AFTER_MS) failures = 0
    retryLater()
    // After the state has changed: destroying rejects what is in flight, and that must find the connection gone.
    parts.onDown()
    client.destroy()
    noteAway(error)
  }

  const startHeartbeat = (client: RedisClient): NodeJS.Timeout => {
    let isAnswered = true
    return setInterval(() => {
      if (!isAnswered) return fail(client, new Error(`Redis did not answer for ${timings.heartbeatMs} ms`))
      isAnswered = false
      client.ping().then(
        () => {
          isAnswered = true
        },
        (error) => fail(client, error),
      )
    }, timings.heartbeatMs)
  }

  const connect = async (client: RedisClient): Promise<void> => {
    client.on('error', (error) => fail(client, error))
    try {
      await client.connect()
    } catch (error) {
      client.destroy()
      if (state.type === 'closed') return
      noteAway(error)
      retryLater()
      return
    }
    if (state.type === 'closed') {
      client.destroy()
      return
    }
    state = { type: 'up', client, sinceMs: performance.now(), heartbeat: startHeartbeat(client) }
    noteBack()
    parts.onUp(client)
  }

  const close = async (farewell: () => Promise<void>): Promise<void> => {
    const last = state
    state = { type: 'closed' }
    switch (last.type) {
      case 'waiting':
        clearTimeout(last.timer)
        return
      case 'connecting':
        return last.attempt
      case 'up':
        clearInterval(last.heartbeat)
        try {
          const quit = farewell().then(() => (last.client.isOpen ? last.client.quit() : undefined))
          await withDeadline(quit, timings.closeTimeoutMs)
        } finally {
          parts.onDown()
          last.client.destroy()
        }
        return
      case 'closed':
    }
  }

  const firstAttempt = connect(createRedisClient(url, name, timings))
  let state: LinkState = { type: 'connecting', attempt: firstAttempt }

  return {
    firstAttempt,
    get client() {
      return state.type === 'up' ? state.client : undefined
    },
    fail,
    close,
  }
}

async function withDeadline(work: Promise<unknown>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Redis did not confirm the end within ${timeoutMs} ms`)), timeoutMs)
  })
  // Whichever loses the race may still reject later; nobody is left to hear it.
  work.catch(() => {})
  try {
    await Promise.race([work, deadline])
  } finally {
    clearTimeout(timer)
  }
}
