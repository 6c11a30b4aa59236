// What an operator sees of the queries: counts, durations, slow ones in the log, and never a value. And what a server
// must be set to before it is used.

import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openPostgres, type Queryable, type Statement } from '../src/db/postgres.ts'
import { saveCursor } from '../src/db/queries/devices.ts'
import { appendRuns } from '../src/db/queries/events.ts'
import { findUser } from '../src/db/queries/users.ts'
import { checkServer } from '../src/db/startup-checks.ts'
import { operationOf, operationOfText } from '../src/db/statement.ts'
import { createTestDatabase } from './support/database.ts'
import {
  addDevice,
  continueRun,
  createCapturedParts,
  DATABASE_KINDS,
  makeEvents,
  type OpenedDatabase,
  openDatabase,
  waitFor,
} from './support/open-database.ts'

const SLOW_QUERY_MS = 60
const PLANTED = 'a value nobody may see'
const sleep = { name: 'test_sleep', text: 'select pg_sleep($1), $2::text as planted' }
const fail = { name: 'test_fail', text: 'select ($1::text)::integer as number' }
const count = { operation: 'select' }

describe.each(DATABASE_KINDS)('queries seen from outside on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind, { slowQueryMs: SLOW_QUERY_MS })
  })
  afterAll(() => opened.close())

  const readQueries = (labels: Record<string, string>) => opened.metrics.read('database_queries_total', labels)

  test('P7: every query counts and is timed by operation and status, those of a transaction too', async () => {
    // Nothing is slow here: looking at slow queries would count, too.
    const calm = kind === 'pglite' ? opened : await openDatabase(kind, { slowQueryMs: 600_000 })
    const readQueries = (labels: Record<string, string>) => calm.metrics.read('database_queries_total', labels)
    const device = await addDevice(calm.db)
    const before = {
      select: await readQueries({ operation: 'select', status: 'ok' }),
      insert: await readQueries({ operation: 'insert', status: 'ok' }),
      update: await readQueries({ operation: 'update', status: 'ok' }),
      transaction: await readQueries({ operation: 'transaction', status: 'ok' }),
      timed: await calm.metrics.read('database_query_duration_ms'),
    }
    await findUser(calm.db, device.userId)
    await appendRuns(calm.db, [continueRun(device, makeEvents(1))])
    await calm.db.transaction({ name: 'test' }, async (tx) => {
      await saveCursor(tx, device.userId, device.deviceId, 1)
      await findUser(tx, device.userId)
    })
    expect({
      select: await readQueries({ operation: 'select', status: 'ok' }),
      insert: await readQueries({ operation: 'insert', status: 'ok' }),
      update: await readQueries({ operation: 'update', status: 'ok' }),
      transaction: await readQueries({ operation: 'transaction', status: 'ok' }),
      timed: await calm.metrics.read('database_query_duration_ms'),
    }).toEqual({
      select: before.select + 2,
      insert: before.insert + 1,
      update: before.update + 1,
      transaction: before.transaction + 2,
      timed: before.timed + 6,
    })
    if (calm !== opened) await calm.close()
  })

  test('P7: a failed query counts as an error, timed, and the connection goes on', async () => {
    const before = await readQueries({ operation: 'select', status: 'error' })
    await expect(opened.db.query(fail, [PLANTED])).rejects.toThrow()
    await expect(
      opened.db.transaction({ name: 'test' }, (tx) => tx.query(fail, [PLANTED]).catch(() => [])),
    ).rejects.toThrow('invalid input syntax')
    expect(await readQueries({ operation: 'select', status: 'error' })).toBe(before + 2)
    expect(await opened.metrics.read('database_query_duration_ms', { status: 'error' })).toBe(before + 2)
    expect(await readQueries({ operation: 'other', status: 'error' })).toBe(0)
    expect(await opened.db.query({ name: '', text: 'select 1 as one' }, [])).toEqual([{ one: 1 }])
  })

  test('P7: a slow query is counted and logged with its name, never with a value', async () => {
    const before = await opened.metrics.read('database_slow_queries_total')
    opened.logged.length = 0
    await opened.db.query(sleep, [SLOW_QUERY_MS / 1000 + 0.02, PLANTED])
    await opened.db.transaction({ name: 'test' }, (tx) => tx.query(sleep, [SLOW_QUERY_MS / 1000 + 0.02, PLANTED]))
    expect(await opened.metrics.read('database_slow_queries_total')).toBe(before + 2)
    const lines = opened.logged.map((line) => JSON.parse(line)).filter(({ event }) => event === 'db.query.slow')
    expect(lines).toHaveLength(2)
    for (const line of lines) {
      expect(line).toMatchObject({ level: 'warn', operation: 'select', statement: 'test_sleep', status: 'ok', rows: 1 })
      expect(line.durationMs).toBeGreaterThanOrEqual(SLOW_QUERY_MS)
    }
    expect(opened.logged.join('')).not.toContain(PLANTED)
    expect(opened.logged.join('')).not.toContain('pg_sleep')
  })

  test('P7: an error of the database carries no parameter that a log could show', async () => {
    const error: unknown = await opened.db
      .query({ name: '', text: 'select 1 / $1::integer' }, [0])
      .catch((thrown) => thrown)
    expect(error).toBeInstanceOf(Error)
    expect(error).not.toHaveProperty('params')
    expect(error).toHaveProperty('code', '22012')
  })
})

