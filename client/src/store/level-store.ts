// The store port over any abstract-level database with text keys and byte values.

import type { AbstractBatchOperation, AbstractLevel } from 'abstract-level'
import type { Store, StoreRange } from './store.ts'

export type LevelOperations<Level> = AbstractBatchOperation<Level, string, Uint8Array>[]

/** `write` hands a batch to the database with the durability that the store promises. */
export function createLevelStore<Level extends AbstractLevel<string | Uint8Array | Buffer, string, Uint8Array>>(
  level: Level,
  write: (operations: LevelOperations<Level>) => Promise<void>,
): Store {
  return {
    get: (key) => level.get(key),
    batch: async (operations) => {
      if (operations.length === 0) return
      await write(
        operations.map((operation) =>
          operation.type === 'put'
            ? { type: 'put', key: operation.key, value: operation.value }
            : { type: 'del', key: operation.key },
        ),
      )
    },
    range: (range) => iterate(level, range),
    close: () => level.close(),
  }
}

async function* iterate(
  level: AbstractLevel<string | Uint8Array | Buffer, string, Uint8Array>,
  range: StoreRange,
): AsyncIterable<readonly [string, Uint8Array]> {
  const iterator = level.iterator({ ...range })
  try {
    for await (const entry of iterator) yield entry
  } finally {
    await iterator.close()
  }
}
