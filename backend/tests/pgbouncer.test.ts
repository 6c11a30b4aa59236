// A real PgBouncer between the node and PostgreSQL: session mode works with all its time-outs, and the modes that give
// each transaction another backend are refused by name.

import { afterEach, describe, expect, test } from 'vitest'
import { providePgbouncer } from '../../scripts/pgbouncer.mjs'
import { type Database, openPostgres } from '../src/db/postgres.ts'
import { DatabaseRefusedError } from '../src/db/startup-checks.ts'
import { until } from './bad-input/server-state.ts'
import { createPatientPublisher, expectStoredOnce } from './database-trouble/patient-publisher.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { createTestDatabase } from './support/database.ts'
import { createCapturedParts } from './support/open-database.ts'
import { startTestServer } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function createPooled(poolMode: 'session' | 'transaction' | 'statement'): Promise<string> {
  const database = await createTestDatabase()
  undo.push(database.drop)
  const bouncer = await providePgbouncer(database.url, poolMode)
  undo.push(bouncer.close)
  return bouncer.urlOf(database.url)
}

describe('behind PgBouncer', () => {
  test('OPS-23: in session mode the time-outs hold, of statements and of idle transactions', async () => {
    const url = await createPooled('session')
    const { parts } = createCapturedParts()
    const db: Database = await openPostgres({ ...parts, url, poolSize: 2, statementTimeoutMs: 300 })
    undo.push(db.close)
    await expect(db.query({ name: '', text: 'select pg_sleep(5)' }, [])).rejects.toMatchObject({ code: '57014' })
    const settings = `
      select
        current_setting('idle_in_transaction_session_timeout') as idle,
        current_setting('bytea_output') as form`
    const both = await Promise.all([1, 2].map(() => db.query({ name: '', text: `${settings}, pg_sleep(0.1)` }, [])))
    for (const [row] of both) expect(row).toMatchObject({ idle: '10s', form: 'hex' })
  })

  test('OPS-23: in session mode a server is ready and stores', async () => {
    const url = await createPooled('session')
    const server = await startTestServer({ database: 'postgres', databaseUrl: url, flags: {} })
    undo.push(() => server.close())
    const account = await createAccount(server, { devices: 2 })
    const [writer, reader] = account.devices as [TestDevice, TestDevice]
    const publisher = await createPatientPublisher(server, writer)
    await publisher.publish(50)
    await publisher.untilAcknowledged()
    await until(async () => expect((await fetch(`${server.app.adminUrl}/ready`)).status).toBe(200))
    await expectStoredOnce(server, [publisher], reader)
    publisher.leave()
  })

  test.each(['transaction', 'statement'] as const)('OPS-23: %s mode is refused at the start, by name', async (mode) => {
    const url = await createPooled(mode)
    const opening = openPostgres({ ...createCapturedParts().parts, url, poolSize: 2 })
    await expect(opening).rejects.toThrow(DatabaseRefusedError)
    await expect(opening).rejects.toThrow(/pool_mode = session/)
  })
})