describe('a PostgreSQL under stress', () => {
  test('P5: a statement past its time ends with an error, and its connection is used again', async () => {
    const opened = await openDatabase('postgres', { statementTimeoutMs: 100, isMigrated: false })
    await expect(opened.db.query(sleep, [10, PLANTED])).rejects.toMatchObject({ code: '57014' })
    expect(await opened.metrics.read('database_queries_total', { ...count, status: 'timeout' })).toBe(1)
    expect(await opened.metrics.read('database_query_duration_ms', { ...count, status: 'timeout' })).toBe(1)
    const patient = opened.db.transaction({ name: 'test', timeoutMs: 5000 }, (tx) => tx.query(sleep, [0.2, PLANTED]))
    expect(await patient).toHaveLength(1)
    await opened.close()
  })

  test('P7: a query whose backend is killed counts as an error, and the next one gets a new connection', async () => {
    const opened = await openDatabase('postgres', { isMigrated: false })
    const running = opened.db.query(sleep, [30, PLANTED])
    const killed = expect(running).rejects.toThrow()
    const kill = {
      name: '',
      text: `select pg_terminate_backend(pid) as is_killed from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`,
    }
    await waitFor(
      'a backend to kill',
      () => opened.db.query(kill, []),
      (rows) => rows.length === 1,
    )
    await killed
    expect(await opened.metrics.read('database_queries_total', { ...count, status: 'error' })).toBe(1)
    expect(await opened.db.query({ name: '', text: 'select 1 as one' }, [])).toEqual([{ one: 1 }])
    await opened.close()
  })

  test('P7: a database that is closed has let go of its connections, and reports none of them as lost', async () => {
    const { logged, parts } = createCapturedParts()
    const database = await createTestDatabase()
    const db = await openPostgres({ ...parts, url: database.url, poolSize: 4 })
    const queries = [1, 2, 3, 4].map(() => db.query(sleep, [0.05, PLANTED]))
    await Promise.all([...queries, db.close()])
    await database.drop()
    expect(logged).toEqual([])
    await expect(db.query(sleep, [0, PLANTED])).rejects.toThrow()
  })

  test('P5: a transaction that its own work gives up rolls back and keeps its connection', async () => {
    const { parts } = createCapturedParts()
    const database = await createTestDatabase()
    const db = await openPostgres({ ...parts, url: database.url, poolSize: 1 })
    const readBackend = { name: '', text: 'select pg_backend_pid() as pid' }
    const before = await db.query(readBackend, [])
    const givenUp = db.transaction({ name: 'test' }, async (tx) => {
      await tx.query({ name: '', text: 'create table given_up (a integer)' }, [])
      throw new RangeError('given up')
    })
    await expect(givenUp).rejects.toThrow('given up')
    expect(await db.query(readBackend, [])).toEqual(before)
    const left = { name: '', text: `select to_regclass('given_up') is null as is_gone` }
    expect(await db.query(left, [])).toEqual([{ is_gone: true }])
    await db.close()
    await database.drop()
  })
})

