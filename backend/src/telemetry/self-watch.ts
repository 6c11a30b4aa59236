// What a node watches of itself by the clock: its event loop, the room on its disk, the size of its database.

import type { Queryable } from '../db/postgres.ts'
import { readDatabaseBytes } from '../db/queries/server-state.ts'
import { freeBytesOf } from './disk-space.ts'
import { watchEventLoopLag } from './event-loop-lag.ts'
import type { Metrics } from './metrics.ts'

export interface SelfWatchParts {
  readonly metrics: Metrics
  readonly dataDir: string
  readonly db: Queryable
  onFailure(error: unknown): void
}

/** PostgreSQL looks at every file of the database for it: milliseconds, and not worth more. */
const MEASURE_MS = 60_000

/** Resolves when the database was measured the first time, or could not be. */
export async function startSelfWatch(parts: SelfWatchParts): Promise<{ close(): void }> {
  const { metrics } = parts
  const measure = (): Promise<void> =>
    readDatabaseBytes(parts.db).then(metrics.database.setDatabaseBytes).catch(parts.onFailure)
  metrics.process.watchFreeBytes(() => freeBytesOf(parts.dataDir))
  await measure()
  const measuring = setInterval(() => void measure(), MEASURE_MS).unref()
  const lagWatch = watchEventLoopLag(metrics.process)
  return {
    close: () => {
      clearInterval(measuring)
      lagWatch.close()
    },
  }
}
