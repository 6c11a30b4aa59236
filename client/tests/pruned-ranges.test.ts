import { beforeEach, expect, it } from 'vitest'
import { AlarmError } from '../src/alarm.ts'
import { createPrunedClaim, cutPruned, type PrunedRange, readPruned } from '../src/receive/pruned-ranges.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import type { Store } from '../src/store/store.ts'

let store: Store

beforeEach(async () => {
  store = createMemoryStore()
  // Told at 4, interrupted, and told again from where the cursor was then; and once more much later.
  await read({ from: 748, to: 2000 }, 3, 747)
  await read({ from: 801, to: 2000 }, 299, 800)
  await read({ from: 1101, to: 2000 }, 999, 1100)
})

/** A claim made at one cursor, in a session that then read up to another. */
async function read(message: PrunedRange, cursor: number, through: number): Promise<PrunedRange | undefined> {
  const claim = createPrunedClaim()
  claim.make(message, cursor)
  await store.batch(claim.operations(through))
  return claim.reached(through) ?? claim.end()
}

it('RET-3: a claim holds as far as the log was read, whatever range the server names', async () => {
  expect(await read({ from: 2 ** 52, to: 2 ** 52 }, 2000, 2100)).toEqual({ from: 2001, to: 2100 })
  expect(await read({ from: 5000, to: 5000 }, 2100, 2100)).toBeUndefined()
  expect((await readPruned(store, 1999)).at(-1)).toEqual({ from: 2001, to: 2100 })
})

it('RET-3: a claim that is made again and again is one record, and told once', async () => {
  const claim = createPrunedClaim()
  const told: unknown[] = []
  for (let cursor = 2000; cursor <= 2500; cursor++) {
    claim.make({ from: 2401, to: 9000 }, cursor)
    await store.batch(claim.operations(cursor))
    told.push(claim.reached(cursor))
  }
  expect(told.filter((range) => range !== undefined)).toEqual([{ from: 2001, to: 2400 }])
  const keys: string[] = []
  for await (const [key] of store.range({ gt: 'pruned/0000000000001999', lt: 'pruned0' })) keys.push(key)
  expect(keys).toEqual(['pruned/0000000000002001'])
})

it('RET-3: a range that ends before it begins stops the client', () => {
  expect(() => createPrunedClaim().make({ from: 12, to: 10 }, 3)).toThrow(AlarmError)
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
