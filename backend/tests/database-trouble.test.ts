// P3 and P4 when the database is in trouble: out of reach, silent, answering into the void, killed. Nothing that is
// not stored is acknowledged, everybody is told in time, nothing acknowledged is lost, and the same bytes sent again are
// stored once.

import pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { providePostgres } from '../../scripts/postgres.mjs'
import {
  appendEntry,
  authorOf,
  createKeys,
  offerEntry,
  openRegistration,
  register,
  sealAdd,
  sealGenesis,
} from './bad-input/entries.ts'
import { indexes } from './bad-input/handshake-steps.ts'
import { until } from './bad-input/server-state.ts'
import { type DatabaseProxy, startDatabaseProxy } from './database-trouble/database-proxy.ts'
import {
  createPatientPublisher,
  expectStoredOnce,
  type PatientPublisher,
} from './database-trouble/patient-publisher.ts'
import { createAccount, type TestAccount, type TestDevice } from './support/account.ts'
import { createTestDatabase } from './support/database.ts'
import { startTestServer, type TestServer, type TestServerOptions } from './support/server.ts'
import { countWaitingForNumbers, readSessionNumbers, untilSwept } from './support/session-numbers.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

interface Scene {
  readonly server: TestServer
  readonly proxy: DatabaseProxy
  readonly account: TestAccount
  readonly publisher: PatientPublisher
  readonly reader: TestDevice
  /** Past the proxy, for what only the database knows. */
  readonly sql: pg.Client
  countEvents(): Promise<number>
}

async function createScene(flags: TestServerOptions['flags'] = {}): Promise<Scene> {
  const database = await createTestDatabase()
  undo.push(database.drop)
  const proxy = await startDatabaseProxy(database.url)
  undo.push(proxy.close)
  const server = await startTestServer({ database: 'postgres', databaseUrl: proxy.url, flags })
  undo.push(async () => {
    proxy.pass()
    await server.close()
  })
  const sql = new pg.Client({ connectionString: database.url })
  await sql.connect()
  undo.push(() => sql.end())
  const account = await createAccount(server, { devices: 2 })
  const [manager, reader] = account.devices as [TestDevice, TestDevice]
  const publisher = await createPatientPublisher(server, manager)
  const countEvents = async (): Promise<number> =>
    Number((await sql.query<{ count: string }>('select count(*) from events')).rows[0]?.count)
  return { server, proxy, account, publisher, reader, sql, countEvents }
}

const isLive = async ({ app }: TestServer): Promise<boolean> => (await fetch(`${app.adminUrl}/live`)).status === 200

async function readiness({ app }: TestServer): Promise<{ status: number; problems: string[] }> {
  const response = await fetch(`${app.adminUrl}/ready`)
  const { problems } = (await response.json()) as { problems: string[] }
  return { status: response.status, problems }
}

