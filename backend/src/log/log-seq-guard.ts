// Stands before the append: no event is stored that names an entry of the device log which does not exist, or another hash
// of it, because every reader would stop for it (PROTOCOL E). A user's log only grows, so a hash that was read once stays
// right, and only an entry whose hash is not remembered is worth a look at the database.

import { equalBytes, toHex } from '@valise/protocol'
import type { LogPosition } from '../db/queries/device-log.ts'
import type { AppendEvent, AppendRun, AppendVerdict } from '../db/queries/events.ts'
import { appendCut, type Cut } from './cut-runs.ts'

/** Hashes of entries by log_seq. */
type Hashes = ReadonlyMap<number, Uint8Array>

export interface LogSeqGuardParts {
  appendRuns(runs: readonly AppendRun[]): Promise<AppendVerdict[]>
  /** Those of the entries that exist, by user id in hexadecimal, one query for all; unknown users are left out. */
  readLogHashes(positions: readonly LogPosition[]): Promise<ReadonlyMap<string, Hashes>>
  /** Users of whom hashes are remembered; one who is forgotten costs a query at the next event. */
  readonly maxUsers: number
}

export interface LogSeqGuard {
  /** The log of the user has this entry. */
  note(userId: Uint8Array, logSeq: number, hash: Uint8Array): void
  /** A backup was put back: what was known is worth nothing. */
  forgetAll(): void
  /**
   * As the append it guards; the first event of a run that names an entry above the head is `log_seq_ahead`, one that
   * names another hash `log_head_false`, and those after it are a gap.
   */
  appendRuns(runs: readonly AppendRun[]): Promise<AppendVerdict[]>
}

/** Devices of a user rarely stand at more entries than these at a time; the newest stay. */
const MAX_HASHES_A_USER = 8

export function createLogSeqGuard(parts: LogSeqGuardParts): LogSeqGuard {
  /** The longest unchanged first. */
  const hashesByUser = new Map<string, Map<number, Uint8Array>>()

  const noteKey = (userKey: string, logSeq: number, hash: Uint8Array): void => {
    const hashes = hashesByUser.get(userKey) ?? new Map<number, Uint8Array>()
    if (hashes.has(logSeq)) return
    hashes.set(logSeq, new Uint8Array(hash))
    if (hashes.size > MAX_HASHES_A_USER) hashes.delete(Math.min(...hashes.keys()))
    hashesByUser.delete(userKey)
    hashesByUser.set(userKey, hashes)
    if (hashesByUser.size <= parts.maxUsers) return
    const [oldest] = hashesByUser.keys()
    if (oldest !== undefined) hashesByUser.delete(oldest)
  }

  const positionsUnknown = (runs: readonly AppendRun[]): LogPosition[] => {
    const unknown = new Map<string, LogPosition>()
    for (const { userId, events } of runs) {
      const userKey = toHex(userId)
      const hashes = hashesByUser.get(userKey)
      for (const { logSeq } of events) {
        if (hashes?.has(logSeq) !== true) unknown.set(`${userKey} ${logSeq}`, { userId, logSeq })
      }
    }
    return [...unknown.values()]
  }

  return {
    note: (userId, logSeq, hash) => noteKey(toHex(userId), logSeq, hash),
    forgetAll: () => hashesByUser.clear(),
    appendRuns: async (runs) => {
      const unknown = positionsUnknown(runs)
      const read = unknown.length === 0 ? NOTHING : await parts.readLogHashes(unknown)
      for (const [userKey, hashes] of read) for (const [logSeq, hash] of hashes) noteKey(userKey, logSeq, hash)
      const cuts = new Map<AppendRun, Cut>()
      for (const run of runs) {
        const userKey = toHex(run.userId)
        const remembered = hashesByUser.get(userKey)
        const found = read.get(userKey)
        // When the user does not exist, the append says so.
        if (remembered === undefined && found === undefined) continue
        const cut = findCut(run, (logSeq) => found?.get(logSeq) ?? remembered?.get(logSeq))
        if (cut !== undefined) cuts.set(run, cut)
      }
      return appendCut(parts.appendRuns, runs, cuts)
    },
  }
}

const NOTHING: ReadonlyMap<string, Hashes> = new Map()

function findCut(run: AppendRun, hashOf: (logSeq: number) => Uint8Array | undefined): Cut | undefined {
  for (const [at, event] of run.events.entries()) {
    const status = refusalOf(event, hashOf(event.logSeq))
    if (status !== undefined) return { at, status }
  }
  return undefined
}

function refusalOf({ logHead }: AppendEvent, hash: Uint8Array | undefined): Cut['status'] | undefined {
  if (hash === undefined) return 'log_seq_ahead'
  return equalBytes(hash, logHead) ? undefined : 'log_head_false'
}
