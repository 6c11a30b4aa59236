// What a manager asked for without the phrase and what waits seven days (DEV-14): shown by every device, with the device
// that asked. A device that was live when it was asked for also sees when it is settled too early by its own clock: the
// server, which should have refused that, does not keep the time.

import {
  type DeviceId,
  type DeviceLogState,
  equalBytes,
  findDevice,
  findRecovery,
  isSameId,
  PENDING_MS,
  type PendingClose,
} from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import type { ServerTime } from '../server-time.ts'
import { createListeners } from '../signal.ts'
import { storeKeys } from '../store/layout.ts'
import { put, type Store } from '../store/store.ts'
import type { LogBook } from './log-book.ts'

/** A day less than what waits: clocks differ, and a device hears of an entry later than the server. */
const EARLY_MS = PENDING_MS - 86_400_000

export type PendingKind = 'recovery' | 'close'

export interface Pending {
  /** A new phrase, or the end of the account. */
  readonly kind: PendingKind
  /** Of the entry that asked; settling and cancelling name it. */
  readonly hash: Uint8Array
  readonly atSeq: number
  readonly signer: DeviceId
  readonly isOwn: boolean
  /** Unix milliseconds by the clock of the device that asked. */
  readonly askedAtMs: number
  /** The same clock, seven days on; the server counts by its own. */
  readonly dueAtMs: number
}

export type PendingChange =
  | { readonly type: 'asked'; readonly pending: Pending }
  /** It took effect, was cancelled, or fell. */
  | { readonly type: 'ended'; readonly pending: Pending }
  /** A new phrase took effect this long after it was asked for. */
  | { readonly type: 'settled_early'; readonly pending: Pending; readonly afterMs: number }

const storedSeen = z.array(
  z.strictObject({
    hash: z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === 32),
    own_ms: z.number(),
    server_ms: z.number(),
    was_live: z.boolean(),
  }),
)
type Seen = z.infer<typeof storedSeen>[number]

export interface PendingWatch {
  /** Calls with what waits now, then with each change. */
  add(listener: (change: PendingChange) => void): () => void
  list(): Pending[]
  /** The server's time when this device first saw it. */
  seenAtServerMs(hash: Uint8Array): number | undefined
}

export interface PendingWatchParts {
  readonly store: Store
  readonly clock: Clock
  readonly serverTime: Pick<ServerTime, 'now'>
  readonly book: LogBook
  readonly ownDeviceId: DeviceId
  isLive(): boolean
  /** A listener threw. */
  onFailure(error: unknown): void
}

export async function openPendingWatch(parts: PendingWatchParts): Promise<PendingWatch> {
  const { store, clock, serverTime, book, ownDeviceId } = parts
  const listeners = createListeners<PendingChange>(parts.onFailure)
  const stored = await store.get(storeKeys.pendingSeen)
  let seen: readonly Seen[] = stored === undefined ? [] : storedSeen.parse(decode(stored))

  const describe = (kind: PendingKind, pending: PendingClose | undefined): Pending[] => {
    if (pending === undefined) return []
    const { hash, atSeq, signer } = pending
    const askedAtMs = book.factsAt(atSeq)?.timeMs ?? 0
    const isOwn = isSameId(signer, ownDeviceId)
    return [{ kind, hash, atSeq, signer, isOwn, askedAtMs, dueAtMs: askedAtMs + PENDING_MS }]
  }
  const listOf = (log: DeviceLogState | undefined): Pending[] =>
    log === undefined ? [] : [...describe('recovery', log.pendingRecovery), ...describe('close', log.pendingClose)]

  /** How long after it was asked for the new phrase took effect, if that was too early. */
  const earlyBy = (before: DeviceLogState | undefined, after: DeviceLogState, seenBefore: Seen | undefined) => {
    const recovery = findRecovery(after)
    const waited = before?.pendingRecovery?.record.edPub
    if (recovery === undefined || waited === undefined || !equalBytes(recovery.record.edPub, waited)) return undefined
    if (seenBefore?.was_live !== true || !parts.isLive()) return undefined
    const signer = book.factsAt(recovery.addedSeq)?.signer
    // The old phrase may settle at any time.
    if (signer === undefined || findDevice(after, signer)?.record.role === 'recovery') return undefined
    const afterMs = clock.now() - seenBefore.own_ms
    return afterMs < EARLY_MS ? afterMs : undefined
  }

  book.onAppend(async (before, after) => {
    const hashesAfter = [after.pendingRecovery, after.pendingClose].flatMap((each) => each?.hash ?? [])
    const endedList = listOf(before).filter(({ hash }) => !hashesAfter.some((other) => equalBytes(other, hash)))
    const seenBefore = seen
    const next = hashesAfter.map(
      (hash): Seen =>
        seenBefore.find((each) => equalBytes(each.hash, hash)) ?? {
          hash,
          own_ms: clock.now(),
          server_ms: serverTime.now(),
          was_live: parts.isLive(),
        },
    )
    const isSame = next.length === seenBefore.length && next.every((each) => seenBefore.includes(each))
    return {
      also: isSame ? [] : [put(storeKeys.pendingSeen, encode(next))],
      onStored: () => {
        seen = next
        for (const pending of endedList) {
          listeners.emit({ type: 'ended', pending })
          const seenThen = seenBefore.find(({ hash }) => equalBytes(hash, pending.hash))
          const afterMs = pending.kind === 'recovery' ? earlyBy(before, after, seenThen) : undefined
          if (afterMs !== undefined) listeners.emit({ type: 'settled_early', pending, afterMs })
        }
        for (const pending of listOf(after)) {
          const isKnown = seenBefore.some(({ hash }) => equalBytes(hash, pending.hash))
          if (!isKnown) listeners.emit({ type: 'asked', pending })
        }
      },
    }
  })

  return {
    add: (listener) => {
      const remove = listeners.add(listener)
      try {
        for (const pending of listOf(book.state)) listener({ type: 'asked', pending })
      } catch (error) {
        parts.onFailure(error)
      }
      return remove
    },
    list: () => listOf(book.state),
    seenAtServerMs: (hash) => seen.find((each) => equalBytes(each.hash, hash))?.server_ms,
  }
}
