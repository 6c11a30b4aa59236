// The device logs this node has verified, as the states they led to: an append verifies what came since, not the whole
// log anew. A state counts only while the database's head continues it; the cache is bounded by what its states hold.
// A long log that is not kept is verified a page a turn of the event loop, once for all that wait for it.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { applyEntries, type Crypto, type DeviceLogState, equalBytes, toHex, type UserId } from '@valise/protocol'

export interface VerifiedLogsParts {
  readonly crypto: Crypto
  /** Where the log stands; undefined when there is none, or no longer. */
  readHead(userId: UserId): Promise<{ readonly seq: number; readonly head: Uint8Array } | undefined>
  /** Entries after `afterSeq` (-1: from the first), in order, fewer than `limit` only at the end. */
  readEntries(userId: UserId, afterSeq: number, limit: number): Promise<readonly Uint8Array[]>
  /**
   * Of all states that are kept, in records of devices, key epochs and eighths of boxes, past and present: some 2.5 KiB each with
   * X-Wing keys.
   */
  readonly maxWeight: number
}

export interface VerifiedLogs {
  /**
   * The state of the log as it is stored when this is called, or a newer one, verified; undefined when there is none.
   * Throws when it breaks a rule.
   */
  load(userId: UserId): Promise<DeviceLogState | undefined>
  /** The log was moved on to this state. */
  keep(state: DeviceLogState): void
  readonly weight: number
}

/** Some 7 ms of work (`npm run bench -- device-log`). */
const PAGE = 50

/** As many boxes weigh as much as a device or an epoch. */
const BOXES_OF_WEIGHT = 8
const weightOf = ({ devices, epoch, boxCount }: DeviceLogState): number =>
  devices.keyCount + epoch.n + Math.floor(boxCount / BOXES_OF_WEIGHT)

export function createVerifiedLogs(parts: VerifiedLogsParts): VerifiedLogs {
  /** The longest unused first. */
  const stateByUser = new Map<string, DeviceLogState>()
  /** The last of those that load a user's log, one after the other. */
  const loadingByUser = new Map<string, Promise<DeviceLogState | undefined>>()
  let weight = 0
  let turn: Promise<void> = Promise.resolve()

  /** A turn of the event loop that nobody else was promised: many long logs at once share one page a turn. */
  const ownTurn = (): Promise<void> => {
    turn = turn.then(() => nextTurn())
    return turn
  }

  const forget = (userKey: string): void => {
    const state = stateByUser.get(userKey)
    if (state !== undefined) weight -= weightOf(state)
    stateByUser.delete(userKey)
  }

  const keep = (state: DeviceLogState): void => {
    const userKey = toHex(state.userId)
    forget(userKey)
    if (state.isClosed) return
    stateByUser.set(userKey, state)
    weight += weightOf(state)
    for (const oldest of stateByUser.keys()) {
      if (weight <= parts.maxWeight) return
      forget(oldest)
    }
  }

  /** From a state, or from genesis. */
  const verifyOn = async (userId: UserId, from: DeviceLogState | undefined) => {
    let state = from
    for (;;) {
      const entries = await parts.readEntries(userId, state?.seq ?? -1, PAGE)
      const replayed = applyEntries(parts.crypto, state, entries)
      if (!replayed.ok) return replayed
      state = replayed.state
      if (entries.length < PAGE) return replayed
      await ownTurn()
    }
  }

  /** `handed` is what a load before this one came to: it may be too heavy to be kept. */
  const loadFrom = async (userId: UserId, handed: DeviceLogState | undefined): Promise<DeviceLogState | undefined> => {
    const userKey = toHex(userId)
    const stored = await parts.readHead(userId)
    if (stored === undefined) {
      forget(userKey)
      return undefined
    }
    const kept = stateByUser.get(userKey) ?? handed
    if (kept !== undefined && kept.seq === stored.seq && equalBytes(kept.head, stored.head)) {
      keep(kept)
      return kept
    }
    const continued = kept !== undefined && kept.seq < stored.seq ? await verifyOn(userId, kept) : undefined
    // What does not continue the state kept is another history, of a backup perhaps: it is verified from its first entry.
    const verified = continued?.ok === true ? continued : await verifyOn(userId, undefined)
    if (!verified.ok) throw new Error(`the stored device log breaks its rule ${verified.rule} at ${verified.seq}`)
    if (verified.state === undefined) forget(userKey)
    else keep(verified.state)
    return verified.state
  }

  return {
    load: async (userId) => {
      const userKey = toHex(userId)
      const before = loadingByUser.get(userKey) ?? Promise.resolve(undefined)
      // It looks itself where the log stands: whoever was before it may have looked before the newest entry was there.
      const loading = before.catch(() => undefined).then((handed) => loadFrom(userId, handed))
      loadingByUser.set(userKey, loading)
      try {
        return await loading
      } finally {
        if (loadingByUser.get(userKey) === loading) loadingByUser.delete(userKey)
      }
    },
    keep,
    get weight() {
      return weight
    },
  }
}