describe('what PostgreSQL must be set to', () => {
  const withSetting = async (setting: string, use: (url: string) => Promise<void>): Promise<void> => {
    const database = await createTestDatabase()
    const client = new pg.Client({ connectionString: database.url })
    await client.connect()
    await client.query(`alter database ${new URL(database.url).pathname.slice(1)} set ${setting}`)
    await client.end()
    await use(database.url)
    await database.drop()
  }

  test('P3: a database with synchronous_commit off is refused, with the reason', () =>
    withSetting('synchronous_commit = off', async (url) => {
      const opening = openPostgres({ ...createCapturedParts().parts, url, poolSize: 2 })
      await expect(opening).rejects.toThrow(/synchronous_commit off.*acknowledged before it is on disk/)
      await expect(opening).rejects.toHaveProperty('name', 'DatabaseRefusedError')
    }))

  test('P3: synchronous_commit local is durable and accepted', () =>
    withSetting('synchronous_commit = local', async (url) => {
      const db = await openPostgres({ ...createCapturedParts().parts, url, poolSize: 2 })
      await db.close()
    }))

  test('P3: a new connection notices when the setting was turned off meanwhile', async () => {
    const opened = await openDatabase('postgres', { isMigrated: false })
    const name = new URL(opened.url).pathname.slice(1)
    await opened.db.query({ name: '', text: `alter database ${name} set synchronous_commit = off` }, [])
    // Two connections stand since the start.
    const three = [0.05, 0.05, 0.05].map((seconds) => opened.db.query(sleep, [seconds, PLANTED]))
    const outcomes = await Promise.allSettled(three)
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
    expect(refused).toMatchObject([{ reason: { name: 'DatabaseRefusedError' } }])
    await opened.close()
  })

  /** A connection to a server whose settings are told otherwise: a function of its own goes before PostgreSQL's. */
  const withTold = async (setting: string, value: string, use: (told: Queryable) => Promise<void>): Promise<void> => {
    const database = await createTestDatabase()
    const client = new pg.Client({ connectionString: database.url })
    await client.connect()
    await client.query(`
      create schema told;
      create function told.current_setting(name text) returns text language sql as $$
        select case name when '${setting}' then '${value}' else pg_catalog.current_setting(name) end
      $$;
      set search_path = told, pg_catalog, public`)
    await use({
      query: async <Row extends object>({ text }: Statement, values: readonly unknown[]) =>
        (await client.query<Row>(text, [...values])).rows,
    })
    await client.end()
    await database.drop()
  }

  test('P3: a version that is too old is refused, with the one that is needed', () =>
    withTold('server_version_num', '140019', async (told) => {
      const checking = checkServer(told, createCapturedParts().parts.log)
      await expect(checking).rejects.toThrow('PostgreSQL 14 is too old: version 15 or newer is needed')
      await expect(checking).rejects.toHaveProperty('name', 'DatabaseRefusedError')
    }))

  test.each(['fsync', 'full_page_writes'])('P3: %s off is warned of, with what it costs', (setting) =>
    withTold(setting, 'off', async (told) => {
      const { logged, parts } = createCapturedParts()
      await checkServer(told, parts.log)
      const lines = logged.map((line) => JSON.parse(line))
      expect(lines.filter(({ event }) => event === 'db.settings.weak')).toMatchObject([
        { level: 'warn', setting, msg: expect.stringContaining(`${setting} off: a power cut can`) },
      ])
    }),
  )

  test('P3: a database that is out of reach rejects the start instead of waiting for ever', async () => {
    const opening = openPostgres({
      ...createCapturedParts().parts,
      url: 'postgres://nobody@127.0.0.1:1/none',
      poolSize: 2,
    })
    await expect(opening).rejects.toThrow('ECONNREFUSED')
  })
})

describe('the operation of a statement', () => {
  test.each([
    ['select 1', 'select'],
    ['  -- why\n  SELECT u.a from users as u for update', 'select'],
    ["values ('insert into x')", 'select'],
    ['insert into a values (1) on conflict (b) do update set c = 1', 'insert'],
    ['update a set b = 1', 'update'],
    ['delete from a', 'delete'],
    ['with a as (select 1) select * from a', 'select'],
    ['with a as (select 1 from b for no key update of b) select * from a', 'select'],
    ['with a as (insert into b values (1) returning c) select c from a', 'insert'],
    ['with a as (select 1 from (select 2) as x) update b set c = 1 from a', 'update'],
    ['with a as (delete from b where c = 1 returning d) insert into e select d from a', 'insert'],
    ["with a as (select 'update b set c') select 1", 'select'],
    ['begin isolation level read committed', 'transaction'],
    ['commit', 'transaction'],
    ['rollback', 'transaction'],
    ['create table a (b integer)', 'other'],
    ['', 'other'],
  ] as const)('P7: %j counts as %s', (text, operation) => {
    expect(operationOfText(text)).toBe(operation)
  })

  test('P7: a function that writes counts as what its statement says', () => {
    expect(operationOf({ name: 'a', text: 'select store()', operation: 'insert' })).toBe('insert')
  })
})
