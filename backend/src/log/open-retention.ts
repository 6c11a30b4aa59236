// Binds expiry, retention and, in the embedded database, the vacuum after them to the database, and lets them hear of
// what this node stores.

import type { Database } from '../db/postgres.ts'
import { expireEvents, readMsToNextExpiry } from '../db/queries/expiry.ts'
import { countStoredBytes, findUncountedUsers, pruneEvents } from '../db/queries/retention.ts'
import { vacuumDatabase } from '../db/queries/vacuum.ts'
import type { RetentionMetrics } from '../telemetry/metrics.ts'
import { startExpiry } from './expiry.ts'
import type { StoredBatch } from './intake.ts'
import { type RetentionRules, startRetention } from './retention.ts'
import { startVacuum } from './vacuum.ts'

export interface OpenRetentionParts {
  readonly db: Database
  readonly rules: RetentionRules
  readonly metrics: RetentionMetrics
  onFailure(error: unknown): void
  /** Unix milliseconds. */
  now(): number
  /** Milliseconds of a clock that never goes back. */
  monotonicMs(): number
}

export interface OpenedRetention {
  /** This node has stored events. */
  noteStored(batch: StoredBatch): void
  /** Resolves when nothing of it uses the database any more. */
  close(): Promise<void>
}

/** A minute by default: in units of the interval in which stored bytes are counted. */
const VACUUM_TURNS = 12

export function openRetention({ db, rules, metrics, onFailure, ...clock }: OpenRetentionParts): OpenedRetention {
  const vacuum =
    db.kind === 'pglite'
      ? startVacuum({
          vacuum: () => vacuumDatabase(db),
          intervalMs: VACUUM_TURNS * rules.intervalMs,
          onFailure,
          now: clock.monotonicMs,
        })
      : undefined
  const expiry = startExpiry({
    expire: async (maxEvents) => {
      const events = await expireEvents(db, { maxEvents })
      if (events > 0) vacuum?.noteFreed()
      return events
    },
    readMsToNextExpiry: () => readMsToNextExpiry(db),
    metrics,
    onFailure,
    now: clock.monotonicMs,
  })
  const retention = startRetention({
    rules,
    count: (userIds, maxEvents) => countStoredBytes(db, userIds, maxEvents),
    findUncounted: (afterUserId, maxUsers) => findUncountedUsers(db, afterUserId, maxUsers),
    prune: async (limit, maxEvents) => {
      const pruned = await pruneEvents(db, limit, maxEvents)
      if (pruned !== undefined) vacuum?.noteFreed()
      return pruned
    },
    metrics,
    onFailure,
    ...clock,
  })
  return {
    noteStored: (batch) => {
      expiry.noteStored(batch)
      retention.noteStored(batch.userId)
    },
    close: async () => {
      await Promise.all([expiry.close(), retention.close(), vacuum?.close()])
    },
  }
}
