// What fails half way: a commit nobody knows the end of, a lock that is never given, a holder that never ends, a deadlock.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Database, openPostgres, type Queryable } from '../../src/db/postgres.ts'
import { appendRuns } from '../../src/db/queries/events.ts'
import { addUser, continueRun, createCapturedParts, makeEvents, type TestDevice } from '../support/open-database.ts'
import { APPEND_WAYS, withoutDeviceCounter, withoutKeys } from './append-ways.ts'
import { inScene, openScene, openStepped, type Scene, type Stepped, toRefused } from './scene.ts'

const lockUser = {
  name: 'test_lock_user',
  text: 'select u.user_id from users as u where u.user_id = $1 for no key update',
}

export function describeFailures(): void {
  describe('time-outs, deadlocks and unknown outcomes', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    describe.each(APPEND_WAYS)('an append $way whose answer was lost', ({ append }) => {
      /** The connection is gone before the answer; then the device sends the same event again. */
      const sendAgain = async (where: Scene, isCommitted: boolean) => {
        const device = (await addUser(where.db)).devices[0]!
        const run = continueRun(device, makeEvents(1))
        const lost = await openStepped(where.opened.url)
        await lost.run('begin isolation level read committed')
        const [unheard] = await append(lost, [run])
        if (isCommitted) await lost.run('commit')
        await where.run('select pg_terminate_backend($1, 10000)', [lost.pid])
        await lost.close()
        const [again] = await append(where.db, [run])
        const rows = await where.run('select 1 from events where user_id = $1', [device.userId])
        return { unheard, again, rows: rows.length }
      }

      test('ISO-24, P3: after a commit whose answer was lost, sending again gets the first receipt', async () => {
        const { unheard, again, rows } = await sendAgain(scene, true)
        expect(again).toEqual({ ...unheard, status: 'duplicate' })
        expect(rows).toBe(1)
      })

      test('ISO-24, P3: when there was no commit, sending again stores it with the same numbers', async () => {
        const { again, rows } = await sendAgain(scene, false)
        expect({ again, rows }).toMatchObject({ again: { status: 'stored', userSeq: 1, streamSeq: 1 }, rows: 1 })
      })

      test('ISO-24: when the counter of the device does not move with the event, it is stored twice', async () => {
        const outcome = await inScene([withoutDeviceCounter, ...withoutKeys], (mutated) => sendAgain(mutated, true))
        expect(outcome).toMatchObject({ again: { status: 'stored', userSeq: 2 }, rows: 2 })
      })
    })

    const appendOnce = (db: Queryable, device: TestDevice) =>
      appendRuns(db, [continueRun({ ...device }, makeEvents(1))]).catch(toRefused)

    test('ISO-25, P5: an append that waits too long is given up, stores nothing and harms nothing', async () => {
      const device = (await addUser(scene.db)).devices[0]!
      const parts = { ...createCapturedParts().parts, url: scene.opened.url, poolSize: 1 }
      const impatient = await openPostgres({ ...parts, statementTimeoutMs: 200 })
      await scene.left.run('begin')
      await scene.left.query(lockUser, [device.userId])
      // The companion: a connection without the time-out still waits when the other was given up.
      const patient = appendOnce(scene.right, device)
      expect(await scene.reach(scene.right, patient)).toBe('waits')
      expect(await appendOnce(impatient, device)).toEqual({ refused: '57014' })
      expect(await scene.reach(scene.right, patient)).toBe('waits')
      await scene.left.run('commit')
      expect(await patient).toMatchObject([{ status: 'stored', userSeq: 1 }])
      expect(await appendOnce(impatient, device)).toMatchObject([{ status: 'conflict' }])
      await impatient.close()
    })

    test('ISO-26, P5: a holder that goes silent is ended and its lock given on', async () => {
      const devices = [(await addUser(scene.db)).devices[0]!, (await addUser(scene.db)).devices[0]!] as const
      const [silent, endless] = [await openStepped(scene.opened.url), await openStepped(scene.opened.url)]
      await silent.run(`set idle_in_transaction_session_timeout = '200ms'`)
      for (const [i, holder] of [silent, endless].entries()) {
        await holder.run('begin')
        await holder.query(lockUser, [devices[i]!.userId])
      }
      // The companion: behind the holder without the time-out the append still waits.
      const behindEndless = appendOnce(scene.right, devices[1])
      expect(await appendOnce(scene.left, devices[0])).toMatchObject([{ status: 'stored' }])
      expect(await scene.reach(scene.right, behindEndless)).toBe('waits')
      await endless.run('commit')
      expect(await behindEndless).toMatchObject([{ status: 'stored' }])
      await Promise.all([silent.close(), endless.close()])
    })

    test('ISO-26, P5: every connection of the server has both time-outs', async () => {
      const readSettings = {
        name: '',
        text: `select current_setting('statement_timeout') as statement,
          current_setting('idle_in_transaction_session_timeout') as idle`,
      }
      expect(await scene.db.query(readSettings, [])).toEqual([{ statement: '15s', idle: '10s' }])
    })

    /** Each transaction holds one user and then wants the other's. */
    const cross = async (begin: (side: 0 | 1, work: (tx: Queryable) => Promise<void>) => Promise<void>) => {
      const users = [(await addUser(scene.db)).genesis.userId, (await addUser(scene.db)).genesis.userId] as const
      let release = (): void => {}
      const bothHold = new Promise<void>((resolve) => {
        release = resolve
      })
      let holding = 0
      let runs = 0
      const side = (mine: 0 | 1) =>
        begin(mine, async (tx) => {
          runs++
          await tx.query(lockUser, [users[mine]])
          if (++holding === 2) release()
          await bothHold
          await tx.query(lockUser, [users[1 - mine]!])
        })
      const ends = await Promise.all([side(0), side(1)].map((end) => end.then(() => 'committed', toRefused)))
      return { ends, runs }
    }

    test('ISO-27, P3: a deadlock inside a transaction is run again, and both commit', async () => {
      const throughTheDoor = (db: Database) => (_side: 0 | 1, work: (tx: Queryable) => Promise<void>) =>
        db.transaction({ name: 'test_deadlock' }, work)
      const { ends, runs } = await cross(throughTheDoor(scene.db))
      expect(ends).toEqual(['committed', 'committed'])
      expect(runs).toBeGreaterThan(2)
    })

    test('ISO-27: beside the one door to a transaction one of the two fails', async () => {
      const bare = async (side: 0 | 1, work: (tx: Queryable) => Promise<void>): Promise<void> => {
        const connection: Stepped = side === 0 ? scene.left : scene.right
        await connection.run('begin')
        try {
          await work(connection)
        } finally {
          await connection.run('commit')
        }
      }
      const { ends } = await cross(bare)
      expect(ends.filter((end) => end !== 'committed')).toEqual([{ refused: '40P01' }])
    })
  })
}
