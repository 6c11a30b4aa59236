// How many of a node's requests and pages ask the database at once, and how much room they leave for publishing (LIM-11).
// Publishing takes no turns: it is limited by its own rates, and its transactions are bounded by the intake.

import { setTimeout as after, setImmediate as nextTurn } from 'node:timers/promises'
import { createFairTurns, type FairTurns } from './fair-turns.ts'

export interface DatabaseTurnsParts {
  readonly kind: 'postgres' | 'pglite'
  readonly poolSize: number
  /** Somebody publishes just now. */
  isPublishing(): boolean
  /** Milliseconds of a clock that never goes back. */
  now(): number
}

export interface DatabaseTurns {
  readonly requestTurns: FairTurns
  /** Of the log: they take longer than anything else, and a device that was away asks for many. */
  readonly pageTurns: FairTurns
}

/** Two, so that one page is read while the one before is sealed and sent. */
const PAGES_AT_ONCE = 2
const MAX_REST_MS = 50

export function createDatabaseTurns({ kind, poolSize, isPublishing, now }: DatabaseTurnsParts): DatabaseTurns {
  /** While others publish, as much time for them as was used; else sockets and timers come first once. */
  const rest = async (tookMs: number): Promise<void> => {
    if (isPublishing()) await after(Math.min(Math.max(tookMs, 1), MAX_REST_MS))
    else await nextTurn()
  }
  // The embedded database does one thing at a time, and in this process.
  const isEmbedded = kind === 'pglite'
  return {
    requestTurns: createFairTurns({ atOnce: isEmbedded ? 1 : Math.max(2, Math.floor(poolSize / 2)), rest, now }),
    pageTurns: createFairTurns({ atOnce: isEmbedded ? 1 : PAGES_AT_ONCE, rest, now }),
  }
}
