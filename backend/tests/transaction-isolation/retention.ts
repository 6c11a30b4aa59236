// Expiry, counting and pruning beside each other, beside publishers and beside the end of an account.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../../src/db/postgres.ts'
import { appendRuns } from '../../src/db/queries/events.ts'
import { expireEvents } from '../../src/db/queries/expiry.ts'
import { countStoredBytes, pruneEvents } from '../../src/db/queries/retention.ts'
import { deleteAccount } from '../../src/db/queries/users.ts'
import { addUser, continueRun, makeEvents, type TestDevice } from '../support/open-database.ts'
import {
  asItIs,
  inScene,
  inTransactionOf,
  interleave,
  openScene,
  replacing,
  rewriting,
  type Scene,
  type Wrap,
} from './scene.ts'

const BYTES = 300
const LATER_MS = 3_600_000

export function describeRetention(): void {
  describe('expiry, counting and pruning', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    const addPublisher = async (where: Scene, count: number, ttlS = 0): Promise<TestDevice> => {
      const device = (await addUser(where.db)).devices[0]!
      await appendRuns(where.db, [continueRun(device, makeEvents(count, { ttlS }))])
      return device
    }
    const count = (tx: Queryable, { userId }: TestDevice) => countStoredBytes(inTransactionOf(tx), [userId], 100)
    const expire = (tx: Queryable, maxEvents = 100) =>
      expireEvents(inTransactionOf(tx), { maxEvents, nowMs: Date.now() + LATER_MS })
    const prune = (tx: Queryable, maxBytes: number, maxEvents = 100) =>
      pruneEvents(inTransactionOf(tx), { reason: 'quota', maxBytes }, maxEvents)
    const storedBytes = async (where: Scene, { userId }: TestDevice): Promise<number | undefined> => {
      const sql = 'select stored_bytes as bytes from user_storage where user_id = $1'
      return (await where.run<{ bytes: number }>(sql, [userId]))[0]?.bytes
    }

    /** A prune is stepped by hand: its transaction is open while the same user's device publishes. */
    const publishBesidePrune = (wrap = asItIs) =>
      inScene([], async (where) => {
        const device = await addPublisher(where, 5)
        await count(where.db, device)
        const { first, second, met } = await interleave(where, {
          first: (tx) => prune(wrap(tx), BYTES),
          second: (tx) => appendRuns(tx, [continueRun(device, makeEvents(1))]),
        })
        return { met, pruned: first?.events, stored: Array.isArray(second) ? second[0]?.status : second }
      })

    test('ISO-29, RET-2: a publisher waits neither for a prune nor for a count', async () => {
      expect(await publishBesidePrune()).toEqual({ met: 'done', pruned: 4, stored: 'stored' })
      const device = await addPublisher(scene, 3)
      const { met } = await interleave(scene, {
        first: (tx) => count(tx, device),
        second: (tx) => appendRuns(tx, [continueRun(device, makeEvents(1))]),
      })
      expect(met).toBe('done')
    })

    test('ISO-29: kept in the row of users, a prune would make the publisher wait', async () => {
      const wrap: Wrap = (tx) =>
        replacing(tx, 'settle_storage', (_asked, [userId]) =>
          tx.query({ name: '', text: 'update users set stream_count = stream_count where user_id = $1' }, [userId]),
        )
      expect(await publishBesidePrune(wrap)).toMatchObject({ met: 'waits', stored: 'stored' })
    })

    const pruneTwice = (wrap = asItIs) =>
      inScene([], async (where) => {
        const device = await addPublisher(where, 5)
        await count(where.db, device)
        const { first, second, met } = await interleave(where, {
          first: (tx) => prune(tx, BYTES, 2),
          second: (tx) => prune(wrap(tx), BYTES, 2),
        })
        return { met, first, second, bytes: await storedBytes(where, device) }
      })

    test('ISO-30, RET-2: a second prune leaves a user to the first', async () => {
      const bytes = 3 * BYTES
      expect(await pruneTwice()).toEqual({ met: 'done', first: { events: 2 }, second: undefined, bytes })
    })

    test('ISO-30: without skipping what is locked the second waits for the first', async () => {
      const wrap: Wrap = (tx) => rewriting(tx, 'lock_storage_over_quota', 'for update skip locked', 'for update')
      expect(await pruneTwice(wrap)).toMatchObject({ met: 'waits', bytes: BYTES })
    })

    const expireWhileCounted = (wrap = asItIs) =>
      inScene([], async (where) => {
        const device = await addPublisher(where, 3, 60)
        const { second, met } = await interleave(where, {
          first: (tx) => count(tx, device),
          second: (tx) => expire(wrap(tx)),
        })
        return { met, expired: second, bytes: await storedBytes(where, device) }
      })

    test('ISO-31, RET-2: an event that expires while it is counted is not left in the sum', async () => {
      expect(await expireWhileCounted()).toEqual({ met: 'waits', expired: 3, bytes: 0 })
    })

    test('ISO-31: when what is counted is read before the lock, its bytes stay in the sum', async () => {
      const wrap: Wrap = (tx) => replacing(tx, 'lock_storage', async () => [])
      expect(await expireWhileCounted(wrap)).toEqual({ met: 'waits', expired: 3, bytes: 3 * BYTES })
    })

    test('ISO-31, RET-2: an expiry beside a prune takes what is left, and the sum stays right', () =>
      inScene([], async (where) => {
        const device = await addPublisher(where, 5, 60)
        await count(where.db, device)
        const { first, second, met } = await interleave(where, {
          first: (tx) => prune(tx, 3 * BYTES),
          second: (tx) => expire(tx),
        })
        expect({ met, first, second }).toEqual({ met: 'waits', first: { events: 2 }, second: 3 })
        expect(await storedBytes(where, device)).toBe(0)
      }))

    const countBesideDeletion = async (wrap = asItIs) => {
      const device = await addPublisher(scene, 3)
      const { met } = await interleave(scene, {
        first: (tx) => deleteAccount(tx, device.userId),
        second: (tx) => count(wrap(tx), device),
      })
      return { met, bytes: await storedBytes(scene, device) }
    }

    test('ISO-32, RET-2: a count beside a deletion does not bring the row back', async () => {
      expect(await countBesideDeletion()).toEqual({ met: 'done', bytes: undefined })
    })

    test('ISO-32: when who counts makes the row, it outlives the account', async () => {
      const make = `
        insert into user_storage (user_id)
        select unnest($1::bytea[])
        on conflict (user_id) do update set counted_through = 0
        returning user_id`
      const wrap: Wrap = (tx) =>
        replacing(tx, 'lock_uncounted_storage', (_asked, values) => tx.query({ name: '', text: make }, values))
      expect(await countBesideDeletion(wrap)).toEqual({ met: 'waits', bytes: 0 })
    })
  })
}
