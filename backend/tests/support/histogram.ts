// How moments lie in a window, tenth by tenth, as numbers and as a line to look at.

export interface Histogram {
  readonly counts: readonly number[]
  /** Of the fullest tenth. */
  readonly largestShare: number
  readonly line: string
}

/** What lies after the window counts into its last tenth. */
export function histogramOf(momentsMs: readonly number[], windowMs: number): Histogram {
  const counts = new Array<number>(10).fill(0)
  for (const moment of momentsMs) {
    const tenth = Math.min(9, Math.max(0, Math.floor((10 * moment) / windowMs)))
    counts[tenth] = (counts[tenth] ?? 0) + 1
  }
  const largest = Math.max(...counts)
  const bars = counts.map((count) => '▁▂▃▄▅▆▇█'[Math.round((7 * count) / Math.max(1, largest))]).join('')
  const largestShare = momentsMs.length === 0 ? 1 : largest / momentsMs.length
  return { counts, largestShare, line: `${bars}  ${counts.join(' ')}  of ${momentsMs.length} in ${windowMs} ms` }
}
