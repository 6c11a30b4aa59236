// The store port over any abstract-level database with text keys and byte values.

import type { AbstractLevel } from 'abstract-level'
import type { Store, StoreRange } from './store.ts'

type ByteLevel = AbstractLevel<string | Uint8Array | Buffer, string, Uint8Array>

/** `syncWrites` asks the database to reach the disk before a batch resolves. */
export function createLevelStore(level: ByteLevel, syncWrites: boolean): Store {
  const writeOptions = syncWrites ? { sync: true } : {}
  return {
    get: (key) => level.get(key),
    batch: async (operations) => {
      if (operations.length === 0) return
      await level.batch(
        operations.map((operation) =>
          operation.type === 'put'
            ? { type: 'put' as const, key: operation.key, value: operation.value }
            : { type: 'del' as const, key: operation.key },
        ),
        writeOptions,
      )
    },
    range: (range) => iterate(level, range),
    close: () => level.close(),
  }
}

async function* iterate(level: ByteLevel, range: StoreRange): AsyncIterable<readonly [string, Uint8Array]> {
  const iterator = level.iterator({ ...range })
  try {
    for await (const entry of iterator) yield entry
  } finally {
    await iterator.close()
  }
}
