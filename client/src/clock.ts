// Time as a part, so that tests move it by hand.

export interface Clock {
  /** Unix milliseconds. */
  now(): number
  /** Runs the task once after a delay; the returned function cancels it. */
  after(delayMs: number, task: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after: (delayMs, task) => {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
}
