// Order under transactions that are held open by hand, on PostgreSQL: the row lock of the user makes user_seq the order
// of commits (ORD-3). The last test shows, on a table of its own, that a sequence object does not.

import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Database, Queryable, Statement } from '../../src/db/postgres.ts'
import { type AppendVerdict, appendRuns, readEventsAfter } from '../../src/db/queries/events.ts'
import { PARSERS } from '../../src/db/values.ts'
import { createAccount } from '../support/account.ts'
import {
  addUser,
  continueRun,
  makeEvents,
  type OpenedDatabase,
  openDatabase,
  type TestDevice,
  waitFor,
} from '../support/open-database.ts'
import { startTestServer, type TestServer } from '../support/server.ts'
import { expectSoundLog, logOf } from './observed-log.ts'
import { follow, haveEvents, haveReceipts, publishInFrames, roundTrip, wiresOf } from './publishing.ts'

/** One connection, stepped by hand. */
interface Stepped extends Queryable {
  run(text: string, values?: readonly unknown[]): Promise<pg.QueryResult>
  close(): Promise<void>
}

async function openStepped(url: string): Promise<Stepped> {
  const client = new pg.Client({
    connectionString: url,
    types: { getTypeParser: (oid: number) => PARSERS[oid] ?? String },
  })
  await client.connect()
  return {
    query: async <Row extends object>({ text }: Statement, values: readonly unknown[]) =>
      (await client.query<Row>(text, [...values])).rows,
    run: (text, values = []) => client.query(text, [...values]),
    close: () => client.end(),
  }
}

