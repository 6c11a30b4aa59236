// Bounded work for unbounded words: keys that come while a run is in flight, or soon after one began, wait together for
// the next run. So any number of words costs at most one run an interval, and memory for each key once.

export interface PacedParts<Key> {
  /** From the beginning of one run to that of the next, at least. */
  readonly intervalMs: number
  run(keys: readonly Key[]): Promise<void>
  /** A run failed: its keys are dropped. */
  onFailure(error: unknown): void
  /** Milliseconds of a clock that never goes back. */
  monotonicMs(): number
}

export interface Paced<Key> {
  /** A run that begins after this call covers the key: soon when none began within the interval. */
  add(key: Key): void
  /** No run begins any more; resolves when the last one has ended. */
  close(): Promise<void>
}

export function createPaced<Key>(parts: PacedParts<Key>): Paced<Key> {
  let waiting = new Set<Key>()
  let beganAtMs = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> | undefined
  let isClosed = false

  const begin = async (): Promise<void> => {
    const keys = [...waiting]
    waiting = new Set()
    beganAtMs = parts.monotonicMs()
    try {
      await parts.run(keys)
    } catch (error) {
      parts.onFailure(error)
    }
    running = undefined
    schedule()
  }

  const schedule = (): void => {
    if (isClosed || timer !== undefined || running !== undefined || waiting.size === 0) return
    const waitMs = beganAtMs + parts.intervalMs - parts.monotonicMs()
    // A timer even when no wait is due: words that arrive in one read of the socket share a run.
    timer = setTimeout(
      () => {
        timer = undefined
        running = begin()
      },
      Math.max(0, Math.ceil(waitMs)),
    )
  }

  return {
    add: (key) => {
      waiting.add(key)
      schedule()
    },
    close: async () => {
      isClosed = true
      clearTimeout(timer)
      await running
    },
  }
}
