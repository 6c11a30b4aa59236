// Requests of one connection that wait for the database or for room in the socket: one after another, a bounded
// number of them (P5). An answer is made only when the socket has room for it, so that a peer which asks and never
// reads costs one answer above the send buffer, however much it asks.

export interface RequestQueueParts {
  /** False while the socket's buffer is above its bound. */
  hasRoom(): boolean
  readonly maxQueued: number
}

export interface RequestQueue {
  /** False when so many wait, the one at work included: the caller says so to the peer. `work` must not reject. */
  add(work: () => Promise<void>): boolean
  /** For what the node says of itself: the caller bounds it. */
  insist(work: () => Promise<void>): void
  /** The socket may have room again. */
  resume(): void
}

export function createRequestQueue(parts: RequestQueueParts): RequestQueue {
  const waiting: (() => Promise<void>)[] = []
  let isRunning = false

  const run = async (): Promise<void> => {
    if (isRunning) return
    isRunning = true
    while (parts.hasRoom()) {
      const work = waiting.shift()
      if (work === undefined) break
      await work()
    }
    isRunning = false
  }

  const insist = (work: () => Promise<void>): void => {
    waiting.push(work)
    void run()
  }

  return {
    add: (work) => {
      if (waiting.length + (isRunning ? 1 : 0) >= parts.maxQueued) return false
      insist(work)
      return true
    },
    insist,
    resume: () => void run(),
  }
}
