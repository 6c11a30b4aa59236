// What an operator reads of a slow query: what it waited for, as PostgreSQL itself says while it runs. Real locks, real
// sleeps, a backend that is killed, a pool with one connection; and never a value.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openPostgres } from '../src/db/postgres.ts'
import { createQueryMonitor } from '../src/db/query-monitor.ts'
import { type BackendState, createWaitWatch, waitOf } from '../src/db/wait-watch.ts'
import { createTestDatabase } from './support/database.ts'
import { createCapturedParts, type OpenedDatabase, openDatabase, waitFor } from './support/open-database.ts'

const SLOW_QUERY_MS = 60
const PLANTED = 'a value nobody may see'
const sleep = { name: 'test_sleep', text: 'select pg_sleep($1), $2::text as planted' }
const update = { name: 'test_update', text: 'update held set text = $1 where id = 1' }
/** Streams its rows, so that no temporary file is written. */
const compute = { name: 'test_compute', text: 'select count(*) from (select generate_series(1, $1::bigint)) as s' }
const plain = (text: string) => ({ name: '', text })

interface SlowLine {
  readonly statement: string
  readonly operation: string
  readonly status: string
  readonly waitedFor: string
  readonly waitEvent?: string
  readonly durationMs: number
  readonly waitMs: number
  readonly rows: number
}

const slowLines = (logged: readonly string[]): SlowLine[] =>
  logged.map((line) => JSON.parse(line)).filter(({ event }) => event === 'db.query.slow')
const slowLineOf = (logged: readonly string[], statement: string): SlowLine | undefined =>
  slowLines(logged).find((line) => line.statement === statement)

describe('a slow query on PostgreSQL', () => {
  let opened: OpenedDatabase
  beforeEach(async () => {
    opened = await openDatabase('postgres', { slowQueryMs: SLOW_QUERY_MS, isMigrated: false })
    await opened.db.query(plain('create table held (id integer primary key, text text not null)'), [])
    await opened.db.query(plain(`insert into held values (1, 'free')`), [])
    opened.logged.length = 0
  })
  afterEach(async () => {
    expect(opened.logged.join('')).not.toContain(PLANTED)
    await opened.close()
  })

  const isWaiting = (condition: string) =>
    waitFor(
      `a query that waits: ${condition}`,
      () =>
        opened.db.query(
          plain(`
            select 1
            from pg_stat_activity
            where
              datname = current_database()
              and ${condition}
              and clock_timestamp() - query_start > interval '${10 * SLOW_QUERY_MS} ms'`),
          [],
        ),
      (rows) => rows.length > 0,
    )

  test('P7: one that waits for a row says so, in a transaction as outside', async () => {
    let isSecondDone = false
    await opened.db.transaction({ name: 'holder' }, async (tx) => {
      await tx.query(update, ['held'])
      const second = opened.db.query(update, [PLANTED]).then(() => {
        isSecondDone = true
      })
      void opened.db.transaction({ name: 'third' }, (other) => other.query(update, [PLANTED]))
      await isWaiting(`wait_event_type = 'Lock'`)
      expect(isSecondDone).toBe(false)
      void second
    })
    const lines = await waitFor(
      'both to be logged',
      async () => slowLines(opened.logged).filter(({ statement }) => statement === 'test_update'),
      (all) => all.length === 2,
    )
    for (const line of lines) {
      expect(line).toMatchObject({ operation: 'update', status: 'ok', waitedFor: 'lock' })
      expect(line.waitEvent).toMatch(/^Lock:(transactionid|tuple)$/)
    }
  })

  test('P7: one that sleeps waits for something else, and PostgreSQL has a name for it', async () => {
    await opened.db.query(sleep, [0.4, PLANTED])
    expect(slowLineOf(opened.logged, 'test_sleep')).toMatchObject({
      operation: 'select',
      status: 'ok',
      rows: 1,
      waitedFor: 'other',
      waitEvent: 'Timeout:PgSleep',
    })
  })

  test('P7: one that computes waits for nothing', async () => {
    await opened.db.query(compute, [6_000_000])
    const line = slowLineOf(opened.logged, 'test_compute')
    expect(line).toMatchObject({ waitedFor: 'nothing' })
    expect(line).not.toHaveProperty('waitEvent')
  })

  test('P7: one whose backend is killed is logged with what it was at', async () => {
    const running = expect(opened.db.query(sleep, [30, PLANTED])).rejects.toThrow()
    await isWaiting(`wait_event = 'PgSleep'`)
    await opened.db.query(
      plain(
        `select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`,
      ),
      [],
    )
    await running
    expect(slowLineOf(opened.logged, 'test_sleep')).toMatchObject({
      status: 'error',
      rows: 0,
      waitEvent: 'Timeout:PgSleep',
    })
  })

  test('P7: the looks count as queries, too, and leave one connection that goes with the database', async () => {
    const before = await opened.metrics.read('database_queries_total', { operation: 'select', status: 'ok' })
    await opened.db.query(sleep, [0.4, PLANTED])
    expect(await opened.metrics.read('database_queries_total', { operation: 'select', status: 'ok' })).toBeGreaterThan(
      before + 1,
    )
    const watchers = await opened.db.query(
      plain(`select 1 from pg_stat_activity where application_name = 'valise-watch' and datname = current_database()`),
      [],
    )
    expect(watchers).toHaveLength(1)
  })
})