/** Resolves when so many statements of the database wait for a lock. */
async function statementsWait(watcher: Stepped, count: number): Promise<void> {
  const countWaiting = async (): Promise<number> => {
    const { rows } = await watcher.run(
      `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    )
    return rows.length
  }
  await waitFor(`${count} statements that wait for a lock`, countWaiting, (waiting) => waiting === count)
}

const userSeqsOf = (verdicts: readonly AppendVerdict[]): number[] =>
  verdicts.map((verdict) => (verdict.status === 'stored' ? verdict.userSeq : 0))

export function describeTransactions(): void {
  describe('order of two transactions held open on PostgreSQL', () => {
    let opened: OpenedDatabase
    let db: Database
    let left: Stepped
    let right: Stepped
    let devices: TestDevice[]

    beforeAll(async () => {
      opened = await openDatabase('postgres')
      db = opened.db
    })
    afterAll(() => opened?.close())
    beforeEach(async () => {
      left = await openStepped(opened.url)
      right = await openStepped(opened.url)
      devices = (await addUser(db, 2)).devices
    })
    afterEach(async () => {
      await left.close()
      await right.close()
    })

    /** A reader that keeps a cursor, as every device does. */
    const createReader = () => {
      let cursor = 0
      const seen: number[] = []
      return {
        seen,
        read: async () => {
          const page = await readEventsAfter(db, devices[0]!.userId, cursor, { maxEvents: 100, maxBytes: 1e6 })
          cursor = page.through
          seen.push(...page.items.map((item) => item.userSeq))
        },
      }
    }

    test('ORD-3: the second transaction waits for the first, so user_seq is the order of commits', async () => {
      const reader = createReader()
      await left.run('begin')
      await right.run('begin')
      const ofLeft = await appendRuns(left, [continueRun(devices[0]!, makeEvents(3))])
      let isRightDone = false
      const appending = appendRuns(right, [continueRun(devices[1]!, makeEvents(2))]).finally(() => {
        isRightDone = true
      })
      // It cannot commit before the first: it has not got its numbers yet.
      await statementsWait(left, 1)
      await reader.read()
      expect({ isRightDone, seen: reader.seen }).toEqual({ isRightDone: false, seen: [] })

      await left.run('commit')
      const ofRight = await appending
      await reader.read()
      expect(reader.seen).toEqual([1, 2, 3])
      await right.run('commit')
      await reader.read()
      expect(reader.seen).toEqual([1, 2, 3, 4, 5])
      expect([userSeqsOf(ofLeft), userSeqsOf(ofRight)]).toEqual([
        [1, 2, 3],
        [4, 5],
      ])
    })

    test('ORD-3: a transaction that is rolled back leaves no gap to the one that waited for it', async () => {
      await left.run('begin')
      await right.run('begin')
      await appendRuns(left, [continueRun(devices[0]!, makeEvents(3))])
      const appending = appendRuns(right, [continueRun(devices[1]!, makeEvents(2))])
      await statementsWait(left, 1)
      await left.run('rollback')
      expect(userSeqsOf(await appending)).toEqual([1, 2])
      await right.run('commit')
      const page = await readEventsAfter(db, devices[0]!.userId, 0, { maxEvents: 10, maxBytes: 1e6 })
      expect(page.items.map((item) => [item.userSeq, item.streamSeq])).toEqual([
        [1, 1],
        [2, 2],
      ])
    })

    test('ORD-3: users do not wait for each other', async () => {
      const stranger = (await addUser(db)).devices[0]!
      await left.run('begin')
      await appendRuns(left, [continueRun(devices[0]!, makeEvents(1))])
      expect(userSeqsOf(await appendRuns(right, [continueRun(stranger, makeEvents(2))]))).toEqual([1, 2])
      await left.run('commit')
    })

    test('ORD-3: with a sequence object, a reader passes over an event for ever', async () => {
      await left.run('create table bad_log (seq bigserial primary key, body text not null)')
      const insert = 'insert into bad_log (body) values ($1) returning seq'
      const readAfter = { name: 'read_bad_log', text: 'select seq from bad_log where seq > $1 order by seq' }
      let cursor = 0
      const seen: number[] = []
      const read = async (): Promise<void> => {
        const found = await db.query<{ seq: number }>(readAfter, [cursor])
        seen.push(...found.map(({ seq }) => seq))
        cursor = Math.max(cursor, ...seen)
      }

      await left.run('begin')
      await right.run('begin')
      await left.run(insert, ['early, and slow to commit'])
      await right.run(insert, ['late, and quick'])
      await right.run('commit')
      await read()
      await left.run('commit')
      await read()
      const { rows } = await left.run('select seq from bad_log order by seq')
      expect(rows.map(({ seq }) => seq)).toEqual([1, 2])
      expect(seen).toEqual([2])
    })
  })

  describe('order while the database holds a commit back', () => {
    let server: TestServer
    let holder: Stepped

    beforeAll(async () => {
      server = await startTestServer({ database: 'postgres' })
      holder = await openStepped(server.databaseUrl ?? '')
    })
    afterAll(async () => {
      await holder?.close()
      await server?.close()
    })

    const lockUser = async (userId: Uint8Array): Promise<void> => {
      await holder.run('begin')
      await holder.run('select 1 from users where user_id = $1 for update', [Buffer.from(userId)])
    }

    test('P3: before the commit there is no receipt and nothing is relayed, after it both', async () => {
      const { userId, devices } = await createAccount(server, { devices: 2 })
      const [writing, reading] = [await follow(server, devices[0]!), await follow(server, devices[1]!)]
      await lockUser(userId)
      writing.publish(wiresOf(await devices[0]!.sealMany('notes', 5)))
      await statementsWait(holder, 1)
      // A round trip on both sessions: whatever had been sent before is here now.
      await Promise.all([roundTrip(writing), roundTrip(reading)])
      expect([writing.receipts.length, reading.events.length]).toEqual([0, 0])
      await holder.run('commit')
      await Promise.all([haveReceipts(writing, 5), haveEvents(reading, 5)])
      expectSoundLog(logOf(devices[1]!, reading), 5)
    })

    test('P3: a connection to the database that dies in a commit acknowledges nothing, and nothing is lost', async () => {
      const { userId, devices } = await createAccount(server, { devices: 2 })
      const [writing, reading] = [await follow(server, devices[0]!), await follow(server, devices[1]!)]
      await lockUser(userId)
      const events = await devices[0]!.sealMany('notes', 5)
      writing.publish(wiresOf(events))
      await statementsWait(holder, 1)
      await holder.run(
        `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()`,
      )
      const countUnavailable = (): number => writing.messages.filter(({ type }) => type === 'unavailable').length
      await writing.until('unavailable', () => countUnavailable() > 0)
      expect(writing.receipts).toEqual([])
      await holder.run('commit')
      // As a client does, again until it is stored: the next connection of the pool may be a dead one, too.
      while (writing.receipts.length < 5) {
        const told = countUnavailable()
        publishInFrames(writing, events, 5)
        await writing.until('an answer', () => writing.receipts.length >= 5 || countUnavailable() > told)
      }
      await haveEvents(reading, 5)
      expectSoundLog(logOf(devices[1]!, reading), 5)
    })
  })
}
