import { beforeEach, expect, it } from 'vitest'
import { cutPruned, notePruned, readPruned } from '../src/receive/pruned-ranges.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import type { Store } from '../src/store/store.ts'

let store: Store

beforeEach(async () => {
  store = createMemoryStore()
  // Told at 4, interrupted, and told again from where the cursor was then; and once more much later.
  await notePruned(store, { from: 4, to: 747 })
  await notePruned(store, { from: 300, to: 800 })
  await notePruned(store, { from: 1000, to: 1100 })
})

it('RET-3: a reader is told of what lies after its position, of each event once', async () => {
  expect(await readPruned(store, 0)).toEqual([
    { from: 4, to: 800 },
    { from: 1000, to: 1100 },
  ])
  expect(await readPruned(store, 799)).toEqual([
    { from: 800, to: 800 },
    { from: 1000, to: 1100 },
  ])
  expect(await readPruned(store, 1100)).toEqual([])
})

it('RET-6: of a log that went back nothing is told beyond the place where it agrees', async () => {
  await store.batch(await cutPruned(store, 500))
  expect(await readPruned(store, 0)).toEqual([{ from: 4, to: 500 }])
})
