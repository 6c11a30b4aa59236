// Watches how much storage is left to this node: the file system of the embedded database, and the bound that the operator
// gave the database. Each node looks for itself. A look that fails leaves the level as it is.

import { type StorageLevel, type StorageMarks, storageLevelOf } from '../limits/storage-level.ts'

/** Something that can run out. */
export interface StorageSource {
  readonly everyMs: number
  /** Bytes; undefined when it cannot be told. */
  readLeft(): Promise<number | undefined>
}

export interface StorageWatchParts {
  readonly sources: readonly StorageSource[]
  readonly marks: StorageMarks
  onChange(level: StorageLevel, leftBytes: number): void
  /** Called when the level gets worse, and every minute while it is not `ok`: gives back what the database needs no longer. */
  relieve(): Promise<void>
  onFailure(error: unknown): void
}

export interface StorageWatch {
  level(): StorageLevel
  /** The least of all sources; undefined before any could be told. */
  leftBytes(): number | undefined
  close(): void
}

const RELIEVE_MS = 60_000
const SEVERITY = { ok: 0, low: 1, critical: 2 } as const satisfies Record<StorageLevel, number>

export const severityOf = (level: StorageLevel): number => SEVERITY[level]

/** Resolves when every source was looked at once. */
export async function startStorageWatch(parts: StorageWatchParts): Promise<StorageWatch> {
  const leftBySource = new Map<StorageSource, number>()
  const looking = new Set<StorageSource>()
  let level: StorageLevel = 'ok'
  let isRelieving = false

  const leftBytes = (): number | undefined => (leftBySource.size === 0 ? undefined : Math.min(...leftBySource.values()))

  const relieve = (): void => {
    if (isRelieving) return
    isRelieving = true
    void parts
      .relieve()
      .catch(parts.onFailure)
      .finally(() => {
        isRelieving = false
      })
  }

  const judge = (): void => {
    const left = leftBytes()
    const next = left === undefined ? level : storageLevelOf(level, left, parts.marks)
    if (left === undefined || next === level) return
    const isWorse = severityOf(next) > severityOf(level)
    level = next
    parts.onChange(next, left)
    if (isWorse) relieve()
  }

  /** One look at a time: a file system that hangs is asked once. */
  const look = async (source: StorageSource): Promise<void> => {
    if (looking.has(source)) return
    looking.add(source)
    try {
      const left = await source.readLeft()
      if (left !== undefined) leftBySource.set(source, left)
      judge()
    } catch (error) {
      parts.onFailure(error)
    } finally {
      looking.delete(source)
    }
  }

  await Promise.all(parts.sources.map(look))
  const timers = parts.sources.map((source) => setInterval(() => void look(source), source.everyMs).unref())
  const relieving = setInterval(() => {
    if (level !== 'ok') relieve()
  }, RELIEVE_MS).unref()
  return {
    level: () => level,
    leftBytes,
    close: () => {
      for (const timer of [...timers, relieving]) clearInterval(timer)
    },
  }
}
