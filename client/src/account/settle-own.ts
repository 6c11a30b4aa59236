// The device that asked for a new phrase puts it in the place of the old one by itself, once seven days have passed by the
// server's time. No other device does: who asked is who answers for it.

import { PENDING_MS } from '@valise/protocol'
import type { Clock } from '../clock.ts'
import { createRecurringLook, type RecurringLook } from '../recurring-look.ts'
import type { ServerTime } from '../server-time.ts'
import { AccountError } from './account-error.ts'
import type { PendingWatch } from './pending.ts'

/** Looked at again no later than this: clocks are moved. */
const LOOK_AGAIN_MS = 3_600_000

export interface SettleOwnParts {
  readonly clock: Clock
  readonly serverTime: Pick<ServerTime, 'now'>
  readonly pending: Pick<PendingWatch, 'list' | 'seenAtServerMs'>
  settle(hash: Uint8Array): Promise<void>
}

/** To be considered when a session is live, or the device log has grown. */
export function createSettleOwn({ clock, serverTime, pending, settle }: SettleOwnParts): RecurringLook {
  /** How long to wait before looking again; undefined when there is nothing to wait for. */
  const look = async (): Promise<number | undefined> => {
    const own = pending.list().find(({ kind, isOwn }) => kind === 'recovery' && isOwn)
    if (own === undefined) return undefined
    const seenAtMs = pending.seenAtServerMs(own.hash) ?? own.askedAtMs
    const waitMs = seenAtMs + PENDING_MS - serverTime.now()
    if (waitMs > 0) return Math.min(waitMs, LOOK_AGAIN_MS)
    try {
      await settle(own.hash)
      return undefined
    } catch (error) {
      if (!(error instanceof AccountError)) return LOOK_AGAIN_MS
      // The server counts from when it stored the entry, and says how long that is.
      return error.code === 'nothing_pending' ? undefined : Math.min(error.retryAfterMs ?? LOOK_AGAIN_MS, LOOK_AGAIN_MS)
    }
  }
  return createRecurringLook(clock, look, LOOK_AGAIN_MS)
}
