// How long the event loop stood still: the longest stall of each second goes into the histogram.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { ProcessMetrics } from './metrics.ts'

/** The monitor's own timer fires as often, which it reports as part of every delay. */
const RESOLUTION_MS = 10

/** Keeps no process alive by itself. */
export function watchEventLoopLag(metrics: ProcessMetrics, intervalMs = 1000): { close(): void } {
  const monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  monitor.enable()
  const timer = setInterval(() => {
    metrics.observeEventLoopLag(Math.max(0, monitor.max / 1e6 - RESOLUTION_MS))
    monitor.reset()
  }, intervalMs)
  timer.unref()
  return {
    close: () => {
      clearInterval(timer)
      monitor.disable()
    },
  }
}
