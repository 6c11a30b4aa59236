// Who is served next (LIM-11): requests that wait for the database run a few at once, and the next is that of the address,
// and of its user, that was served longest ago. However much one peer asks for, the others wait for one of its requests.
// Each key has as many requests here as its callers let it have; those are bounded where they wait (gateway/request-queue.ts).

export interface TurnKey {
  readonly address: string
  readonly userKey: string
}

export interface FairTurns {
  /** Resolves or rejects as `work` does, which begins when it is this request's turn. */
  run<T>(key: TurnKey, work: () => Promise<T>): Promise<T>
  readonly waitingCount: number
}

export interface FairTurnsParts {
  readonly atOnce: number
  /** Awaited after each, before the next begins: what else has to happen meanwhile. `tookMs` is how long it took. */
  rest?(tookMs: number): Promise<void>
  /** Milliseconds of a clock that never goes back. */
  now(): number
}

type Start = () => void

export function createFairTurns({ atOnce, rest, now }: FairTurnsParts): FairTurns {
  /** By address, then by user; the served longest ago first. Nobody stays here without somebody who waits. */
  const waiting = new Map<string, Map<string, Start[]>>()
  let waitingCount = 0
  let runningCount = 0

  const takeNext = (): Start | undefined => {
    for (const [address, users] of waiting) {
      for (const [userKey, starts] of users) {
        const start = starts.shift()
        // Both go to the end, or away.
        users.delete(userKey)
        if (starts.length > 0) users.set(userKey, starts)
        waiting.delete(address)
        if (users.size > 0) waiting.set(address, users)
        waitingCount--
        return start
      }
    }
    return undefined
  }

  const enter = ({ address, userKey }: TurnKey): Promise<void> => {
    if (runningCount < atOnce) {
      runningCount++
      return Promise.resolve()
    }
    return new Promise((start) => {
      const users = waiting.get(address) ?? new Map<string, Start[]>()
      const starts = users.get(userKey) ?? []
      starts.push(start)
      users.set(userKey, starts)
      waiting.set(address, users)
      waitingCount++
    })
  }

  const leave = async (tookMs: number): Promise<void> => {
    await rest?.(tookMs)
    const next = takeNext()
    if (next === undefined) runningCount--
    else next()
  }

  return {
    run: async (key, work) => {
      await enter(key)
      const startedAtMs = now()
      try {
        return await work()
      } finally {
        void leave(now() - startedAtMs)
      }
    },
    get waitingCount() {
      return waitingCount
    },
  }
}
