// Binds expiry and retention to the database, and lets both hear of what this node stores.

import type { Database } from '../db/postgres.ts'
import { expireEvents, readMsToNextExpiry } from '../db/queries/expiry.ts'
import { countStoredBytes, findUncountedUsers, pruneEvents } from '../db/queries/retention.ts'
import type { RetentionMetrics } from '../telemetry/metrics.ts'
import { startExpiry } from './expiry.ts'
import type { StoredBatch } from './intake.ts'
import { type RetentionRules, startRetention } from './retention.ts'

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

export function openRetention({ db, rules, metrics, onFailure, ...clock }: OpenRetentionParts): OpenedRetention {
  const expiry = startExpiry({
    expire: (maxEvents) => expireEvents(db, { maxEvents }),
    readMsToNextExpiry: () => readMsToNextExpiry(db),
    metrics,
    onFailure,
    now: clock.monotonicMs,
  })
  const retention = startRetention({
    rules,
    count: (userIds, maxEvents) => countStoredBytes(db, userIds, maxEvents),
    findUncounted: (afterUserId, maxUsers) => findUncountedUsers(db, afterUserId, maxUsers),
    prune: (limit, maxEvents) => pruneEvents(db, limit, maxEvents),
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
      await Promise.all([expiry.close(), retention.close()])
    },
  }
}
