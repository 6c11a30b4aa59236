// Time as a part, so that tests move it by hand.

export interface Clock {
  /** Unix milliseconds. */
  now(): number
  /** Runs the task once after a delay; the returned function cancels it. */
  after(delayMs: number, task: () => void): () => void
}

/** A platform's timer takes a 32-bit number; one that is longer fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** One timer after the other until the delay is over, so that none is ever longer than the platform can count. */
function runAfter(delayMs: number, task: () => void): () => void {
  let timer: ReturnType<typeof setTimeout>
  const wait = (leftMs: number): void => {
    const nextMs = Math.min(leftMs, MAX_TIMER_MS)
    timer = setTimeout(() => (leftMs > nextMs ? wait(leftMs - nextMs) : task()), nextMs)
  }
  wait(Math.max(0, delayMs))
  return () => clearTimeout(timer)
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after: runAfter,
}
