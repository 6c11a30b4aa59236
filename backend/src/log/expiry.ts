// Ends the lifetimes of events: sleeps until the next one is due, then forgets bytes in small batches with a pause as
// long as each batch took, so that publishers find the database half free. Any number of nodes do it at once.

import type { RetentionMetrics } from '../telemetry/metrics.ts'
import { startBackgroundTask } from './background-task.ts'
import type { StoredBatch } from './intake.ts'

export interface ExpiryParts {
  /** Forgets at most so many; resolves to how many went. */
  expire(maxEvents: number): Promise<number>
  /** At most 0 when one is due; undefined when none is set. */
  readMsToNextExpiry(): Promise<number | undefined>
  readonly metrics: Pick<RetentionMetrics, 'countExpired' | 'observePrune'>
  onFailure(error: unknown): void
  /** Milliseconds of a clock that never goes back. */
  now(): number
}

export interface Expiry {
  /** This node has stored events: it wakes when the first lifetime among them ends. */
  noteStored(batch: StoredBatch): void
  close(): Promise<void>
}

/** One transaction: a few milliseconds, on the embedded database too. */
export const MAX_SWEEP_EVENTS = 250
/** Lifetimes that other nodes stored are found so soon after their end. */
const LONGEST_SLEEP_MS = 2000
/** Lifetimes that end close together go together. */
const SHORTEST_SLEEP_MS = 100
const RETRY_MS = 5000

export function startExpiry(parts: ExpiryParts): Expiry {
  const run = async (): Promise<number> => {
    const startedAtMs = parts.now()
    const events = await parts.expire(MAX_SWEEP_EVENTS)
    const tookMs = parts.now() - startedAtMs
    if (events > 0) {
      parts.metrics.countExpired(events)
      parts.metrics.observePrune(tookMs)
    }
    if (events === MAX_SWEEP_EVENTS) return tookMs
    const dueInMs = (await parts.readMsToNextExpiry()) ?? LONGEST_SLEEP_MS
    return Math.min(Math.max(dueInMs, SHORTEST_SLEEP_MS), LONGEST_SLEEP_MS)
  }
  const { onFailure, now } = parts
  const task = startBackgroundTask({ run, retryMs: RETRY_MS, onFailure, now })
  return {
    noteStored: ({ events }) => {
      for (const { event } of events) if (event.ttlS > 0) task.wakeIn(event.ttlS * 1000)
    },
    close: task.close,
  }
}
