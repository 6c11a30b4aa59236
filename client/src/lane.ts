// Runs tasks one after another, in the order they were handed in. Everything that changes a client's store runs in one
// lane, so that state in memory and in the store never disagree.

export interface Lane {
  /** Settles as the task does; a task that fails does not stop those behind it. */
  run<Result>(task: () => Promise<Result>): Promise<Result>
  /** Resolves once everything handed in so far has ended. */
  idle(): Promise<void>
}

export function createLane(): Lane {
  let tail: Promise<unknown> = Promise.resolve()
  return {
    run: (task) => {
      const result = tail.then(task)
      tail = result.catch(() => {})
      return result
    },
    idle: async () => {
      await tail
    },
  }
}
