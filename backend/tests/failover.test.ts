// A real failover: a primary dies, its synchronous standby is promoted, and a node finds it, by a list of hosts or behind
// one address. What was acknowledged is there, and what was not is stored when it is sent again.

import { afterEach, describe, expect, test } from 'vitest'
import { provideHaproxy } from '../../scripts/haproxy.mjs'
import { providePostgresPair } from '../../scripts/postgres-pair.mjs'
import { until } from './bad-input/server-state.ts'
import {
  createPatientPublisher,
  expectStoredOnce,
  type PatientPublisher,
} from './database-trouble/patient-publisher.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { runSql } from './support/database.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

interface Scene {
  readonly server: TestServer
  readonly publisher: PatientPublisher
  readonly reader: TestDevice
}

async function startOn(databaseUrl: string): Promise<Scene> {
  const server = await startTestServer({ database: 'postgres', databaseUrl, flags: {} })
  undo.push(() => server.close())
  const account = await createAccount(server, { devices: 2 })
  const [writer, reader] = account.devices as [TestDevice, TestDevice]
  const publisher = await createPatientPublisher(server, writer)
  await publisher.publish(40)
  await publisher.untilAcknowledged()
  return { server, publisher, reader }
}

const readiness = async ({ app }: TestServer): Promise<number> => (await fetch(`${app.adminUrl}/ready`)).status

describe('a failover', () => {
  test('OPS-22: of several hosts the one that takes writes is used, before and after', async () => {
    const pair = await providePostgresPair()
    undo.push(pair.close)
    const { primary, standby } = pair
    // The standby is named first.
    const hosts = `127.0.0.1:${standby.port},127.0.0.1:${primary.port}`
    const url = primary.url.replace(`127.0.0.1:${primary.port}`, hosts)
    const { server, publisher, reader } = await startOn(`${url}?target_session_attrs=read-write`)

    await primary.close()
    await publisher.publish(40)
    await publisher.session.until('word of it', () => publisher.unavailableCount > 0)
    expect(await readiness(server)).toBe(503)
    standby.promote()
    await publisher.untilAcknowledged()
    await until(async () => expect(await readiness(server)).toBe(200))
    await expectStoredOnce(server, [publisher], reader)
    publisher.leave()
  })

  test('OPS-22: behind one address connections to the old primary are left, though it still answers', async () => {
    const pair = await providePostgresPair()
    undo.push(pair.close)
    const { primary, standby } = pair
    const haproxy = await provideHaproxy({ primary: primary.port, standby: standby.port })
    undo.push(haproxy.close)
    const { server, publisher, reader } = await startOn(primary.url.replace(`:${primary.port}/`, `:${haproxy.port}/`))

    // The old primary is fenced by an operator: it takes no writes, and its connections stay.
    await runSql(primary.url, `alter system set default_transaction_read_only = on`)
    await runSql(primary.url, 'select pg_reload_conf()')
    standby.promote()
    await haproxy.choose('standby')
    await publisher.publish(40)
    await publisher.untilAcknowledged()
    await until(async () => expect(await readiness(server)).toBe(200))
    await primary.close()
    await publisher.publish(10)
    await publisher.untilAcknowledged()
    await expectStoredOnce(server, [publisher], reader)
    publisher.leave()
  })
})
