// Erases what has outlived its lifetime from this device's store (RET-9): by an index of ends, in small batches between the
// client's other work, when the device is opened, when a session says the server's time, and when a lifetime ends.

import { type Crypto, fromHex, parseEvent } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import type { Clock } from '../clock.ts'
import { expireRecord } from './expired-record.ts'
import { counterOf, keysUnder, storeKeys } from './layout.ts'
import type { LocalLog } from './local-log.ts'
import { encodeEventRecord, parseEventRecord } from './records.ts'
import { del, put, type Store, type StoreOperation } from './store.ts'

export interface Expirer {
  /** Erases what is over, then what ends later. Never rejects. */
  start(): void
  /** Resolves when nothing is under way any more. */
  close(): Promise<void>
}

export interface ExpirerParts {
  readonly store: Store
  readonly crypto: Crypto
  readonly clock: Clock
  readonly log: LocalLog
  /** The server's. */
  nowMs(): number
  /** Runs a task between the client's others. */
  run(task: () => Promise<void>): Promise<void>
  onFailure(error: unknown): void
}

const BATCH_EVENTS = 64
/** Lifetimes that end close to each other are erased together. */
const MIN_WAIT_MS = 1000
/** A timer that is much longer is not kept by every platform, and the server's time may change. */
const MAX_WAIT_MS = 3_600_000

/** What one batch did, and when there is more to do. */
interface Erased {
  readonly keys: readonly string[]
  readonly isMore: boolean
  /** Some is over, and this device's cursor has not passed it. */
  readonly isWaiting: boolean
}

export function createExpirer(parts: ExpirerParts): Expirer {
  const { store, crypto, clock, log } = parts
  const closing = new AbortController()
  let cancelTimer = (): void => {}
  let dueMs = Number.POSITIVE_INFINITY
  let sweeping: Promise<void> | undefined
  let isAskedAgain = false

  /** What an index entry stands for; `undefined` while this device may still need its bytes. */
  const eraseOne = async (recordKey: string): Promise<StoreOperation[] | undefined> => {
    const stored = await store.get(recordKey)
    if (stored === undefined) return []
    if (recordKey.startsWith('lost/')) return [del(recordKey)]
    // The cursor has yet to pass over it, and counts its stream then.
    if (counterOf(recordKey) > log.progress.cursor) return undefined
    const record = parseEventRecord(recordKey, stored)
    const event = record.body.type === 'stored' ? parseEvent(record.body.wire) : undefined
    if (event === undefined) return []
    return [
      put(recordKey, encodeEventRecord(expireRecord(crypto, recordKey, record))),
      del(storeKeys.streamEvent(event.streamId, counterOf(recordKey))),
    ]
  }

  const eraseBatch = async (nowMs: number): Promise<Erased> => {
    const operations: StoreOperation[] = []
    const keys: string[] = []
    const due = { ...keysUnder('expires/'), lt: storeKeys.expiry(nowMs + 1, '') }
    let isMore = false
    let isWaiting = false
    for await (const [key] of store.range(due)) {
      isMore = keys.length === BATCH_EVENTS
      if (isMore) break
      const recordKey = recordKeyOf(key)
      const erasing = await eraseOne(recordKey)
      if (erasing === undefined) {
        isWaiting = true
        continue
      }
      operations.push(del(key), ...erasing)
      keys.push(recordKey)
    }
    await store.batch(operations)
    for (const key of keys) if (key.startsWith('lost/')) log.forgetLost(fromHex(key.slice('lost/'.length)))
    return { keys, isMore, isWaiting }
  }

  /** Erases what is over at a moment. */
  const eraseAll = async (nowMs: number): Promise<void> => {
    const erased: string[] = []
    let isWaiting = false
    for (let isMore = true; isMore && !closing.signal.aborted; ) {
      await parts.run(async () => {
        const batch = await eraseBatch(nowMs)
        ;({ isMore, isWaiting } = batch)
        erased.push(...batch.keys)
      })
    }
    if (isWaiting) log.changed.next(closing.signal).then(start, () => {})
    const [first, last] = [erased.sort()[0], erased.at(-1)]
    if (first !== undefined && last !== undefined) await store.compact?.(first, last)
  }

  /** Again when a lifetime has ended meanwhile. */
  const sweep = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      const nowMs = parts.nowMs()
      await eraseAll(nowMs)
      const endMs = await firstEndAfter(nowMs)
      if (endMs === undefined) return
      if (endMs > parts.nowMs()) return wakeAt(endMs)
    }
  }

  const firstEndAfter = async (nowMs: number): Promise<number | undefined> => {
    const later = { ...keysUnder('expires/'), gte: storeKeys.expiry(nowMs + 1, ''), limit: 1 }
    for await (const [key] of store.range(later)) return endOf(key)
    return undefined
  }

  const wakeAt = (endMs: number): void => {
    if (closing.signal.aborted || endMs >= dueMs) return
    cancelTimer()
    dueMs = endMs
    const waitMs = Math.min(MAX_WAIT_MS, Math.max(MIN_WAIT_MS, endMs - parts.nowMs()))
    cancelTimer = clock.after(waitMs, start)
  }

  const start = (): void => {
    isAskedAgain = sweeping !== undefined
    if (closing.signal.aborted || isAskedAgain) return
    cancelTimer()
    dueMs = Number.POSITIVE_INFINITY
    sweeping = sweep()
      .catch(parts.onFailure)
      .finally(() => {
        sweeping = undefined
        if (isAskedAgain) start()
      })
  }

  log.onLifetime(wakeAt)
  return {
    start,
    close: async () => {
      closing.abort()
      cancelTimer()
      await sweeping
    },
  }
}

const endOf = (key: string): number => {
  const endMs = Number(key.split('/')[1])
  if (!Number.isSafeInteger(endMs)) throw new AlarmError('store_damaged', { record: key })
  return endMs
}

/** Behind `expires/`, the end and a `/`. */
const recordKeyOf = (key: string): string => key.split('/').slice(2).join('/')
