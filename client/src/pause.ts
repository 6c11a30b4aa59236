// Waiting for a time, by the clock that a part was given, until there is no more time for it.

import type { Clock } from './clock.ts'

/** Rejects with the signal's reason. */
export function pause(clock: Clock, signal: AbortSignal, ms: number): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const onAbort = (): void => {
      cancel()
      reject(signal.reason)
    }
    const cancel = clock.after(ms, () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
