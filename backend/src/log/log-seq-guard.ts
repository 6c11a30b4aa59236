// Stands before the append: no event is stored that names an entry of the device log which does not exist, because every
// reader would stop for it (PROTOCOL E). A user's log only grows, so a head that was read once vouches for every event at
// or below it, and only an event above the highest head known is worth a look at the database.

import { toHex } from '@valise/protocol'
import type { AppendRun, AppendVerdict } from '../db/queries/events.ts'

export interface LogSeqGuardParts {
  appendRuns(runs: readonly AppendRun[]): Promise<AppendVerdict[]>
  /** log_seq by user id in hexadecimal, one query for all; unknown users are left out. */
  readLogSeqs(userIds: readonly Uint8Array[]): Promise<ReadonlyMap<string, number>>
  /** Users whose heads are remembered; one that is forgotten costs a query at his next event. */
  readonly maxUsers: number
}

export interface LogSeqGuard {
  /** The log of the user has, or had, this head. */
  note(userId: Uint8Array, logSeq: number): void
  /** A backup was put back: what was known of heads is worth nothing. */
  forgetAll(): void
  /** As the append it guards; the first event of a run above the head is `log_seq_ahead`, those after it are a gap. */
  appendRuns(runs: readonly AppendRun[]): Promise<AppendVerdict[]>
}

export function createLogSeqGuard(parts: LogSeqGuardParts): LogSeqGuard {
  /** Never above the truth; the longest unchanged first. */
  const headByUser = new Map<string, number>()

  const noteKey = (userKey: string, logSeq: number): void => {
    if ((headByUser.get(userKey) ?? -1) >= logSeq) return
    headByUser.delete(userKey)
    headByUser.set(userKey, logSeq)
    if (headByUser.size <= parts.maxUsers) return
    const [oldest] = headByUser.keys()
    if (oldest !== undefined) headByUser.delete(oldest)
  }

  const isProved = (run: AppendRun): boolean => firstAhead(run, headByUser.get(toHex(run.userId)) ?? -1) === undefined

  return {
    note: (userId, logSeq) => noteKey(toHex(userId), logSeq),
    forgetAll: () => headByUser.clear(),
    appendRuns: async (runs) => {
      const unproved = runs.filter((run) => !isProved(run))
      if (unproved.length === 0) return parts.appendRuns(runs)
      const heads = await parts.readLogSeqs(unproved.map((run) => run.userId))
      for (const [userKey, logSeq] of heads) noteKey(userKey, logSeq)
      const cuts = new Map<AppendRun, number>()
      for (const run of unproved) {
        // Of a user that is not there, the append says so.
        const cut = firstAhead(run, heads.get(toHex(run.userId)) ?? Number.POSITIVE_INFINITY)
        if (cut !== undefined) cuts.set(run, cut)
      }
      if (cuts.size === 0) return parts.appendRuns(runs)
      return appendUpTo(runs, cuts)
    },
  }

  async function appendUpTo(
    runs: readonly AppendRun[],
    cuts: ReadonlyMap<AppendRun, number>,
  ): Promise<AppendVerdict[]> {
    const kept = runs.map((run) => ({ ...run, events: run.events.slice(0, cuts.get(run)) }))
    const verdicts = await parts.appendRuns(kept.filter(({ events }) => events.length > 0))
    let at = 0
    return runs.flatMap((run, r) => {
      const end = at + (kept[r]?.events.length ?? 0)
      const answered = verdicts.slice(at, end)
      at = end
      const cut = cuts.get(run)
      return cut === undefined ? answered : [...answered, ...refuseFrom(run, cut)]
    })
  }
}

/** The index of the first event that names an entry above the head. */
function firstAhead(run: AppendRun, head: number): number | undefined {
  const index = run.events.findIndex((event) => event.logSeq > head)
  return index === -1 ? undefined : index
}

function refuseFrom(run: AppendRun, cut: number): AppendVerdict[] {
  const expected = run.firstSeq + cut
  return run.events
    .slice(cut)
    .map((_, index) => (index === 0 ? { status: 'log_seq_ahead' } : { status: 'gap', expected }))
}
