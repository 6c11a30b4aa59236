// How long the event loop stood still: the longest stall of each second goes into the histogram. Measured by a timer that
// is late; Node's own delay monitor forgets the stall it is in when it is reset.

import type { ProcessMetrics } from './metrics.ts'

const RESOLUTION_MS = 20

/** Keeps no process alive by itself. */
export function watchEventLoopLag(
  metrics: Pick<ProcessMetrics, 'observeEventLoopLag'>,
  intervalMs = 1000,
): { close(): void } {
  let longestMs = 0
  let tickedAtMs = performance.now()
  let observedAtMs = tickedAtMs
  const timer = setInterval(() => {
    const nowMs = performance.now()
    longestMs = Math.max(longestMs, nowMs - tickedAtMs - RESOLUTION_MS)
    tickedAtMs = nowMs
    if (nowMs - observedAtMs < intervalMs) return
    metrics.observeEventLoopLag(longestMs)
    longestMs = 0
    observedAtMs = nowMs
  }, RESOLUTION_MS)
  timer.unref()
  return { close: () => clearInterval(timer) }
}
