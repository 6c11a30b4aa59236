// The buckets of latencies: from a fast primary-key read to a statement that runs into its timeout.

export const LATENCY_BUCKETS_MS = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 5000, 10_000, 30_000]
export const LATENCY_BUCKETS_S = LATENCY_BUCKETS_MS.map(toSeconds)

export function toSeconds(ms: number): number {
  return ms / 1000
}
