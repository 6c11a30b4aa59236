// The watch over the storage of this node, from its configuration and its database: what is looked at, how often, and what
// is said when a level is reached.

import { join } from 'node:path'
import type { Config } from '../config.ts'
import type { Database } from '../db/database.ts'
import { readDatabaseBytes, releaseWal } from '../db/queries/server-state.ts'
import type { StorageLevel } from '../limits/storage-level.ts'
import { freeBytesOf } from '../telemetry/disk-space.ts'
import type { Log } from '../telemetry/log.ts'
import type { StorageMetrics } from '../telemetry/storage-metrics.ts'
import { type StorageSource, type StorageWatch, severityOf, startStorageWatch } from './storage-watch.ts'

export interface OpenStorageWatchParts {
  readonly config: Pick<Config, 'dataDir' | 'storage'>
  readonly db: Database
  readonly log: Log
  readonly metrics: StorageMetrics
  onFailure(error: unknown): void
}

/**
 * One system call of some microseconds. The embedded database cannot go on when its log finds no room, so little may happen
 * between two looks: a commit or two. What was let in before is `VALISE_INTAKE_BUFFER_BYTES` at most, written twice.
 */
const LOOK_AT_DISK_MS = 100
/** The database looks at each of its files: a few milliseconds for a terabyte. */
const LOOK_AT_DATABASE_MS = 2000
const MIB = 1024 * 1024

const SENTENCES: Readonly<Record<StorageLevel, string>> = {
  ok: 'There is storage again: everything is taken',
  low: 'Storage is low: nobody can register until there is room',
  critical: 'Storage is critical: nobody can register or publish until there is room',
}

/**
 * PostgreSQL's own disk is not looked at: the server may run elsewhere, and its files lie where only it can read them. Its
 * operator says with VALISE_DATABASE_BYTES how much it may take.
 */
export function sourcesOf({ config, db }: Pick<OpenStorageWatchParts, 'config' | 'db'>): StorageSource[] {
  const { maxDatabaseBytes } = config.storage
  const disk: StorageSource = {
    everyMs: LOOK_AT_DISK_MS,
    readLeft: async () => {
      const free = freeBytesOf(join(config.dataDir, 'database'))
      return Number.isNaN(free) ? undefined : free
    },
  }
  const bound = (maxBytes: number): StorageSource => ({
    everyMs: LOOK_AT_DATABASE_MS,
    readLeft: async () => Math.max(0, maxBytes - (await readDatabaseBytes(db))),
  })
  return [...(db.kind === 'pglite' ? [disk] : []), ...(maxDatabaseBytes === undefined ? [] : [bound(maxDatabaseBytes)])]
}

export async function openStorageWatch(parts: OpenStorageWatchParts): Promise<StorageWatch> {
  const { db, log } = parts
  const watch = await startStorageWatch({
    sources: sourcesOf(parts),
    marks: parts.config.storage.marks,
    onChange: (level, leftBytes) => {
      const leftMib = Math.floor(leftBytes / MIB)
      if (level === 'ok') log.info({ event: 'storage.level.change', level, leftMib }, SENTENCES[level])
      else log.warn({ event: 'storage.level.change', level, leftMib }, SENTENCES[level])
    },
    // An embedded database keeps up to half a gigabyte of its write-ahead log until it has a reason to look.
    relieve: async () => {
      if (db.kind === 'pglite') await releaseWal(db)
    },
    onFailure: parts.onFailure,
  })
  parts.metrics.watch(
    () => severityOf(watch.level()),
    () => watch.leftBytes() ?? Number.NaN,
  )
  return watch
}