describe('P3: PostgreSQL is out of reach', () => {
  test('P3: nothing is acknowledged, everybody is told, and the same bytes are stored once when it is back', async () => {
    const { server, proxy, account, publisher, reader, countEvents } = await createScene()
    const { session } = publisher
    await publisher.publish(30)
    await publisher.untilAcknowledged()
    proxy.refuse()
    await publisher.publish(70)
    await session.until('word of it', () => publisher.unavailableCount > 0)
    expect(session.messages.find(({ type }) => type === 'unavailable')).toEqual({
      type: 'unavailable',
      retry_after_ms: 1000,
    })
    expect(publisher.receiptsBySeq.size).toBe(30)
    expect(await countEvents()).toBe(30)
    expect(await isLive(server)).toBe(true)
    expect(await readiness(server)).toEqual({ status: 503, problems: ['database: out of reach'] })

    // The session stays, and each request is told on its own.
    const unavailable = { type: 'error', code: 'unavailable', retry_after_ms: 1000 }
    const add = await sealAdd(account, authorOf(publisher.device), await createKeys('member'))
    expect(await offerEntry(session, add)).toMatchObject(unavailable)
    const log = await session.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })
    expect(log).toMatchObject(unavailable)
    await expect(reader.connect(server)).rejects.toThrow('1013')
    const keys = await createKeys('manager')
    const genesis = await sealGenesis(keys)
    const registration = await openRegistration(server, keys)
    expect(await register(registration, genesis)).toEqual(unavailable)
    const mailbox = `${server.url.replace('ws', 'http')}/v1/mailboxes/${'0'.repeat(32)}/0`
    expect((await fetch(mailbox, { method: 'PUT', body: 'x' })).status).toBe(503)

    proxy.pass()
    await publisher.untilAcknowledged()
    expect(session.closeFrame).toBeUndefined()
    await until(async () => expect((await readiness(server)).status).toBe(200))
    expect((await register(registration, genesis)).type).toBe('registered')
    await appendEntry(account, session, add)
    expect(await countEvents()).toBe(100)
    await expectStoredOnce(server, [publisher], reader)
    registration.drop()
  })

  test('SES-3: a number whose answer is lost with the connection ends no session that lives', async () => {
    const { server, proxy, publisher, reader, sql } = await createScene()
    const before = await readSessionNumbers(sql, publisher.device)
    await sql.query('begin')
    await sql.query('select 1 from devices for update')
    const dying = publisher.device.connect(server).catch((error: Error) => error)
    await until(async () => expect(await countWaitingForNumbers(sql)).toBe(1))
    proxy.holdAnswers()
    await sql.query('commit')
    await until(async () => expect((await readSessionNumbers(sql, publisher.device)).given).toBe(before.given + 1))
    proxy.cut()
    expect(await dying).toMatchObject({ message: expect.stringContaining('1013') })
    proxy.pass()
    await untilSwept(server, sql, reader)
    await publisher.publish(10)
    await publisher.untilAcknowledged()
    expect(publisher.session.closeFrame).toBeUndefined()
    expect((await readSessionNumbers(sql, publisher.device)).begun).toBe(before.given)
  })

  test('ORD-5: a replay that breaks off goes on by itself', async () => {
    const { server, proxy, publisher, reader } = await createScene()
    await publisher.publish(100)
    await publisher.untilAcknowledged()
    const session = await reader.connect(server)
    proxy.refuse()
    session.send({ type: 'resume', cursor: 40, log_epoch: null }, { type: 'ping', id: 1 })
    await session.until('the pong', () => session.messages.some(({ type }) => type === 'pong'))
    await until(async () =>
      expect(await server.app.metrics.read('database_queries_total', { status: 'error' })).toBeGreaterThan(0),
    )
    expect(session.events).toEqual([])
    proxy.pass()
    await session.until('the replay', () => session.isCaughtUp)
    expect(session.events.map(({ userSeq }) => userSeq)).toEqual(indexes(60).map((index) => index + 41))
    session.drop()
  })

  test('SES-5: a node stops, and does not start, while it is away', async () => {
    const { server, proxy, publisher } = await createScene()
    proxy.refuse()
    await publisher.publish(5)
    await publisher.session.until('word of it', () => publisher.unavailableCount > 0)
    await server.stop()
    expect((await publisher.session.closed).code).toBe(1012)
    await expect(server.start()).rejects.toThrow()
    proxy.pass()
    await server.start()
    await publisher.untilAcknowledged()
    expect([...publisher.receiptsBySeq.keys()]).toEqual([1, 2, 3, 4, 5])
  })
})

describe('P3: PostgreSQL is silent', () => {
  test('P3: nothing is acknowledged, the node is not ready but lives, and all of it is stored when it speaks again', async () => {
    const { server, proxy, publisher, reader, countEvents } = await createScene({ VALISE_HANDSHAKE_TIMEOUT_MS: '500' })
    await publisher.publish(10)
    await publisher.untilAcknowledged()
    proxy.holdAll()
    await publisher.publish(40)
    const late = reader.connect(server)
    await expect(late).rejects.toThrow('4408')
    expect(await isLive(server)).toBe(true)
    const { status, problems } = await readiness(server)
    expect(status).toBe(503)
    expect(problems.join()).toMatch(/no answer/)
    publisher.session.send({ type: 'ping', id: 1 })
    await publisher.session.until('the pong', () => publisher.session.messages.some(({ type }) => type === 'pong'))
    expect(publisher.receiptsBySeq.size).toBe(10)
    expect(await countEvents()).toBe(10)
    proxy.pass()
    await publisher.session.until('receipts', () => publisher.receiptsBySeq.size === 50)
    await expectStoredOnce(server, [publisher], reader)
  })

  test('P4: committed, and the answer lost: told so, sent again, found, delivered once', async () => {
    const { server, proxy, publisher, reader, countEvents } = await createScene()
    const session = await reader.connect(server, { cursor: 0 })
    await session.until('the replay', () => session.isCaughtUp)
    proxy.holdAnswers()
    await publisher.publish(1)
    await until(async () => expect(await countEvents()).toBe(1))
    expect(publisher.receiptsBySeq.size).toBe(0)
    proxy.cut()
    await publisher.session.until('word of it', () => publisher.unavailableCount > 0)
    expect(publisher.receiptsBySeq.size).toBe(0)
    proxy.pass()
    await publisher.untilAcknowledged()
    expect(publisher.receiptsBySeq.get(1)).toEqual([[1, 1, 1, expect.any(Number), true]])
    await session.until('the event', () => session.events.length > 0)
    await publisher.publish(1)
    await publisher.untilAcknowledged()
    await session.until('the next event', () => session.events.length > 1)
    expect(session.events.map(({ userSeq }) => userSeq)).toEqual([1, 2])
    session.drop()
    expect(await countEvents()).toBe(2)
  })
})

