// One visit a key at a time on this node: a newer one ends the older.

export interface SoleVisits {
  /** `end` is called when a newer visit of the key begins. Call the result when the visit is over. */
  enter(key: string, end: () => void): () => void
}

export function createSoleVisits(): SoleVisits {
  const endByKey = new Map<string, () => void>()
  return {
    enter: (key, end) => {
      endByKey.get(key)?.()
      endByKey.set(key, end)
      return () => {
        if (endByKey.get(key) === end) endByKey.delete(key)
      }
    },
  }
}
