// A store that forgets when its process ends: for tests and for devices that live as long as a page.

import { MemoryLevel } from 'memory-level'
import { createLevelStore } from './level-store.ts'
import type { Store } from './store.ts'

export function createMemoryStore(): Store {
  const level = new MemoryLevel<string, Uint8Array>({
    keyEncoding: 'utf8',
    valueEncoding: 'view',
    storeEncoding: 'view',
  })
  return createLevelStore(level, (operations) => level.batch(operations))
}
