// This device's copy of the device log, verified from genesis. It is also the pin: what the server shows must contain
// it, byte for byte, and never end before it (PROTOCOL C). The copy only grows.

import {
  applyEntry,
  type Crypto,
  type DeviceId,
  type DeviceLogState,
  equalBytes,
  isSameId,
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

/** What an entry says of itself, besides what it does. */
export interface EntryFacts {
  /** Its hash. */
  readonly head: Uint8Array
  /** Unix milliseconds by the signer's clock: for people. */
  readonly timeMs: number
  readonly signer: DeviceId
}

export interface LogBook {
  /** `undefined` before the first entry is there. */
  readonly state: DeviceLogState | undefined
  /** The state; throws before the first entry is there. */
  require(): DeviceLogState
  /** The hash of an entry held here. */
  headAt(seq: number): Uint8Array | undefined
  factsAt(seq: number): EntryFacts | undefined
  /** Whether the position contradicts this log, is in it, or lies ahead. */
  compare(position: LogPosition): 'known' | 'ahead' | 'contradiction'
  /** Verifies entries that follow the newest one and stores them, with `also` in the same batch. Throws alarms. */
  append(entries: readonly Uint8Array[], also?: readonly StoreOperation[]): Promise<void>
  /**
   * Called with the states before and after an append, before anything is stored: throws the alarms that follow from
   * the new entries, or gives what is to be stored with them.
   */
  onAppend(foresee: Foresee): void
}

export type Foresee = (before: DeviceLogState | undefined, after: DeviceLogState) => Promise<Consequence>

export interface Consequence {
  readonly also: readonly StoreOperation[]
  onStored(): void
}

export interface LogBookParts {
  readonly store: Store
  readonly crypto: Crypto
  readonly userId: UserId
}

export async function openLogBook({ store, crypto, userId }: LogBookParts): Promise<LogBook> {
  let state: DeviceLogState | undefined
  const facts: EntryFacts[] = []
  const foresights: Foresee[] = []

  const apply = (
    from: DeviceLogState | undefined,
    entry: Uint8Array,
  ): { readonly state: DeviceLogState; readonly facts: EntryFacts } => {
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
    const { timeMs, signer } = applied.entry.header
    return { state: applied.state, facts: { head: applied.state.head, timeMs, signer } }
  }

  for await (const [key, entry] of store.range(keysUnder('log/'))) {
    try {
      const applied = apply(state, entry)
      state = applied.state
      facts.push(applied.facts)
    } catch (error) {
      throw new AlarmError('store_damaged', { record: key }, { cause: error })
    }
  }

  return {
    get state() {
      return state
    },
    require: () => {
      if (state === undefined) throw new Error('the device log is empty')
      return state
    },
    headAt: (seq) => facts[seq]?.head,
    factsAt: (seq) => facts[seq],
    compare: ({ seq, head }) => {
      const own = facts[seq]?.head
      if (own === undefined) return 'ahead'
      return equalBytes(own, head) ? 'known' : 'contradiction'
    },
    append: async (entries, also = []) => {
      let next = state
      const operations: StoreOperation[] = [...also]
      const newFacts: EntryFacts[] = []
      for (const entry of entries) {
        const applied = apply(next, entry)
        next = applied.state
        newFacts.push(applied.facts)
        operations.push(put(storeKeys.logEntry(next.seq), entry))
      }
      if (next === undefined || next === state) return
      const consequences: Consequence[] = []
      for (const foresee of foresights) consequences.push(await foresee(state, next))
      await store.batch([...operations, ...consequences.flatMap((consequence) => consequence.also)])
      state = next
      facts.push(...newFacts)
      for (const { onStored } of consequences) onStored()
    },
    onAppend: (foresee) => {
      foresights.push(foresee)
    },
  }
}
