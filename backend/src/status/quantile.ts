// Quantiles of what a histogram counted between two readings, as Prometheus's `histogram_quantile` estimates them: evenly
// spread within a bucket, so they are as fine as the buckets are.

import type { HistogramReading } from './reading.ts'

export interface HistogramSpan {
  readonly bounds: readonly number[]
  /** Cumulative, as in a reading. */
  readonly counts: readonly number[]
  readonly sum: number
  readonly total: number
}

/** What came between two readings of one histogram. */
export function spanOf(earlier: HistogramReading | undefined, later: HistogramReading): HistogramSpan {
  const countBefore = new Map(earlier?.bounds.map((bound, i) => [bound, earlier.counts[i] ?? 0]))
  const counts = later.counts.map((count, i) => count - (countBefore.get(later.bounds[i] ?? 0) ?? 0))
  return { bounds: later.bounds, counts, sum: later.sum - (earlier?.sum ?? 0), total: counts.at(-1) ?? 0 }
}

/** `undefined` when nothing was counted. What is above the last finite bound counts as that bound. */
export function quantileOf(span: HistogramSpan, share: number): number | undefined {
  if (span.total <= 0) return undefined
  const rank = share * span.total
  let lowerBound = 0
  let countBelow = 0
  for (const [i, bound] of span.bounds.entries()) {
    const count = span.counts[i] ?? 0
    if (count >= rank) {
      if (!Number.isFinite(bound)) return lowerBound
      return lowerBound + ((bound - lowerBound) * (rank - countBelow)) / Math.max(1e-9, count - countBelow)
    }
    lowerBound = bound
    countBelow = count
  }
  return lowerBound
}
