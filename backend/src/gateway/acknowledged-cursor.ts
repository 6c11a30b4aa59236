// The cursor that a device has acknowledged in a session, and how much of it the database knows. A save that failed counts
// for nothing: the next one tries again, with the newest cursor.

export interface AcknowledgedCursor {
  /** Cumulative: an older one changes nothing. */
  acknowledge(cursor: number): void
  /** Saves the newest cursor unless it is saved already. Rejects when the database does. */
  save(): Promise<void>
}

export function createAcknowledgedCursor(store: (cursor: number) => Promise<void>): AcknowledgedCursor {
  let cursor = 0
  let savedCursor = 0
  return {
    acknowledge: (next) => {
      cursor = Math.max(cursor, next)
    },
    save: async () => {
      if (cursor <= savedCursor) return
      const saving = cursor
      await store(saving)
      savedCursor = Math.max(savedCursor, saving)
    },
  }
}
