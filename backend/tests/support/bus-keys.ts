// The keys of nodes whose secret a test knows, without a database.

import { createSecretKey } from 'node:crypto'
import type { BusKeys } from '../../src/bus/bus-seal.ts'

export const busKeysOf = (fill: number, number = 1): BusKeys => {
  const key = createSecretKey(new Uint8Array(32).fill(fill))
  return {
    current: () => ({ number, key }),
    find: (asked) => (asked === number ? key : undefined),
    noteUnknown: () => {},
  }
}

/** What all nodes of a test share unless it says otherwise. */
export const testBusKeys = busKeysOf(42)
