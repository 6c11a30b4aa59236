// Full-jitter backoff: each wait is uniform between zero and a bound that doubles, so clients that lost a server
// together do not come back together.

export interface BackoffOptions {
  readonly baseMs: number
  readonly capMs: number
  /** Uniform in [0, 1). */
  readonly random: () => number
}

export interface Backoff {
  /** The next wait in milliseconds. */
  next(): number
  /** After a success: the next wait is short again. */
  reset(): void
}

export function createBackoff({ baseMs, capMs, random }: BackoffOptions): Backoff {
  let attempt = 0
  return {
    next: () => {
      // 2^31 already exceeds every cap; more would lose precision.
      const boundMs = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 31))
      attempt += 1
      return Math.floor(random() * boundMs)
    },
    reset: () => {
      attempt = 0
    },
  }
}
