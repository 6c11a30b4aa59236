// Several connections and several nodes on one PostgreSQL: commit order, deadlocks, migrations, revocations.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runMigrations } from '../src/db/migrate.ts'
import { type Database, openPostgres, type Queryable } from '../src/db/postgres.ts'
import { appendDeviceLogEntry } from '../src/db/queries/device-log.ts'
import { appendRuns, readEventsAfter } from '../src/db/queries/events.ts'
import { readLogEpoch } from '../src/db/queries/server-state.ts'
import { findUser } from '../src/db/queries/users.ts'
import {
  addUser,
  continueRun,
  createCapturedParts,
  makeEntry,
  makeEvents,
  type OpenedDatabase,
  openDatabase,
  waitFor,
} from './support/open-database.ts'

const waitingForLocks = {
  name: 'test_waiting_for_locks',
  text: `select count(*)::integer as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
}

describe('several connections on one PostgreSQL', () => {
  let first: OpenedDatabase
  let second: Database
  beforeAll(async () => {
    first = await openDatabase('postgres')
    second = await openPostgres({ ...createCapturedParts().parts, url: first.url, poolSize: 6 })
  })
  afterAll(async () => {
    await second.close()
    await first.close()
  })

  const readAll = (userId: Uint8Array) => readEventsAfter(first.db, userId, 0, { maxEvents: 10_000, maxBytes: 1e8 })
  const countWaiting = async (): Promise<number> =>
    (await first.db.query<{ waiting: number }>(waitingForLocks, []))[0]?.waiting ?? 0

  /** A transaction of `db` that has run `work` and stays open until it is released. */
  const holdOpen = async (db: Database, work: (tx: Queryable) => Promise<unknown>) => {
    let release = (): void => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    let done: Promise<void> = Promise.resolve()
    await new Promise<void>((resolve, reject) => {
      done = db.transaction({ name: 'test_hold' }, async (tx) => {
        await work(tx)
        resolve()
        await released
      })
      done.catch(reject)
    })
    const commit = (): Promise<void> => {
      release()
      return done
    }
    return { commit }
  }

  test('ORD-3: an append waits for the open one on the same user, so user_seq is the order of commits', async () => {
    const { devices } = await addUser(first.db, 2)
    const [one, other] = [devices[0]!, devices[1]!]
    const held = await holdOpen(first.db, (tx) => appendRuns(tx, [continueRun(one, makeEvents(3))]))
    let isSecondDone = false
    const later = appendRuns(second, [continueRun(other, makeEvents(2))]).finally(() => {
      isSecondDone = true
    })
    await waitFor('the second append to wait', countWaiting, (waiting) => waiting > 0)
    expect(isSecondDone).toBe(false)
    expect((await readAll(one.userId)).items).toEqual([])
    await held.commit()
    expect(await later).toMatchObject([
      { status: 'stored', userSeq: 4, streamSeq: 4 },
      { status: 'stored', userSeq: 5, streamSeq: 5 },
    ])
  })

  test('ORD-3: a reader who has seen n never finds an unseen event below n, whatever commits meanwhile', async () => {
    const { devices } = await addUser(first.db, 6)
    const { userId } = devices[0]!
    const BATCHES = 25
    let isWriting = true
    const writers = Promise.all(
      devices.map(async (device, i) => {
        for (let batch = 0; batch < BATCHES; batch++) {
          await appendRuns(i % 2 === 0 ? first.db : second, [continueRun(device, makeEvents(1 + (batch % 3)))])
        }
      }),
    ).finally(() => {
      isWriting = false
    })
    const seen: number[] = []
    for (let isLast = false; !isLast; ) {
      isLast = !isWriting
      const { items } = await readEventsAfter(second, userId, seen.at(-1) ?? 0, { maxEvents: 50, maxBytes: 1e6 })
      seen.push(...items.map((item) => item.userSeq))
      if (items.length > 0) isLast = false
    }
    await writers
    const total = (await findUser(first.db, userId))?.lastUserSeq ?? 0
    expect(total).toBe(devices.length * (BATCHES + BATCHES - 1))
    expect(seen).toEqual(Array.from({ length: total }, (_, i) => i + 1))
  })

  test('ORD-4: users in opposite order in two batches at once end in no deadlock', async () => {
    const users = await Promise.all([1, 2, 3, 4, 5, 6].map(() => addUser(first.db)))
    const devices = users.map((user) => user.devices[0]!)
    for (let round = 0; round < 30; round++) {
      const forward = devices.map((device) => continueRun(device, makeEvents(1)))
      const backward = forward.map((run) => ({ ...run })).reverse()
      const answers = await Promise.all([appendRuns(first.db, forward), appendRuns(second, backward)])
      const stored = answers.flat().filter((verdict) => verdict.status === 'stored')
      expect(stored).toHaveLength(devices.length)
      expect(answers.flat().filter((verdict) => verdict.status === 'duplicate')).toHaveLength(devices.length)
    }
    expect(await first.metrics.read('database_queries_total', { status: 'error' })).toBe(0)
  })

  test('DEV-2, P6: an append that waits behind a revocation is refused, none slips past the cut', async () => {
    const { devices, genesis } = await addUser(first.db, 2)
    const goes = devices[1]!
    await appendRuns(first.db, [continueRun(goes, makeEvents(1))])
    const revocation = makeEntry(genesis, { revoked: [goes.deviceId], epoch: { n: 2, links: [] } })
    const held = await holdOpen(first.db, (tx) => appendDeviceLogEntry(tx, revocation))
    const late = appendRuns(second, [continueRun(goes, makeEvents(1, { epoch: 2, logSeq: 1 }))])
    await waitFor('the append to wait', countWaiting, (waiting) => waiting > 0)
    await held.commit()
    expect(await late).toEqual([{ status: 'revoked' }])
  })

  test('DEV-1: of two entries signed for the same head one is appended', async () => {
    const { genesis } = await addUser(first.db)
    const append = (db: Database) =>
      db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, makeEntry(genesis)))
    const outcomes = await Promise.all([append(first.db), append(second), append(first.db), append(second)])
    expect(outcomes.sort()).toEqual(['appended', 'head_moved', 'head_moved', 'head_moved'])
  })

  test('P3: a deadlock between transactions is run again, and both commit', async () => {
    const [one, other] = [await addUser(first.db), await addUser(first.db)]
    const lock = { name: 'test_lock_user', text: 'select u.user_id from users as u where u.user_id = $1 for update' }
    let attempts = 0
    let arrived = 0
    const bothHaveOne = async (): Promise<void> => {
      arrived++
      await waitFor(
        'the other transaction',
        async () => arrived,
        (count) => count >= 2,
      )
    }
    // The loser runs again once the winner is through: at once, he could take his row before the winner wakes, who would
    // wait for it in a circle again.
    let letLoserRun = (): void => {}
    const isWon = new Promise<void>((resolve) => {
      letLoserRun = resolve
    })
    const crosswise = (db: Database, mine: Uint8Array, theirs: Uint8Array) =>
      db
        .transaction({ name: 'test_deadlock' }, async (tx) => {
          if (++attempts > 2) await isWon
          await tx.query(lock, [mine])
          await bothHaveOne()
          await tx.query(lock, [theirs])
          return 'committed'
        })
        .finally(letLoserRun)
    const [a, b] = [one.genesis.userId, other.genesis.userId]
    expect(await Promise.all([crosswise(first.db, a, b), crosswise(second, b, a)])).toEqual(['committed', 'committed'])
    // Two, and the loser's again.
    expect(attempts).toBe(3)
  })
})

describe('migrations', () => {
  test('P8: four nodes that start at once on an empty database make one schema', async () => {
    const opened = await openDatabase('postgres', { isMigrated: false })
    const nodes = await Promise.all(
      [1, 2, 3, 4].map(() => openPostgres({ ...createCapturedParts().parts, url: opened.url, poolSize: 2 })),
    )
    await Promise.all(nodes.map((node) => runMigrations(node)))
    const epochs = await Promise.all(nodes.map((node) => readLogEpoch(node)))
    expect(new Set(epochs.map(String)).size).toBe(1)
    await runMigrations(opened.db)
    expect(await readLogEpoch(opened.db)).toEqual(epochs[0])
    await Promise.all(nodes.map((node) => node.close()))
    await opened.close()
  })

  test('P8: a migration that fails leaves nothing behind, and the next start does it', async () => {
    const opened = await openDatabase('postgres', { isMigrated: false })
    const obstacle = { name: '', text: 'create table server_state (is_in_the_way boolean)' }
    const readTables = {
      name: '',
      text: `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'`,
    }
    await opened.db.query(obstacle, [])
    await expect(runMigrations(opened.db)).rejects.toThrow('server_state')
    expect(await opened.db.query(readTables, [])).toEqual([{ name: 'server_state' }])
    await opened.db.query({ name: '', text: 'drop table server_state' }, [])
    await runMigrations(opened.db)
    expect((await readLogEpoch(opened.db)).id).toHaveLength(16)
    await opened.close()
  })

  test('P8: a database of a newer version, or one whose applied migrations differ, is not touched', async () => {
    const opened = await openDatabase('postgres')
    const change = (text: string) => opened.db.query({ name: '', text }, [])
    await change(`update schema_migrations set checksum = 'x' where number = 1`)
    await expect(runMigrations(opened.db)).rejects.toThrow('migration 1 (initial) differs')
    await change(`insert into schema_migrations (number, name, checksum) values (9999, 'later', 'x')`)
    await change('delete from schema_migrations where number = 1')
    await expect(runMigrations(opened.db)).rejects.toThrow('newer version')
    await opened.close()
  })
})
