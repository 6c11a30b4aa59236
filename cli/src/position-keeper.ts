// Keeps how far a reader has come, durably, without a sync for every event: while one save is on its way to the disk,
// newer positions wait and only the newest of them is saved next. Never moves backwards.

export interface PositionKeeper {
  note(userSeq: number): void
  /** Resolves when the newest position is durable; rejects when a save failed. */
  close(): Promise<void>
}

export function createPositionKeeper(saved: number, save: (userSeq: number) => Promise<void>): PositionKeeper {
  let durable = saved
  let newest = saved
  let running: Promise<void> | undefined
  let failure: { readonly error: unknown } | undefined

  const run = async (): Promise<void> => {
    try {
      while (newest > durable) {
        const target = newest
        await save(target)
        durable = target
      }
    } catch (error) {
      failure = { error }
    }
    running = undefined
  }

  return {
    note: (userSeq) => {
      newest = Math.max(newest, userSeq)
      if (failure === undefined && newest > durable) running ??= run()
    },
    close: async () => {
      await running
      if (failure !== undefined) throw failure.error
    },
  }
}
