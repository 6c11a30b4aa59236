// Looks at something now and again for as long as a client is connected: a look says when the next one is due, if one is.
// Looks never overlap, and one that fails is repeated.

import type { Clock } from './clock.ts'

export interface RecurringLook {
  /** Looks now, unless a look is under way. */
  consider(): void
  /** No more looks, until the next `consider`. */
  cancel(): void
}

/** `look` resolves to milliseconds, or to undefined when nothing is to be waited for. What it rejects with is told elsewhere. */
export function createRecurringLook(
  clock: Pick<Clock, 'after'>,
  look: () => Promise<number | undefined>,
  afterFailureMs: number,
): RecurringLook {
  let cancelTimer = (): void => {}
  let isAtWork = false
  let isCancelled = false

  const consider = (): void => {
    isCancelled = false
    if (isAtWork) return
    isAtWork = true
    cancelTimer()
    const plan = (waitMs: number | undefined): void => {
      isAtWork = false
      if (waitMs !== undefined && !isCancelled) cancelTimer = clock.after(waitMs, consider)
    }
    look().then(plan, () => plan(afterFailureMs))
  }

  return {
    consider,
    cancel: () => {
      isCancelled = true
      cancelTimer()
    },
  }
}
