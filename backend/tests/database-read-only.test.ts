// A primary that becomes read-only under connections that are in use, as after a failover behind one address: they are
// thrown away, and the node stores again as soon as there is a writable primary.

import pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { until } from './bad-input/server-state.ts'
import { createPatientPublisher, expectStoredOnce } from './database-trouble/patient-publisher.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { createTestDatabase } from './support/database.ts'
import { startTestServer } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const END_ALL = `
  select pg_terminate_backend(pid)
  from pg_stat_activity
  where datname = current_database() and pid <> pg_backend_pid()`

describe('a read-only database', () => {
  test('OPS-22: nothing is acknowledged, and everything is stored once when it takes writes again', async () => {
    const database = await createTestDatabase()
    undo.push(database.drop)
    const server = await startTestServer({ database: 'postgres', databaseUrl: database.url, flags: {} })
    undo.push(() => server.close())
    const name = new URL(database.url).pathname.slice(1)
    const sql = new pg.Client({ connectionString: database.url })
    await sql.connect()
    undo.push(() => sql.end())
    const account = await createAccount(server, { devices: 2 })
    const [writer, reader] = account.devices as [TestDevice, TestDevice]
    const publisher = await createPatientPublisher(server, writer)
    await publisher.publish(20)
    await publisher.untilAcknowledged()

    await sql.query(`alter database ${name} set default_transaction_read_only = on`)
    await sql.query(END_ALL)
    await publisher.publish(20)
    await publisher.session.until('word of it', () => publisher.unavailableCount > 0)
    expect(publisher.receiptsBySeq.size).toBe(20)

    await sql.query('set default_transaction_read_only = off')
    await sql.query(`alter database ${name} reset default_transaction_read_only`)
    await publisher.untilAcknowledged()
    await expectStoredOnce(server, [publisher], reader)
    publisher.leave()
  })

  test('OPS-22: connections that stay with a server become read-only are left, though all are in use', async () => {
    const database = await createTestDatabase()
    undo.push(database.drop)
    const server = await startTestServer({ database: 'postgres', databaseUrl: database.url, flags: {} })
    undo.push(() => server.close())
    const sql = new pg.Client({ connectionString: database.url })
    await sql.connect()
    undo.push(() => sql.end())
    const account = await createAccount(server, { devices: 2 })
    const [writer, reader] = account.devices as [TestDevice, TestDevice]
    const publisher = await createPatientPublisher(server, writer)
    await publisher.publish(20)
    await publisher.untilAcknowledged()
    const oldPids = await pidsOfNode(sql)
    expect(oldPids.length).toBeGreaterThan(0)

    // A write through an old connection fails as on a demoted server; a new connection is as good as ever.
    await sql.query(`
      create function refuse_as_standby() returns trigger language plpgsql as $$
      begin
        if pg_backend_pid() = any(array[${oldPids.join(',')}]) then
          raise exception 'cannot execute INSERT in a read-only transaction' using errcode = '25006';
        end if;
        return new;
      end $$`)
    await sql.query(
      'create trigger refuse_as_standby before insert on events for each row execute function refuse_as_standby()',
    )
    await publisher.publish(20)
    await publisher.untilAcknowledged()
    await until(async () => {
      const pids = await pidsOfNode(sql)
      await publisher.publish(1)
      await publisher.untilAcknowledged()
      expect(pids.filter((pid) => oldPids.includes(pid))).toEqual([])
    })
    await expectStoredOnce(server, [publisher], reader)
    publisher.leave()
  })
})

const pidsOfNode = async (sql: pg.Client): Promise<number[]> =>
  (
    await sql.query<{ pid: number }>(`
    select pid from pg_stat_activity where datname = current_database() and application_name = 'valise'`)
  ).rows.map(({ pid }) => pid)
