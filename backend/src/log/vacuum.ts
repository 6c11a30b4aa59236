// Gives back what pruned events took in the embedded database, which vacuums nothing by itself: for later events, not to
// the file system. Everything else waits for a vacuum, so it comes seldom, and rests a hundred times as long as it took.

import { startBackgroundTask } from './background-task.ts'

export interface VacuumParts {
  vacuum(): Promise<void>
  readonly intervalMs: number
  onFailure(error: unknown): void
  /** Milliseconds of a clock that never goes back. */
  now(): number
}

export interface Vacuum {
  /** Events have lost their bytes. */
  noteFreed(): void
  /** Resolves when none is under way; none follows. */
  close(): Promise<void>
}

/** At most one percent of the time. */
const REST_FACTOR = 100

export function startVacuum({ vacuum, intervalMs, onFailure, now }: VacuumParts): Vacuum {
  let hasWaited = false
  // What an earlier process left is not known: the first comes in any case.
  let isDue = true

  const run = async (): Promise<number> => {
    if (!hasWaited || !isDue) {
      hasWaited = true
      return intervalMs
    }
    isDue = false
    const startedAtMs = now()
    try {
      await vacuum()
    } catch (error) {
      isDue = true
      throw error
    }
    return Math.max(intervalMs, REST_FACTOR * (now() - startedAtMs))
  }

  const task = startBackgroundTask({ run, retryMs: intervalMs, onFailure, now })
  return {
    noteFreed: () => {
      isDue = true
    },
    close: task.close,
  }
}
