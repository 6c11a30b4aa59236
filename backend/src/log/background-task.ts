// Work that comes back by itself: each run says when the next is due, and who knows better wakes it earlier. One run at a
// time; a run that fails is told, and tried again later.

export interface BackgroundTask {
  /** Runs within so many milliseconds, unless it does earlier anyway. */
  wakeIn(delayMs: number): void
  /** Resolves when the run under way, if any, is over; none follows. */
  close(): Promise<void>
}

export interface BackgroundTaskParts {
  /** Resolves to the milliseconds until the next run. */
  run(): Promise<number>
  readonly retryMs: number
  onFailure(error: unknown): void
  /** Milliseconds of a clock that never goes back. */
  now(): number
}

/** The first run begins at once. */
export function startBackgroundTask(parts: BackgroundTaskParts): BackgroundTask {
  let timer: NodeJS.Timeout | undefined
  let dueAtMs = Number.POSITIVE_INFINITY
  let running: Promise<void> | undefined
  let isClosed = false

  const wakeIn = (delayMs: number): void => {
    const atMs = parts.now() + delayMs
    if (isClosed || atMs >= dueAtMs) return
    dueAtMs = atMs
    // A run under way sets the timer at its end.
    if (running === undefined) schedule()
  }

  const schedule = (): void => {
    clearTimeout(timer)
    timer = setTimeout(begin, Math.max(dueAtMs - parts.now(), 0)).unref()
  }

  const begin = (): void => {
    dueAtMs = Number.POSITIVE_INFINITY
    running = run().then((delayMs) => {
      running = undefined
      if (isClosed) return
      dueAtMs = Math.min(dueAtMs, parts.now() + delayMs)
      schedule()
    })
  }

  const run = async (): Promise<number> => {
    try {
      return await parts.run()
    } catch (error) {
      parts.onFailure(error)
      return parts.retryMs
    }
  }

  begin()
  return {
    wakeIn,
    close: async () => {
      isClosed = true
      clearTimeout(timer)
      await running
    },
  }
}
