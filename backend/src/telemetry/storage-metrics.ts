// What is seen of the storage that is left, by the watch that closes registration and publishing before it ends.

import type { MetricKinds } from './metric-kinds.ts'

export interface StorageMetrics {
  /** Where to read, at each scrape, the level (0 ok, 1 low, 2 critical) and the bytes left; NaN when nothing is watched. */
  watch(readLevel: () => number, readLeftBytes: () => number): void
}

export function createStorageMetrics({ watchedGauge }: MetricKinds): StorageMetrics {
  const level = watchedGauge(
    'valise_storage_level',
    '0: there is room; 1: registration is closed; 2: publishing is closed too',
  )
  const left = watchedGauge('valise_storage_left_bytes', 'Bytes until the disk or the bound of the database is reached')
  return {
    watch: (readLevel, readLeftBytes) => {
      level.watch(readLevel)
      left.watch(readLeftBytes)
    },
  }
}
