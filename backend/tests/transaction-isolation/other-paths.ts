// The paths beside the five: cursors, sessions, mailboxes, migrations, expiry, pages.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runMigrations } from '../../src/db/migrate.ts'
import type { Database, Queryable } from '../../src/db/postgres.ts'
import { saveCursor } from '../../src/db/queries/devices.ts'
import { appendRuns, readEventsAfter, readHeads } from '../../src/db/queries/events.ts'
import { expireEvents } from '../../src/db/queries/expiry.ts'
import { postMailboxMessage, readMailboxMessage } from '../../src/db/queries/mailboxes.ts'
import { beginFreeSessions, beginSession, confirmSessions } from '../../src/db/queries/sessions.ts'
import { addUser, continueRun, id, makeEvents } from '../support/open-database.ts'
import {
  asItIs,
  inScene,
  inTransactionOf,
  interleave,
  openScene,
  rewriting,
  type Scene,
  type Stepped,
  statement,
  type Wrap,
  withoutConstraint,
} from './scene.ts'

export function describeOtherPaths(): void {
  describe('cursors, sessions, mailboxes, migrations, expiry and pages', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    /** A newer cursor is being saved when an older one arrives. */
    const saveTwoCursors = async (wrap = asItIs) => {
      const device = (await addUser(scene.db)).devices[0]!
      const save = (cursor: number) => (tx: Queryable) => saveCursor(wrap(tx), device.userId, device.deviceId, cursor)
      const { met } = await interleave(scene, { first: save(9), second: save(4) })
      const sql = 'select cursor from devices where device_id = $1'
      const [row] = await scene.run<{ cursor: number }>(sql, [device.deviceId])
      return { met, cursor: row?.cursor }
    }

    test('ISO-18, P4: of two cursors saved at once the greater stays', async () => {
      expect(await saveTwoCursors()).toEqual({ met: 'waits', cursor: 9 })
    })

    test('ISO-18: a cursor compared before the update goes back', async () => {
      const compared = '(select greatest(x.cursor, $3) from devices as x where x.user_id = $1 and x.device_id = $2)'
      const wrap: Wrap = (tx) => rewriting(tx, 'save_cursor', 'greatest(d.cursor, $3)', compared)
      expect(await saveTwoCursors(wrap)).toEqual({ met: 'waits', cursor: 4 })
    })

    const beginTwoSessions = async (wrap = asItIs) => {
      const device = (await addUser(scene.db)).devices[0]!
      const begin = (tx: Queryable) => beginSession(wrap(tx), device.userId, device.deviceId)
      const { first, second, met } = await interleave(scene, { first: begin, second: begin })
      const numbers = [first, second].map((begun) => (begun !== undefined && 'number' in begun ? begun.number : begun))
      return { met, numbers }
    }

    test('ISO-19, SES-3: two sessions of a device that begin at once have two numbers', async () => {
      expect(await beginTwoSessions()).toEqual({ met: 'waits', numbers: [1, 2] })
    })

    test('ISO-19: numbers read before the update are the same, and neither session is the newer', async () => {
      const read = '(select x.session_number from devices as x where x.user_id = $1 and x.device_id = $2) + 1'
      const wrap: Wrap = (tx) => rewriting(tx, 'begin_session', 'd.session_number + 1', read)
      expect(await beginTwoSessions(wrap)).toEqual({ met: 'waits', numbers: [1, 1] })
    })

    /** The newer session's node confirms its number when the older one's does. */
    const confirmTwo = async (wrap = asItIs) => {
      const { userId, deviceId } = (await addUser(scene.db)).devices[0]!
      const confirm = (number: number) => (tx: Queryable) => confirmSessions(wrap(tx), [{ userId, deviceId, number }])
      const { met } = await interleave(scene, { first: confirm(2), second: confirm(1) })
      const sql = 'select begun_session_number from devices where device_id = $1'
      const [row] = await scene.run<{ begun_session_number: number }>(sql, [deviceId])
      return { met, number: row?.begun_session_number }
    }

    test('ISO-33, SES-3: of two numbers confirmed at once the greater stays', async () => {
      expect(await confirmTwo()).toEqual({ met: 'waits', number: 2 })
    })

    test('ISO-33: a number compared before the update goes back', async () => {
      const greatest = 'greatest(d.begun_session_number, begun.session_number)'
      const wrap: Wrap = (tx) => rewriting(tx, 'confirm_sessions', greatest, 'begun.session_number')
      expect(await confirmTwo(wrap)).toEqual({ met: 'waits', number: 1 })
    })

    /** Sessions of two devices begin in one batch while the row of one of them is locked. */
    const beginBesideHeld = async (wrap = asItIs) => {
      const [held, free] = [(await addUser(scene.db)).devices[0]!, (await addUser(scene.db)).devices[0]!]
      const { second, met } = await interleave(scene, {
        first: (tx) => beginSession(tx, held.userId, held.deviceId),
        second: (tx) => beginFreeSessions(wrap(tx), [held, free]),
      })
      return { met, numbers: Array.isArray(second) ? second.map((begun) => begun?.number) : second }
    }

    test('ISO-19, SES-3: sessions that begin together wait for no row, so one device holds up no other', async () => {
      expect(await beginBesideHeld()).toEqual({ met: 'done', numbers: [undefined, 1] })
    })

    test('ISO-19: a batch that waits for a row holds up its neighbours', async () => {
      const wrap: Wrap = (tx) => rewriting(tx, 'begin_sessions', 'skip locked', '')
      expect(await beginBesideHeld(wrap)).toEqual({ met: 'waits', numbers: [2, 1] })
    })

    const postTwice = async (where: Scene, wrap = asItIs) => {
      const mailboxId = id()
      const post = (text: string) => (tx: Queryable) =>
        postMailboxMessage(wrap(tx), { mailboxId, slot: 0, body: Buffer.from(text) })
      const { first, second, met } = await interleave(where, { first: post('first'), second: post('second') })
      const rows = await where.run('select 1 from pairings where mailbox_id = $1', [mailboxId])
      const body = Buffer.from((await readMailboxMessage(where.db, mailboxId, 0)) ?? []).toString()
      return { met, answers: [first, second], rows: rows.length, body }
    }

    test('ISO-20, DEV-3: of two messages for one slot at once the first is kept, the second told so', async () => {
      expect(await postTwice(scene)).toMatchObject({
        met: 'waits',
        rows: 1,
        body: 'first',
        answers: ['stored', 'taken'],
      })
    })

    test('ISO-20: without the key of mailboxes both are in the slot', async () => {
      const wrap: Wrap = (tx) => rewriting(tx, 'post_mailbox_message', 'on conflict (mailbox_id, slot) do nothing', '')
      const outcome = await inScene([withoutConstraint('pairings', 'pairings_pkey')], (mutated) =>
        postTwice(mutated, wrap),
      )
      expect(outcome).toMatchObject({ met: 'done', answers: ['stored', 'stored'], rows: 2 })
    })

    /** Two nodes bring one empty database to its schema. */
    const migrateAtOnce = (wrap = asItIs) =>
      inScene([statement('drop schema public cascade'), statement('create schema public')], async (empty) => {
        const migrate = (tx: Stepped) => {
          const inTransaction: Database['transaction'] = (_options, work) => work(wrap(tx))
          return runMigrations({ kind: 'postgres', query: tx.query, transaction: inTransaction, close: tx.close })
        }
        const { second, met } = await interleave(empty, { first: migrate, second: migrate })
        return { met, second }
      })

    test('ISO-21, P8: of two nodes that migrate at once the second waits and finds it done', async () => {
      expect(await migrateAtOnce()).toEqual({ met: 'waits', second: undefined })
    })

    test('ISO-21: without the advisory lock the second fails', async () => {
      const wrap: Wrap = (tx) => ({
        query: async (asked, values) => (asked.text.includes('pg_advisory_xact_lock') ? [] : tx.query(asked, values)),
      })
      expect(await migrateAtOnce(wrap)).toMatchObject({ second: { refused: '23505' } })
    })

    const expireTwice = async (wrap = asItIs) =>
      inScene([], async (where) => {
        for (const count of [2, 1]) {
          const device = (await addUser(where.db)).devices[0]!
          await appendRuns(where.db, [continueRun(device, makeEvents(count, { ttlS: 60 }))])
        }
        const later = Date.now() + 3_600_000
        const { first, second, met } = await interleave(where, {
          first: (tx) => expireEvents(inTransactionOf(wrap(tx)), { maxEvents: 2, nowMs: later }),
          second: (tx) => expireEvents(inTransactionOf(wrap(tx)), { maxEvents: 2, nowMs: later }),
        })
        return { met, counts: [first, second] }
      })

    test('ISO-22, P5: two sweeps of expired events take different ones, and none waits', async () => {
      expect(await expireTwice()).toEqual({ met: 'done', counts: [2, 1] })
    })

    test('ISO-22: without skipping what is locked the second waits for the first, and takes less', async () => {
      const wrap: Wrap = (tx) => rewriting(tx, 'expire_events', 'for update skip locked', 'for update')
      expect(await expireTwice(wrap)).toMatchObject({ met: 'waits' })
    })

    test('ISO-22, P5: a publisher does not wait for a sweep', async () => {
      const device = (await addUser(scene.db)).devices[0]!
      await appendRuns(scene.db, [continueRun(device, makeEvents(3, { ttlS: 60 }))])
      const { met } = await interleave(scene, {
        first: (tx) => expireEvents(inTransactionOf(tx), { maxEvents: 10, nowMs: Date.now() + 3_600_000 }),
        second: (tx) => appendRuns(tx, [continueRun(device, makeEvents(1))]),
      })
      expect(met).toBe('done')
    })

    /** An append commits while a page is being read; `readThrough` says up to where the page is complete. */
    const readDuringAppend = async (readThrough?: (userId: Uint8Array) => Promise<number>) => {
      const device = (await addUser(scene.db)).devices[0]!
      const { userId } = device
      const options = { maxEvents: 10, maxBytes: 1e6 }
      await scene.left.run('begin isolation level read committed')
      await appendRuns(scene.left, [continueRun(device, makeEvents(2))])
      const page = await readEventsAfter(scene.db, userId, 0, options)
      await scene.left.run('commit')
      const through = (await readThrough?.(userId)) ?? page.through
      const next = await readEventsAfter(scene.db, userId, through, options)
      return [...page.items, ...next.items].map((item) => item.userSeq)
    }

    test('ISO-23, ORD-5: a page and its cursor come from one snapshot', async () => {
      expect(await readDuringAppend()).toEqual([1, 2])
    })

    test('ISO-23: with a cursor read by a second statement the events between are never read', async () => {
      const readHead = async (userId: Uint8Array) =>
        (await readHeads(scene.db, [userId])).get(Buffer.from(userId).toString('hex')) ?? 0
      expect(await readDuringAppend(readHead)).toEqual([])
    })
  })
}