describe('a slow query that had no connection', () => {
  test('P7: says that it waited for one; a transaction says it of its beginning', async () => {
    const { logged, parts } = createCapturedParts(SLOW_QUERY_MS)
    const database = await createTestDatabase()
    const db = await openPostgres({ ...parts, url: database.url, poolSize: 1 })
    await Promise.all([
      db.query(sleep, [0.3, PLANTED]),
      db.query({ name: 'test_one', text: 'select 1' }, []),
      db.transaction({ name: 'test' }, (tx) => tx.query({ name: 'test_two', text: 'select 2' }, [])),
    ])
    expect(slowLineOf(logged, 'test_one')).toMatchObject({ waitedFor: 'connection' })
    expect(slowLines(logged).find(({ operation }) => operation === 'transaction')).toMatchObject({
      waitedFor: 'connection',
    })
    expect(slowLineOf(logged, 'test_two')).toBeUndefined()
    await db.close()
    await database.drop()
  })

  test('P7: and none to be had in time counts as a time-out, of a query and of a transaction', async () => {
    const { logged, metrics, parts } = createCapturedParts(SLOW_QUERY_MS)
    const database = await createTestDatabase()
    const db = await openPostgres({ ...parts, url: database.url, poolSize: 1 })
    const outcomes = await Promise.allSettled([
      db.query(sleep, [6, PLANTED]),
      db.query({ name: 'test_one', text: 'select 1' }, []),
      db.transaction({ name: 'test' }, (tx) => tx.query({ name: 'test_two', text: 'select 2' }, [])),
    ])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected'])
    for (const operation of ['select', 'transaction']) {
      expect(await metrics.read('database_queries_total', { operation, status: 'timeout' })).toBe(1)
      expect(await metrics.read('database_query_duration_ms', { operation, status: 'timeout' })).toBe(1)
    }
    expect(slowLineOf(logged, 'test_one')).toMatchObject({ status: 'timeout', rows: 0 })
    await db.close()
    await database.drop()
  })
})

describe('what a wait is called', () => {
  const state = (waitType: string | null, waitEvent: string | null): BackendState => ({ pid: 1, waitType, waitEvent })

  test.each([
    ['Lock', 'transactionid', 'lock'],
    ['BufferPin', 'BufferPin', 'lock'],
    ['LWLock', 'BufferMapping', 'lock'],
    ['LWLock', 'WALWrite', 'disk'],
    ['IO', 'WALSync', 'disk'],
    ['IO', 'DataFileRead', 'disk'],
    ['IPC', 'SyncRep', 'other'],
    ['Client', 'ClientWrite', 'other'],
  ] as const)('P7: %s %s is called %s', (type, event, kind) => {
    expect(waitOf(state(type, event))).toEqual({ kind, event: `${type}:${event}` })
  })

  test('P7: no event at all is nothing', () => {
    expect(waitOf(state(null, null))).toEqual({ kind: 'nothing' })
  })

  test('P7: the disk that this process writes is told by its own clock', async () => {
    const { logged, parts } = createCapturedParts(0)
    const monitor = createQueryMonitor(parts)
    await monitor({ name: 'test_one', text: 'select 1' }, async (note) => {
      note.diskMs = 1_000_000
      return []
    })
    expect(slowLineOf(logged, 'test_one')).toMatchObject({ waitedFor: 'disk' })
  })
})

describe('looking at slow queries', () => {
  test('P5: asks for a bounded number at once, one after another, and never for those that are over', async () => {
    const asked: (readonly number[])[] = []
    const answers: (() => void)[] = []
    const watch = createWaitWatch({
      slowQueryMs: 20,
      readStates: (pids) => {
        asked.push(pids)
        return new Promise((resolve) =>
          answers.push(() => resolve(pids.map((pid) => ({ pid, waitType: 'IO', waitEvent: 'WALSync' })))),
        )
      },
    })
    const ends = Array.from({ length: 50 }, (_, index) => watch.begin(index + 1))
    expect(watch.begin(undefined)()).toEqual({ kind: 'unknown' })
    await expect.poll(() => asked.length, { timeout: 20_000 }).toBe(1)
    expect(asked[0]).toHaveLength(32)
    // It ends while it is asked for: what comes back belongs to nobody.
    expect(ends[0]?.()).toEqual({ kind: 'unknown' })
    answers[0]?.()
    await expect.poll(() => asked.length, { timeout: 20_000 }).toBe(2)
    expect(asked[1]).not.toContain(1)
    expect(ends[1]?.()).toEqual({ kind: 'disk', event: 'IO:WALSync' })
    expect(ends[49]?.()).toEqual({ kind: 'unknown' })
    watch.close()
  })
})
