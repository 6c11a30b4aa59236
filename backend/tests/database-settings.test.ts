// A database or role that is set otherwise than the code expects: every connection sets what statements and rows depend on.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { verifyAudit } from '../src/audit/verify-audit.ts'
import { runMigrations } from '../src/db/migrate.ts'
import { type Database, openPostgres } from '../src/db/postgres.ts'
import { appendAudit, readAuditPage } from '../src/db/queries/audit.ts'
import { appendRuns, readEventsAfter } from '../src/db/queries/events.ts'
import { readLogEpoch } from '../src/db/queries/server-state.ts'
import { DatabaseRefusedError } from '../src/db/startup-checks.ts'
import { createTestDatabase, runSql, type TestDatabase } from './support/database.ts'
import { addDevice, continueRun, createCapturedParts, makeEvents } from './support/open-database.ts'

const HOSTILE = [
  ['bytea_output', 'escape'],
  ['client_encoding', 'LATIN1'],
  ['DateStyle', 'SQL, DMY'],
  ['IntervalStyle', 'iso_8601'],
  ['TimeZone', 'Asia/Kathmandu'],
  ['extra_float_digits', '-15'],
  ['standard_conforming_strings', 'off'],
  ['array_nulls', 'off'],
  ['transform_null_equals', 'on'],
  ['lock_timeout', '50ms'],
  ['statement_timeout', '50ms'],
  ['idle_session_timeout', '50ms'],
  ['idle_in_transaction_session_timeout', '50ms'],
  ['default_transaction_isolation', 'serializable'],
  ['default_transaction_deferrable', 'on'],
] as const

const readSetting = { name: '', text: 'select current_setting($1) as value' }

let database: TestDatabase
let name = ''
const opened = new Set<Database>()

const open = async (): Promise<Database> => {
  const db = await openPostgres({ ...createCapturedParts().parts, url: database.url, poolSize: 2 })
  opened.add(db)
  return db
}

/** What breaks first when a value is read or a statement runs otherwise than it was written for. */
async function expectAllWorks(db: Database): Promise<void> {
  const device = await addDevice(db)
  const { userId, deviceId } = device
  const events = makeEvents(3)
  const verdicts = await appendRuns(db, [continueRun(device, events)], { maxStreams: 10, maxUserBytes: undefined })
  expect(verdicts.flat()).toHaveLength(3)
  const page = await readEventsAfter(db, userId, 0, { maxEvents: 10, maxBytes: 1_000_000, excludeDeviceId: undefined })
  expect(page.items.map(({ wire }) => wire && Buffer.from(wire))).toEqual(events.map(({ wire }) => Buffer.from(wire)))
  expect(page.items.every(({ deviceId: from }) => Buffer.from(from).equals(Buffer.from(deviceId)))).toBe(true)
  await db.transaction({ name: 'test' }, (tx) =>
    appendAudit(tx, userId, [{ kind: 'user.register', detail: { 'a\\b': 'ä' } }]),
  )
  for await (const report of verifyAudit((after, limit) => readAuditPage(db, after, limit))) {
    expect(report.fault).toBeUndefined()
  }
  const epoch = await readLogEpoch(db)
  expect(epoch.id).toHaveLength(16)
}

beforeAll(async () => {
  database = await createTestDatabase()
  name = new URL(database.url).pathname.slice(1)
  await runMigrations(await open())
})
afterAll(async () => {
  for (const db of opened) await db.close()
  await database.drop()
})

describe('hostile settings', () => {
  test.each(HOSTILE)('OPS-21: %s = %s for the database or the role changes nothing', async (setting, value) => {
    for (const target of [`database ${name}`, `role current_user in database ${name}`]) {
      await runSql(database.url, `alter ${target} set ${setting} = '${value}'`)
      const db = await open()
      await expectAllWorks(db)
      const [now] = await db.query<{ value: string }>(readSetting, [setting])
      expect(now?.value).not.toBe(value)
      opened.delete(db)
      await db.close()
      // The statement that resets it runs under it.
      await runSql(database.url, `set statement_timeout = 0; set lock_timeout = 0; alter ${target} reset ${setting}`)
    }
  })

  test('OPS-21: the schema of the first connection serves all, and temporary tables hide none of it', async () => {
    await runSql(database.url, 'create schema other')
    await runSql(database.url, `alter database ${name} set search_path = public, other`)
    const db = await open()
    await expectAllWorks(db)
    await runSql(database.url, `alter database ${name} set search_path = pg_temp, other, public`)
    await Promise.all(
      [1, 2, 3].map(() =>
        db.query({ name: '', text: 'select pg_sleep(0.05), count(*) as count from public.users' }, []),
      ),
    )
    const [path] = await db.query<{ path: string }>(
      { name: '', text: `select current_setting('search_path') as path` },
      [],
    )
    expect(path?.path).toBe('public, pg_temp')
    await runSql(database.url, `alter database ${name} reset search_path`)
  })

  test('OPS-21: a search_path without a schema is refused in words, and so are unchecked foreign keys', async () => {
    await runSql(database.url, `alter database ${name} set search_path = nowhere`)
    await expect(open()).rejects.toThrow(DatabaseRefusedError)
    await expect(open()).rejects.toThrow(/search_path/)
    await runSql(database.url, `alter database ${name} reset search_path`)
    await runSql(database.url, `alter database ${name} set session_replication_role = replica`)
    await expect(open()).rejects.toThrow(/session_replication_role/)
    await runSql(database.url, `alter database ${name} reset session_replication_role`)
    await expectAllWorks(await open())
  })
})
