// What goes from the log, and what stays: lifetimes, age and quota, counted and pruned, on both databases.

import { toHex } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { appendRuns, readEventsAfter } from '../src/db/queries/events.ts'
import { expireEvents, readMsToNextExpiry } from '../src/db/queries/expiry.ts'
import { countStoredBytes, findUncountedUsers, pruneEvents } from '../src/db/queries/retention.ts'
import { deleteAccount } from '../src/db/queries/users.ts'
import {
  addDevice,
  addUser,
  continueRun,
  DATABASE_KINDS,
  leafOfItem,
  makeEvents,
  type OpenedDatabase,
  openDatabase,
  type TestDevice,
} from './support/open-database.ts'
import { createSeededRandom } from './support/seeded-random.ts'

const BYTES = 300
const DAY_MS = 86_400_000

describe.each(DATABASE_KINDS)('retention on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(() => opened?.close())

  const run = <Row extends object>(text: string, values: readonly unknown[] = []) =>
    opened.db.query<Row>({ name: '', text }, values)

  const append = (device: TestDevice, count: number, ttlS = 0) =>
    appendRuns(opened.db, [continueRun(device, makeEvents(count, { ttlS }))])

  const storageOf = async ({ userId }: TestDevice) => {
    const [row] = await run<{ counted: number; bytes: number; pruned: number }>(
      'select counted_through as counted, stored_bytes as bytes, pruned_through as pruned from user_storage where user_id = $1',
      [userId],
    )
    return row
  }

  /** The user_seqs whose bytes are there, and the leaves of all, by their inner hashes. */
  const held = async ({ userId }: TestDevice) => {
    const page = await readEventsAfter(opened.db, userId, 0, { maxEvents: 1000, maxBytes: 1e6 })
    return {
      seqs: page.items.map((item) => item.userSeq),
      withBytes: page.items.filter((item) => item.wire !== undefined).map((item) => item.userSeq),
      leaves: page.items.map((item) => toHex(leafOfItem(item).inner)),
      prunedThrough: page.prunedThrough,
    }
  }

  /** A user of his own far over everybody else's limit, so that tests do not prune each other's. */
  const pruneToQuota = async (maxBytes: number, maxEvents: number): Promise<number[]> => {
    const counts: number[] = []
    for (;;) {
      const pruned = await pruneEvents(opened.db, { reason: 'quota', maxBytes }, maxEvents)
      if (pruned === undefined) return counts
      counts.push(pruned.events)
    }
  }

  test('RET-2: over the quota the oldest go in small batches, no more than must; rows, leaves and order stay', async () => {
    const device = await addDevice(opened.db)
    await append(device, 10)
    expect(await storageOf(device)).toEqual({ counted: 0, bytes: 0, pruned: 0 })
    expect(await countStoredBytes(opened.db, [device.userId], 100)).toEqual([])
    expect(await storageOf(device)).toEqual({ counted: 10, bytes: 10 * BYTES, pruned: 0 })
    const before = await held(device)
    expect(await pruneToQuota(4 * BYTES + 50, 4)).toEqual([4, 2])
    const after = await held(device)
    expect(after).toEqual({ ...before, withBytes: [7, 8, 9, 10], prunedThrough: 6 })
    expect(await storageOf(device)).toEqual({ counted: 10, bytes: 4 * BYTES, pruned: 6 })
    expect(await pruneToQuota(1, 100)).toEqual([4])
    expect(await storageOf(device)).toEqual({ counted: 10, bytes: 0, pruned: 10 })
  })

  test('RET-2: what is older than the days allow goes, up to the first that is not', async () => {
    const device = await addDevice(opened.db)
    await append(device, 6)
    const age = (userSeq: number, days: number) =>
      run('update events set stored_at = now() - make_interval(days => $3) where user_id = $1 and user_seq <= $2', [
        device.userId,
        userSeq,
        days,
      ])
    await age(5, 3)
    await age(3, 40)
    await countStoredBytes(opened.db, [device.userId], 100)
    const prune = (days: number, maxEvents = 100) =>
      pruneEvents(opened.db, { reason: 'age', storedBeforeMs: Date.now() - days * DAY_MS }, maxEvents)
    expect(await prune(50)).toBeUndefined()
    expect(await prune(30, 2)).toEqual({ events: 2 })
    expect(await prune(30, 2)).toEqual({ events: 1 })
    expect(await prune(30, 2)).toBeUndefined()
    expect(await held(device)).toMatchObject({ withBytes: [4, 5, 6], prunedThrough: 3 })
    expect(await prune(2)).toEqual({ events: 2 })
    expect(await prune(2)).toBeUndefined()
    await append(device, 1)
    await countStoredBytes(opened.db, [device.userId], 100)
    expect(await prune(2)).toBeUndefined()
    expect(await storageOf(device)).toEqual({ counted: 7, bytes: 2 * BYTES, pruned: 5 })
    await run('delete from user_storage where user_id = $1', [device.userId])
  })

  test('RET-2, P5: a batch reads what it takes and not all that a user has, also without statistics', async () => {
    /** Blocks that a batch of ten touches, of a user with so many old events; all of it is rolled back. */
    const readBlocks = async (count: number): Promise<number> => {
      const device = await addDevice(opened.db)
      await run(
        `insert into events
           (user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, chain, wire)
         select $1, n, $2, n, substr($1::bytea, 1, 16), n, substr(sha256(int8send(n)), 1, 16), now(), sha256(int8send(n)), $3
         from generate_series(1, $4::bigint) as n`,
        [device.userId, device.deviceId, Buffer.alloc(BYTES, 7), count],
      )
      await run('update user_storage set counted_through = $2, stored_bytes = $3 where user_id = $1', [
        device.userId,
        count,
        count * BYTES,
      ])
      let plan = ''
      const explaining: Pick<OpenedDatabase['db'], 'transaction'> = {
        transaction: (options, work) =>
          opened.db.transaction(options, (tx) =>
            work({
              query: async (asked, values) => {
                if (asked.name !== 'prune_events') return tx.query(asked, values)
                const text = `explain (analyze, buffers, timing off) ${asked.text}`
                const lines = await tx.query<{ 'QUERY PLAN': string }>({ name: '', text }, values)
                plan = lines.map((line) => line['QUERY PLAN']).join('\n')
                throw new Error('seen')
              },
            }),
          ),
      }
      await expect(pruneEvents(explaining, { reason: 'quota', maxBytes: 1 }, 10)).rejects.toThrow('seen')
      await run('delete from user_storage where user_id = $1', [device.userId])
      // The first line with buffers is that of the whole.
      const buffers = /Buffers: shared(.*)/.exec(plan)?.[1] ?? ''
      return [...buffers.matchAll(/(?:hit|read)=(\d+)/g)].reduce((sum, [, blocks]) => sum + Number(blocks), 0)
    }
    const few = await readBlocks(1_000)
    expect(few).toBeGreaterThan(10)
    // Of fewer events the planner's plan is right by chance.
    expect(await readBlocks(200_000)).toBeLessThan(2 * few)
  })

  test('RET-4: no device holds anything back, unseen for 90 days or there all along', async () => {
    const { devices } = await addUser(opened.db, 3)
    const [writer, unseen] = [devices[0]!, devices[1]!]
    await run(`update devices set cursor = 0, last_seen_at = now() - interval '90 days' where device_id = $1`, [
      unseen.deviceId,
    ])
    await append(writer, 5)
    await countStoredBytes(opened.db, [writer.userId], 100)
    expect(await pruneToQuota(BYTES, 100)).toEqual([4])
    expect(await held(writer)).toMatchObject({ withBytes: [5], prunedThrough: 4 })
  })

  test('RET-2: an expired event counts for nothing, whether it was counted before or not', async () => {
    const device = await addDevice(opened.db)
    await append(device, 2, 60)
    await countStoredBytes(opened.db, [device.userId], 100)
    await append(device, 2, 60)
    await append(device, 1)
    expect(await expireEvents(opened.db, { maxEvents: 100, nowMs: Date.now() + 61_000 })).toBe(4)
    expect(await storageOf(device)).toEqual({ counted: 2, bytes: 0, pruned: 0 })
    await countStoredBytes(opened.db, [device.userId], 100)
    expect(await storageOf(device)).toEqual({ counted: 5, bytes: BYTES, pruned: 0 })
    expect((await held(device)).prunedThrough).toBe(0)
  })

  test('RET-2: a count that went wrong is set right rather than pruned for ever', async () => {
    const device = await addDevice(opened.db)
    await append(device, 1)
    await countStoredBytes(opened.db, [device.userId], 100)
    await run('update user_storage set stored_bytes = 1000000 where user_id = $1', [device.userId])
    expect(await pruneToQuota(BYTES, 100)).toEqual([1, 0])
    expect(await storageOf(device)).toEqual({ counted: 1, bytes: 0, pruned: 1 })
  })

  test('RET-2: users with more events than one turn counts are told, and those nobody noted are found', async () => {
    const devices = [await addDevice(opened.db), await addDevice(opened.db)]
    for (const device of devices) await append(device, 7)
    const [first] = devices
    expect(await countStoredBytes(opened.db, [first!.userId], 7)).toEqual([first!.userId])
    expect(await countStoredBytes(opened.db, [first!.userId], 7)).toEqual([])
    expect(await storageOf(first!)).toEqual({ counted: 7, bytes: 7 * BYTES, pruned: 0 })
    const found: string[] = []
    for (let after: Uint8Array | undefined = new Uint8Array(0); after !== undefined; ) {
      const page = await findUncountedUsers(opened.db, after, 2)
      found.push(...page.userIds.map(toHex))
      after = page.lastUserId
    }
    expect(found).toEqual([toHex(devices[1]!.userId)])
  })

  test('RET-1: the next lifetime to end is known, and none when there is none', async () => {
    const device = await addDevice(opened.db)
    await expireEvents(opened.db, { maxEvents: 1000, nowMs: Date.now() + 1e12 })
    expect(await readMsToNextExpiry(opened.db)).toBeUndefined()
    const [verdict] = await append(device, 1, 60)
    const storedAtMs = verdict?.status === 'stored' ? verdict.storedAtMs : 0
    expect(await readMsToNextExpiry(opened.db, storedAtMs + 1000)).toBe(59_000)
    expect(await readMsToNextExpiry(opened.db, storedAtMs + 60_500)).toBe(-500)
  })

  test('RET-2: the end of an account takes the count with it, and nobody who counts brings it back', async () => {
    const device = await addDevice(opened.db)
    await append(device, 3)
    await opened.db.transaction({ name: 'test' }, (tx) => deleteAccount(tx, device.userId))
    await countStoredBytes(opened.db, [device.userId], 100)
    expect(await storageOf(device)).toBeUndefined()
  })

  test('RET-2: whatever the order of appends, expiries, counts and prunes, the bytes counted are those that are there', async () => {
    const random = createSeededRandom(kind === 'postgres' ? 71 : 72)
    const devices = [await addDevice(opened.db), await addDevice(opened.db), await addDevice(opened.db)]
    const userIds = devices.map(({ userId }) => userId)
    for (let step = 0; step < 120; step++) {
      const device = devices[random.below(devices.length)]!
      const maxEvents = 1 + random.below(6)
      const choice = random.below(5)
      if (choice <= 1) await append(device, 1 + random.below(8), random.below(2) * 3600)
      else if (choice === 2) await expireEvents(opened.db, { maxEvents, nowMs: Date.now() + 3_601_000 })
      else if (choice === 3) await countStoredBytes(opened.db, userIds, maxEvents)
      else await pruneEvents(opened.db, { reason: 'quota', maxBytes: random.below(9) * BYTES }, maxEvents)
      for (const each of devices) {
        const storage = await storageOf(each)
        const [real] = await run<{ bytes: number; left: number }>(
          `select
            coalesce(sum(octet_length(wire)), 0)::bigint as bytes,
            (count(*) filter (where wire is not null and user_seq <= $3))::integer as left
          from events where user_id = $1 and user_seq <= $2`,
          [each.userId, storage!.counted, storage!.pruned],
        )
        expect(real, `after step ${step}`).toEqual({ bytes: storage!.bytes, left: 0 })
      }
    }
  })
})
