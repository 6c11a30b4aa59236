// Ctrl-C and SIGTERM: the first asks the command to end well, a later one ends the process at once. A reader of
// standard output that has stopped reading does not hold up the end. Called once; listens until the process ends.

import type { Output } from './output.ts'

/** Under npx one Ctrl-C arrives twice: from the terminal, and passed on by npx. */
const SAME_INTERRUPTION_MS = 1000
/** What a pipe that is read takes is taken in much less. */
const STALLED_AFTER_MS = 1000

export function watchInterruption(output: Pick<Output, 'abandon'>): AbortSignal {
  const controller = new AbortController()
  const stopListening = (): void => {
    process.removeListener('SIGINT', interrupt)
    process.removeListener('SIGTERM', interrupt)
  }
  const interrupt = (): void => {
    if (controller.signal.aborted) return
    controller.abort()
    setTimeout(stopListening, SAME_INTERRUPTION_MS).unref()
    setTimeout(output.abandon, STALLED_AFTER_MS).unref()
  }
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  return controller.signal
}
