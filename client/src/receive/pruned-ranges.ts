// What the server no longer kept when this device came for it. The session that is told may be one whose application
// shows no events (a device that joins, one that only sends), so it is kept for whoever reads the log later (RET-3).
// A claim counts as far as the log was then read, and is one record however often it is made.

import { AlarmError } from '../alarm.ts'
import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import { encodeCounter, parseCounter } from '../store/records.ts'
import { del, put, type Store, type StoreOperation } from '../store/store.ts'

/** The first and the last user_seq. */
export interface PrunedRange {
  readonly from: number
  readonly to: number
}

export interface PrunedClaim {
  /** The server says that it holds the bytes of `from` to `to` only. Throws the alarm for a range that cannot be. */
  make(message: PrunedRange, cursor: number): void
  /** Whether this session said that the bytes there are gone. */
  covers(userSeq: number): boolean
  /** To be stored together with what moves the cursor. */
  operations(cursor: number): StoreOperation[]
  /** The cursor has moved. What the application is told, once the claim was read to its end. */
  reached(cursor: number): PrunedRange | undefined
  /** The replay is over: as far as the claim was read, it holds. */
  end(): PrunedRange | undefined
  /** The session is over, and what it said with it. */
  forget(): PrunedRange | undefined
}

export function createPrunedClaim(): PrunedClaim {
  let claim: { readonly from: number; readonly claimed: number; readonly read: number } | undefined
  /** The last place that the session said so of. */
  let toldThrough = 0
  const readTo = (cursor: number): number => Math.min(claim?.claimed ?? 0, cursor)

  const end = (): PrunedRange | undefined => {
    const ended = claim
    claim = undefined
    return ended === undefined || ended.read < ended.from ? undefined : { from: ended.from, to: ended.read }
  }

  return {
    make: ({ from, to }, cursor) => {
      if (from > to + 1) throw new AlarmError('malformed_message', { field: 'resync_required.from', from, to })
      const last = from - 1
      toldThrough = Math.max(toldThrough, last)
      if (claim !== undefined) claim = { ...claim, claimed: Math.max(claim.claimed, last) }
      else if (last > cursor) claim = { from: cursor + 1, claimed: last, read: cursor }
    },
    covers: (userSeq) => userSeq <= toldThrough,
    operations: (cursor) => {
      if (claim === undefined || readTo(cursor) <= claim.read) return []
      return [put(storeKeys.pruned(claim.from), encodeCounter(readTo(cursor)))]
    },
    reached: (cursor) => {
      if (claim === undefined) return undefined
      claim = { ...claim, read: Math.max(claim.read, readTo(cursor)) }
      return claim.read === claim.claimed ? end() : undefined
    },
    end,
    forget: () => {
      toldThrough = 0
      return end()
    },
  }
}

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
