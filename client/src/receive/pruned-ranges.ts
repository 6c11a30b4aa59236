// What the server no longer kept when this device came for it. The session that is told may be one whose application
// shows no events (a device that joins, one that only sends), so it is kept for whoever reads the log later (RET-3).

import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import { encodeCounter, parseCounter } from '../store/records.ts'
import { del, put, type Store, type StoreOperation } from '../store/store.ts'

/** The first and the last user_seq. */
export interface PrunedRange {
  readonly from: number
  readonly to: number
}

/** The ranges of a store, to be asked while events are checked. */
export interface PrunedRanges {
  covers(userSeq: number): boolean
  /** Stores a range; it counts from then on. */
  note(range: PrunedRange): Promise<void>
}

export async function openPrunedRanges(store: Store): Promise<PrunedRanges> {
  const ranges = await readPruned(store, 0)
  return {
    covers: (userSeq) => ranges.some(({ from, to }) => from <= userSeq && userSeq <= to),
    note: async (range) => {
      await notePruned(store, range)
      ranges.push(range)
    },
  }
}

export const notePruned = (store: Store, { from, to }: PrunedRange): Promise<void> =>
  store.batch([put(storeKeys.pruned(from), encodeCounter(to))])

/** What lies after a user_seq, in order. A replay that was interrupted and told again is in it once. */
export async function readPruned(store: Store, after: number): Promise<PrunedRange[]> {
  const ranges: PrunedRange[] = []
  let through = after
  for await (const [key, value] of store.range(keysUnder('pruned/'))) {
    const from = Math.max(counterOf(key), through + 1)
    const to = parseCounter(key, value)
    if (to < from) continue
    const last = ranges.at(-1)
    if (last !== undefined && last.to + 1 === from) ranges[ranges.length - 1] = { from: last.from, to }
    else ranges.push({ from, to })
    through = to
  }
  return ranges
}

/** What leaves of it a log that goes back to a user_seq. */
export async function cutPruned(store: Store, through: number): Promise<StoreOperation[]> {
  const operations: StoreOperation[] = []
  for await (const [key, value] of store.range(keysUnder('pruned/'))) {
    if (counterOf(key) > through) operations.push(del(key))
    else if (parseCounter(key, value) > through) operations.push(put(key, encodeCounter(through)))
  }
  return operations
}
