// Ctrl-C and SIGTERM: the first asks the command to end well, a second one ends the process at once. A reader of
// standard output that has stopped reading does not hold up the end.

import type { Output } from './output.ts'

/** What a pipe that is read takes is taken in much less. */
const STALLED_AFTER_MS = 1000

export interface Interruption {
  readonly signal: AbortSignal
  close(): void
}

export function watchInterruption(output: Pick<Output, 'abandon'>): Interruption {
  const controller = new AbortController()
  const close = (): void => {
    process.removeListener('SIGINT', interrupt)
    process.removeListener('SIGTERM', interrupt)
  }
  const interrupt = (): void => {
    close()
    controller.abort()
    setTimeout(output.abandon, STALLED_AFTER_MS).unref()
  }
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  return { signal: controller.signal, close }
}