describe('P3: PostgreSQL refuses to store', () => {
  const refuseEvent = (sql: pg.Client, eventId: Uint8Array): Promise<unknown> =>
    sql.query(`
      create function refuse_event() returns trigger language plpgsql as $$
      begin
        raise exception 'no' using errcode = '23514';
      end $$;
      create trigger refuse_event before insert on events for each row
        when (new.event_id = '\\x${Buffer.from(eventId).toString('hex')}')
        execute function refuse_event()`)

  test('ORD-6: a row that it refuses fails alone, and a tombstone takes its place', async () => {
    const { publisher, reader, server, sql } = await createScene()
    const { device, session } = publisher
    const before = await device.sealMany('notes', 4)
    const poison = await device.sealAside('notes')
    await refuseEvent(sql, poison.eventId)
    session.publish([...before, poison].map(({ wire }) => wire))
    await session.until('all answers', () => session.receipts.length + session.refusals.length === 5)
    expect(session.refusals).toEqual([{ type: 'refused', device_seq: 5, code: 'event_refused' }])
    const after = [await device.seal('notes', { data: new Uint8Array(0) }), await device.seal('notes')]
    session.publish(after.map(({ wire }) => wire))
    await session.until('the others', () => session.receipts.length === 6)
    const received = await reader.connect(server, { cursor: 0 })
    await received.until('the replay', () => received.isCaughtUp)
    const ids = [...before, ...after].map(({ eventId }) => Buffer.from(eventId).toString('hex'))
    expect(received.events.map(({ eventId }) => eventId)).toEqual(ids)
    received.drop()
  })
})

/** A server of the test's own, which may be killed. */
async function startPostgres(): Promise<string> {
  const provided = await providePostgres(undefined)
  if (!('url' in provided) || provided.close === undefined) throw new Error('no PostgreSQL for this test alone')
  undo.push(provided.close)
  return provided.url
}

test('P3: PostgreSQL is killed under load: what was acknowledged is there, the rest is stored when sent again', async () => {
  const databaseUrl = await startPostgres()
  const server = await startTestServer({ database: 'postgres', databaseUrl })
  undo.push(server.close)
  const accounts = [await createAccount(server, { devices: 3 }), await createAccount(server, { devices: 2 })]
  const publishing = accounts.flatMap(({ devices }) => devices.slice(1))
  const publishers = await Promise.all(publishing.map((device) => createPatientPublisher(server, device)))
  const sql = new pg.Client({ connectionString: databaseUrl })
  sql.on('error', () => {})
  await sql.connect()

  let isKilled = false
  const load = Promise.all(
    publishers.map((publisher) => publisher.publishUntil(() => isKilled && publisher.unavailableCount > 0)),
  )
  await until(() => expect(publishers.every(({ receiptsBySeq }) => receiptsBySeq.size > 50)).toBe(true))
  // The shell's parent is the backend: a backend that dies so makes the server drop everyone and recover from its log.
  await expect(sql.query(`copy (select 1) to program 'kill -9 $PPID'`)).rejects.toThrow()
  isKilled = true
  await load
  await Promise.all(publishers.map((publisher) => publisher.untilAcknowledged()))
  for (const { devices } of accounts) {
    const own = publishers.filter(({ device }) => devices.includes(device))
    await expectStoredOnce(server, own, devices[0]!)
  }
})
