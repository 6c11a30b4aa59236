// This device's copy of the device log, verified from genesis. It is also the pin: what the server shows must contain
// it, byte for byte, and never end before it (PROTOCOL C). The copy only grows.

import {
  applyEntry,
  type Crypto,
  type DeviceLogState,
  equalBytes,
  isSameId,
  MAX_DEVICE_LOG_ENTRY_BYTES,
  type UserId,
} from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { keysUnder, storeKeys } from '../store/layout.ts'
import { put, type Store, type StoreOperation } from '../store/store.ts'

/** A head that somebody else names. */
export interface LogPosition {
  readonly seq: number
  readonly head: Uint8Array
}

export interface LogBook {
  /** `undefined` before the first entry is there. */
  readonly state: DeviceLogState | undefined
  /** The state; throws before the first entry is there. */
  require(): DeviceLogState
  /** The hash of an entry held here. */
  headAt(seq: number): Uint8Array | undefined
  /** Whether the position contradicts this log, is in it, or lies ahead. */
  compare(position: LogPosition): 'known' | 'ahead' | 'contradiction'
  /** Verifies entries that follow the newest one and stores them, with `also` in the same batch. Throws alarms. */
  append(entries: readonly Uint8Array[], also?: readonly StoreOperation[]): Promise<void>
}

export interface LogBookParts {
  readonly store: Store
  readonly crypto: Crypto
  readonly userId: UserId
}

export async function openLogBook({ store, crypto, userId }: LogBookParts): Promise<LogBook> {
  let state: DeviceLogState | undefined
  const heads: Uint8Array[] = []

  const apply = (from: DeviceLogState | undefined, entry: Uint8Array): DeviceLogState => {
    const seq = from === undefined ? 0 : from.seq + 1
    const applied = applyEntry(crypto, from, entry)
    if (!applied.ok) {
      // An entry that does not continue ours means that the server shows another log.
      throw new AlarmError(applied.rule === 'prev' ? 'device_log_forked' : 'device_log_invalid', {
        seq,
        rule: applied.rule,
      })
    }
    if (!isSameId(applied.state.userId, userId)) throw new AlarmError('device_log_forked', { seq })
    return applied.state
  }

  for await (const [key, entry] of store.range(keysUnder('log/'))) {
    try {
      state = apply(state, entry)
    } catch (error) {
      throw new AlarmError('store_damaged', { record: key }, { cause: error })
    }
    heads.push(state.head)
  }

  return {
    get state() {
      return state
    },
    require: () => {
      if (state === undefined) throw new Error('the device log is empty')
      return state
    },
    headAt: (seq) => heads[seq],
    compare: ({ seq, head }) => {
      const own = heads[seq]
      if (own === undefined) return 'ahead'
      return equalBytes(own, head) ? 'known' : 'contradiction'
    },
    append: async (entries, also = []) => {
      let next = state
      const operations: StoreOperation[] = [...also]
      const newHeads: Uint8Array[] = []
      for (const entry of entries) {
        if (entry.length > MAX_DEVICE_LOG_ENTRY_BYTES) throw new AlarmError('device_log_invalid', { rule: 'malformed' })
        next = apply(next, entry)
        newHeads.push(next.head)
        operations.push(put(storeKeys.logEntry(next.seq), entry))
      }
      await store.batch(operations)
      state = next
      heads.push(...newHeads)
    },
  }
}
