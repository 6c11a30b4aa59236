// A fault that no part handled: a rejection that nothing awaited, an exception that nothing caught. The process can no
// longer be trusted to be whole, so it stops: each fault is logged, and the first one tells the process to drain.

import type { Log } from './telemetry/log.ts'

export interface StrayFaults {
  /** Resolves with the first fault. */
  readonly first: Promise<'fault'>
  /** Resolves so long after the first fault: whatever has not stopped by then is given up. */
  readonly late: Promise<'late'>
  readonly hasHappened: boolean
}

/** Watches until the process ends: a moment without a listener, and the next fault would end it with a bare stack. */
export function watchStrayFaults(log: Log, stopWithinMs: number): StrayFaults {
  let hasHappened = false
  let onFirst: (fault: 'fault') => void = () => {}
  const first = new Promise<'fault'>((resolve) => {
    onFirst = resolve
  })
  const late = first.then(() => new Promise<'late'>((resolve) => setTimeout(resolve, stopWithinMs, 'late')))
  const note = (write: () => void): void => {
    hasHappened = true
    onFirst('fault')
    try {
      write()
    } catch {
      // A log that cannot be written must not make a fault of each fault.
    }
  }
  process.on('unhandledRejection', (err) =>
    note(() =>
      log.error({ event: 'app.rejection.escape', err }, 'A promise rejected and nothing handled it; the server stops'),
    ),
  )
  process.on('uncaughtException', (err) =>
    note(() =>
      log.error(
        { event: 'app.exception.escape', err },
        'An exception was thrown and nothing caught it; the server stops',
      ),
    ),
  )
  return {
    first,
    late,
    get hasHappened() {
      return hasHappened
    },
  }
}
