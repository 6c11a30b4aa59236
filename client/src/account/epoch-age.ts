// Starts a new key epoch when the current one is 30 days old, was made by a device that is active no more, or does not open
// here because its maker sealed it falsely. Every manager watches; each has its own moment, and of two that rotate all the
// same the compare-and-swap lets one.

import { type DeviceId, type DeviceLogState, findDevice, isActive } from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { createRecurringLook, type RecurringLook } from '../recurring-look.ts'
import { storeKeys } from '../store/layout.ts'
import { put, type Store } from '../store/store.ts'
import type { LogBook } from './log-book.ts'

export const MAX_EPOCH_AGE_MS = 30 * 86_400_000
/** Managers differ by up to this much, so that most often one finds it done. */
const SPREAD_MS = 86_400_000
/** The same for an epoch that does not open here: its box may be good for the others. */
const CLOSED_SPREAD_MS = 10_000
/** Looked at again no later than this, and of the same epoch no sooner after an attempt that failed. */
const LOOK_AGAIN_MS = 3_600_000

export interface EpochFacts {
  readonly nowMs: number
  /** When the epoch began, by its signer's clock or when it was first seen here, whichever is earlier. */
  readonly startedAtMs: number
  /** Uniform in [0, 1), this device's own. */
  readonly draw: number
  readonly isMakerActive: boolean
}

/** Milliseconds until a manager should rotate; 0 or less: now. */
export const untilRotation = ({ nowMs, startedAtMs, draw, isMakerActive }: EpochFacts): number =>
  isMakerActive ? startedAtMs + MAX_EPOCH_AGE_MS + draw * SPREAD_MS - nowMs : 0

const storedSeen = z.strictObject({ n: z.int().min(1), at_ms: z.int().min(0) })

export interface EpochWatchParts {
  readonly store: Store
  readonly clock: Clock
  /** Uniform in [0, 1). */
  readonly random: () => number
  readonly book: LogBook
  readonly ownDeviceId: DeviceId
  /** Whether this device has the secret of an epoch. */
  canOpen(n: number): boolean
  /** Rotates if it is still due for the log as it then is. Rejects when it could not. */
  rotate(isDue: (log: DeviceLogState) => boolean): Promise<void>
  /** Runs in the client's lane. */
  guard(task: () => Promise<void>): Promise<void>
}

/** To be considered when a session is live, or the device log has grown. */
export function createEpochWatch(parts: EpochWatchParts): RecurringLook {
  const { store, clock, book, ownDeviceId } = parts
  const draw = parts.random()
  let seen: z.infer<typeof storedSeen> | undefined
  /** One attempt an epoch, and another an hour later when it failed. */
  let attempted = { n: 0, notBeforeMs: 0 }

  const noteSeen = async (n: number): Promise<void> => {
    if (seen?.n === n) return
    const stored = await store.get(storeKeys.epochSeen)
    seen = stored === undefined ? undefined : storedSeen.parse(decode(stored))
    if (seen?.n === n) return
    const now = { n, at_ms: clock.now() }
    await store.batch([put(storeKeys.epochSeen, encode(now))])
    seen = now
  }

  /** `undefined` when it is not this device's affair. */
  const untilDue = (log: DeviceLogState): number | undefined => {
    const own = findDevice(log, ownDeviceId)
    const facts = book.factsAt(log.epoch.logSeq)
    if (own === undefined || !isActive(own) || own.record.role !== 'manager') return undefined
    if (log.isClosed || facts === undefined) return undefined
    const maker = findDevice(log, facts.signer)
    const nowMs = clock.now()
    const startedAtMs = Math.min(facts.timeMs, seen?.n === log.epoch.n ? seen.at_ms : nowMs)
    if (!parts.canOpen(log.epoch.n))
      return (seen?.n === log.epoch.n ? seen.at_ms : nowMs) + draw * CLOSED_SPREAD_MS - nowMs
    // The recovery device makes one epoch and is used up, or stays: either way it did not make this one to read on.
    const isMakerActive = maker !== undefined && (isActive(maker) || maker.record.role === 'recovery')
    return untilRotation({ nowMs, startedAtMs, draw, isMakerActive })
  }

  /** Rotates if it is due; how long to wait before looking again, if this device is to look at all. */
  const look = async (): Promise<number | undefined> => {
    await parts.guard(() => noteSeen(book.require().epoch.n))
    const due = untilDue(book.require())
    if (due === undefined) return undefined
    const { n } = book.require().epoch
    const waitMs = attempted.n === n ? Math.max(due, attempted.notBeforeMs - clock.now()) : due
    if (waitMs > 0) return Math.min(waitMs, LOOK_AGAIN_MS)
    attempted = { n, notBeforeMs: clock.now() + LOOK_AGAIN_MS }
    await parts.rotate((log) => (untilDue(log) ?? 1) <= 0)
    return LOOK_AGAIN_MS
  }

  // Whatever kept it from rotating, a session's end or the server, is told where it happened.
  return createRecurringLook(clock, look, LOOK_AGAIN_MS)
}
