// Whatever is dated in a transaction that had to wait is dated when it happens, not when the transaction began: now() is
// the latter, clock_timestamp() the former. PGlite has one connection, so there nothing waits for another transaction.

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../src/db/database.ts'
import { appendAudit } from '../src/db/queries/audit.ts'
import { appendRuns } from '../src/db/queries/events.ts'
import { addNodeSecret, insertFirstNodeSecret, readNodeSecrets } from '../src/db/queries/node-secrets.ts'
import { addDevice, continueRun, makeEvents, type OpenedDatabase, openDatabase } from './support/open-database.ts'

describe('the clock in a transaction that waits', () => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase('postgres')
  })
  afterAll(() => opened.close())

  const readClock = async (db: Queryable, text: string): Promise<number> => {
    const [row] = await db.query<{ at_ms: number }>(
      {
        name: '',
        text: `select floor(date_part('epoch', ${text}) * 1000)::bigint as at_ms`,
      },
      [],
    )
    return row!.at_ms
  }

  /** The time, when it is later than the transaction's now() by more than a millisecond is rounded. */
  const waitInside = async (tx: Queryable): Promise<number> => {
    const beganAtMs = await readClock(tx, 'now()')
    let atMs = beganAtMs
    await expect
      .poll(
        async () => {
          atMs = await readClock(opened.db, 'clock_timestamp()')
          return atMs
        },
        { interval: 1 },
      )
      .toBeGreaterThan(beganAtMs + 5)
    return atMs
  }

  const newest = (column: string, table: string, userId: Uint8Array) =>
    opened.db.query<{ at_ms: number }>(
      {
        name: '',
        text: `
          select floor(date_part('epoch', ${column}) * 1000)::bigint as at_ms
          from ${table}
          where user_id = $1
          order by ${column} desc
          limit 1`,
      },
      [userId],
    )

  test.each([1, 2])(
    'RET-9: the lifetime of an event begins when it is stored; %d devices in the batch',
    async (count) => {
      const devices = await Promise.all(Array.from({ length: count }, () => addDevice(opened.db)))
      const waitedUntilMs = await opened.db.transaction({ name: 'test' }, async (tx) => {
        const atMs = await waitInside(tx)
        const runs = devices.map((device) => continueRun(device, makeEvents(1)))
        const verdicts = await appendRuns(tx, runs, { maxStreams: 10 })
        expect(verdicts.map(({ status }) => status)).toEqual(devices.map(() => 'stored'))
        return atMs
      })
      for (const { userId } of devices) {
        const [event] = await newest('stored_at', 'events', userId)
        expect(event?.at_ms).toBeGreaterThanOrEqual(waitedUntilMs)
      }
    },
  )

  test('AUD-1: a record bears the time at which it is written', async () => {
    const userId = randomBytes(32)
    const waitedUntilMs = await opened.db.transaction({ name: 'test' }, async (tx) => {
      const atMs = await waitInside(tx)
      await appendAudit(tx, userId, [{ kind: 'epoch.rotate', detail: { epoch: 1 } }])
      return atMs
    })
    const [record] = await newest('recorded_at', 'audit_log', userId)
    expect(record?.at_ms).toBeGreaterThanOrEqual(waitedUntilMs)
  })

  test('BUS-7: a secret that waited for the table is as old as its row, not as its transaction', async () => {
    await insertFirstNodeSecret(opened.db, randomBytes(32))
    let adding: Promise<unknown> = Promise.resolve()
    const releasedAtMs = await opened.db.transaction({ name: 'test' }, async (tx) => {
      await tx.query({ name: '', text: 'lock table node_secrets in exclusive mode' }, [])
      adding = addNodeSecret(opened.db, randomBytes(32), 60_000)
      await expect
        .poll(() =>
          opened.db.query(
            {
              name: '',
              text: `select 1 as one from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
            },
            [],
          ),
        )
        .toHaveLength(1)
      return waitInside(tx)
    })
    await adding
    const [added] = await readNodeSecrets(opened.db)
    const [row] = await opened.db.query<{ at_ms: number }>(
      {
        name: '',
        text: `
        select floor(date_part('epoch', max(made_at)) * 1000)::bigint as at_ms
        from node_secrets`,
      },
      [],
    )
    expect(added?.number).toBe(2)
    expect(row?.at_ms).toBeGreaterThanOrEqual(releasedAtMs)
  })

  test('BUS-7: a secret has its age in a transaction that began before it', async () => {
    const ageMs = await opened.db.transaction({ name: 'test' }, async (tx) => {
      await readClock(tx, 'now()')
      await addNodeSecret(opened.db, randomBytes(32), 0)
      await waitInside(tx)
      const [newestSecret] = await readNodeSecrets(tx)
      return newestSecret?.ageMs
    })
    expect(ageMs).toBeGreaterThan(0)
  })
})
