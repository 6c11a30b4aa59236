// Keeps what a user stores within the operator's limits: counts bytes behind the log, and takes those of the oldest
// events when they are too old or too many. Small batches, each followed by a pause as long as it took. It looks at no
// device's cursor: nobody holds anything back. Any number of nodes do it at once.

import { toHex } from '@valise/protocol'
import type { PruneLimit } from '../db/queries/retention.ts'
import type { RetentionMetrics } from '../telemetry/metrics.ts'
import { startBackgroundTask } from './background-task.ts'
import { MAX_SWEEP_EVENTS } from './expiry.ts'

export interface RetentionRules {
  /** Of sealed events, a user; undefined: no limit. */
  readonly maxUserBytes: number | undefined
  /** Undefined: events are kept. */
  readonly maxAgeMs: number | undefined
  readonly intervalMs: number
}

export interface RetentionParts {
  readonly rules: RetentionRules
  /** Resolves to the users of whom there may be more to count. */
  count(userIds: readonly Uint8Array[], maxEvents: number): Promise<readonly Uint8Array[]>
  findUncounted(
    afterUserId: Uint8Array,
    maxUsers: number,
  ): Promise<{ readonly userIds: readonly Uint8Array[]; readonly lastUserId: Uint8Array | undefined }>
  /** Undefined when nobody is over the limit. */
  prune(limit: PruneLimit, maxEvents: number): Promise<{ readonly events: number } | undefined>
  readonly metrics: Pick<RetentionMetrics, 'countPruned' | 'observePrune'>
  onFailure(error: unknown): void
  /** Unix milliseconds. */
  now(): number
  /** Milliseconds of a clock that never goes back. */
  monotonicMs(): number
}

export interface Retention {
  /** This user has stored events here: he is counted at the next turn. */
  noteStored(userId: Uint8Array): void
  close(): Promise<void>
}

/** Users who stored since the last turn; of more, the round over all users finds the rest. */
const MAX_NOTED_USERS = 100_000
/** In one transaction: so many users, and so many events of each. */
const COUNTED_AT_ONCE = 20
const MAX_COUNTED_EVENTS = 500
/** Of the round over all users, at each turn: what no node counted, because it crashed or noted too many. */
const ROUND_USERS = 1000
const RETRY_MS = 5000
const FIRST_USER = new Uint8Array(0)

export function startRetention(parts: RetentionParts): Retention {
  const { rules, metrics } = parts
  /** Stored since the last turn. */
  const noted = new Map<string, Uint8Array>()
  /** To be counted in this one. */
  const toCount = new Map<string, Uint8Array>()
  let roundAt: Uint8Array = FIRST_USER
  let turnAtMs = Number.NEGATIVE_INFINITY

  const add = (users: Map<string, Uint8Array>, userId: Uint8Array): void => {
    if (users.size < MAX_NOTED_USERS) users.set(toHex(userId), userId)
  }

  const limits = (): PruneLimit[] => [
    ...(rules.maxUserBytes === undefined ? [] : [{ reason: 'quota', maxBytes: rules.maxUserBytes } as const]),
    ...(rules.maxAgeMs === undefined ? [] : [{ reason: 'age', storedBeforeMs: parts.now() - rules.maxAgeMs } as const]),
  ]

  const beginTurn = async (): Promise<void> => {
    turnAtMs = parts.monotonicMs() + rules.intervalMs
    for (const userId of noted.values()) add(toCount, userId)
    noted.clear()
    const { userIds, lastUserId } = await parts.findUncounted(roundAt, ROUND_USERS)
    for (const userId of userIds) add(toCount, userId)
    roundAt = lastUserId ?? FIRST_USER
  }

  const count = async (): Promise<boolean> => {
    const userIds = [...toCount.values()].slice(0, COUNTED_AT_ONCE)
    if (userIds.length === 0) return false
    const unfinished = await parts.count(userIds, MAX_COUNTED_EVENTS)
    for (const userId of userIds) toCount.delete(toHex(userId))
    for (const userId of unfinished) add(toCount, userId)
    return true
  }

  const prune = async (limit: PruneLimit): Promise<boolean> => {
    const startedAtMs = parts.monotonicMs()
    const pruned = await parts.prune(limit, MAX_SWEEP_EVENTS)
    if (pruned === undefined) return false
    metrics.countPruned(limit.reason, pruned.events)
    metrics.observePrune(parts.monotonicMs() - startedAtMs)
    return true
  }

  const run = async (): Promise<number> => {
    const startedAtMs = parts.monotonicMs()
    if (startedAtMs >= turnAtMs) await beginTurn()
    let hasMore = await count()
    for (const limit of limits()) hasMore = (await prune(limit)) || hasMore
    const atMs = parts.monotonicMs()
    return hasMore ? atMs - startedAtMs : Math.max(turnAtMs - atMs, 0)
  }

  const isOff = rules.maxUserBytes === undefined && rules.maxAgeMs === undefined
  if (isOff) return { noteStored: () => {}, close: async () => {} }
  const { onFailure, monotonicMs } = parts
  const task = startBackgroundTask({ run, retryMs: RETRY_MS, onFailure, now: monotonicMs })
  return { noteStored: (userId) => add(noted, userId), close: task.close }
}
