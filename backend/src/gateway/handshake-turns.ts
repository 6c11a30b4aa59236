// How many handshakes are worked on at once. When thousands of devices come back together, first come is first served,
// each from hello to session: worked on all at once, all of them would run into their timeout, and none be finished.
// Who waits has cost nothing yet. Whoever does not go on gives his place away soon.

export interface HandshakeTurns {
  /** Resolves when it is this one's turn. Call the result when its handshake has ended, one way or the other. */
  take(): Promise<() => void>
  readonly waitingCount: number
}

export interface HandshakeTurnsParts {
  readonly atOnce: number
  /** A place is free again after this, though its handshake may still go on. */
  readonly turnMs: number
}

export function createHandshakeTurns({ atOnce, turnMs }: HandshakeTurnsParts): HandshakeTurns {
  const waiting = new Set<() => void>()
  let takenCount = 0

  const begin = (): (() => void) => {
    let isTaken = true
    takenCount++
    const end = (): void => {
      if (!isTaken) return
      isTaken = false
      clearTimeout(timer)
      takenCount--
      for (const next of waiting) {
        waiting.delete(next)
        return next()
      }
    }
    const timer = setTimeout(end, turnMs)
    timer.unref()
    return end
  }

  return {
    take: () => {
      if (takenCount < atOnce) return Promise.resolve(begin())
      return new Promise((resolve) => waiting.add(() => resolve(begin())))
    },
    get waitingCount() {
      return waiting.size
    },
  }
}
