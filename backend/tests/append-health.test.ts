// A database that answers and stores nothing: `/ready`, the metrics, the log and the doctor say so, and say when it is over.

import pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { parseConfig } from '../src/config.ts'
import { tryAppend } from '../src/db/queries/try-append.ts'
import { checkDatabase } from '../src/doctor/check-database.ts'
import { createAppendHealth } from '../src/log/append-health.ts'
import { until } from './bad-input/server-state.ts'
import { createTestDatabase } from './support/database.ts'
import { DATABASE_KINDS, openDatabase } from './support/open-database.ts'
import { startTestServer } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const BREAK = 'alter function append_events rename to append_events_away'

describe('an append that is tried', () => {
  test.each(DATABASE_KINDS)('OPS-24: works on %s and leaves no row in any table', async (kind) => {
    const { db, close } = await openDatabase(kind)
    undo.push(close)
    const countAll = async () => {
      const tables = [
        'users',
        'devices',
        'events',
        'streams',
        'device_log',
        'key_envelopes',
        'audit_log',
        'user_storage',
      ]
      const counts = tables.map((table) => `(select count(*) from ${table}) as ${table}`).join(', ')
      return (await db.query({ name: '', text: `select ${counts}` }, []))[0]
    }
    const before = await countAll()
    await tryAppend(db)
    expect(await countAll()).toEqual(before)
  })

  test('OPS-24: is shared by those who ask at once, spared after an append, and told once a change', async () => {
    let nowMs = 0
    let tried = 0
    let isBroken = false
    const changes: boolean[] = []
    const health = createAppendHealth({
      tryAppend: async () => {
        tried++
        if (isBroken) throw new Error('no room')
      },
      onChange: ({ isFailing }) => void changes.push(isFailing),
      now: () => nowMs,
    })
    const append = health.watch(
      async (error?: Error) => {
        if (error !== undefined) throw error
        return 'stored'
      },
      (error) => (error as Error).message === 'this row alone',
    )
    expect(await Promise.all([health.works(), health.works()])).toEqual([true, true])
    expect(tried).toBe(1)
    nowMs = 60_000
    await append()
    expect(await health.works()).toBe(true)
    expect(tried).toBe(1)
    await expect(append(new Error('this row alone'))).rejects.toThrow()
    expect(await health.works()).toBe(true)
    await expect(append(new Error('the disk'))).rejects.toThrow('the disk')
    expect(await health.works()).toBe(false)
    expect(tried).toBe(1)
    isBroken = true
    nowMs += 60_000
    expect(await health.works()).toBe(false)
    isBroken = false
    expect(await health.works()).toBe(false)
    nowMs += 60_000
    expect(await health.works()).toBe(true)
    expect(changes).toEqual([true, false])
  })
})

describe('a server whose database stores nothing', () => {
  test('OPS-24: is not ready, says so in metrics and to the doctor, and is ready again when it stores', async () => {
    const database = await createTestDatabase()
    undo.push(database.drop)
    const server = await startTestServer({ database: 'postgres', databaseUrl: database.url, flags: {} })
    undo.push(() => server.close())
    const sql = new pg.Client({ connectionString: database.url })
    await sql.connect()
    undo.push(() => sql.end())
    const ask = async (path: string): Promise<string> => (await fetch(`${server.app.adminUrl}${path}`)).text()
    const failing = /^valise_appends_failing 1$/m
    await until(async () => expect(await ask('/ready')).toContain('"problems":[]'))
    expect(await ask('/metrics')).toMatch(/^valise_appends_failing 0$/m)

    await sql.query(BREAK)
    await sql.query('alter function append_run rename to append_run_away')
    await until(async () => expect(await ask('/ready')).toContain('no event can be stored'))
    expect(await ask('/metrics')).toMatch(failing)
    const findings = await checkDatabase(parseConfig({ DATABASE_URL: database.url }, {}))
    expect(findings.map(({ text }) => text).join('\n')).toMatch(/no event can be stored: .*append_run/)

    await sql.query('alter function append_events_away rename to append_events')
    await sql.query('alter function append_run_away rename to append_run')
    await until(async () => expect(await ask('/ready')).toContain('"problems":[]'))
    expect(await ask('/metrics')).not.toMatch(failing)
  })
})
