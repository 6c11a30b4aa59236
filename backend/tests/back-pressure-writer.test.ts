// A writer faster than the database (P5): TCP slows it, nothing refuses it, and all of it is stored in the end.

import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readMetric, sealLarge, until } from './back-pressure/scene.ts'
import { follow, haveReceipts, roundTrip } from './event-ordering/publishing.ts'
import { createAccount } from './support/account.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const INTAKE_BUFFER_BYTES = 1024 * 1024
const EVENT_BYTES = 240 * 1024
const EVENTS = 100
/** What one read of a socket may still bring, and the frame it completes. */
const ONE_FRAME_BYTES = 1024 * 1024

let server: TestServer
let lock: pg.Client

beforeAll(async () => {
  server = await startTestServer({
    database: 'postgres',
    flags: {
      VALISE_INTAKE_BUFFER_BYTES: String(INTAKE_BUFFER_BYTES),
      // So short that a session which is not read would be gone at once, were its silence held against it.
      VALISE_PING_INTERVAL_MS: '100',
    },
  })
  lock = new pg.Client({ connectionString: server.databaseUrl })
  await lock.connect()
})
afterAll(async () => {
  await lock?.end()
  await server?.close()
})

test('P5: a writer faster than the database is slowed by TCP and by no error, and all of it is stored', async () => {
  const { devices } = await createAccount(server, { devices: 2 })
  const [device, other] = devices
  const session = await follow(server, device!)
  const bystander = await follow(server, other!)
  const events = await sealLarge(device!, EVENTS, EVENT_BYTES)
  const buffered = (): Promise<number> => readMetric(server, 'valise_intake_buffered_bytes')

  await lock.query('begin')
  await lock.query('lock table events in access exclusive mode')
  for (const { wire } of events) session.publish([wire])
  const paused = (): Promise<number> => readMetric(server, 'valise_sockets_paused')
  await until('the server to stop reading both sessions', async () => (await paused()) === 2)
  const bytesWhenPaused = await buffered()
  expect(bytesWhenPaused).toBeGreaterThan(INTAKE_BUFFER_BYTES)

  const pings = (): number => session.messages.filter(({ type }) => type === 'ping').length
  const pingsWhenPaused = pings()
  await session.until('to be told twice that the server lives', () => pings() >= pingsWhenPaused + 2)
  expect(await buffered()).toBe(bytesWhenPaused)
  expect(bytesWhenPaused).toBeLessThanOrEqual(INTAKE_BUFFER_BYTES + ONE_FRAME_BYTES)
  // The writes of the writer stall: its kernel takes no more.
  expect(session.socket.bufferedAmount).toBeGreaterThan(0)
  expect(session.receipts).toEqual([])

  await lock.query('rollback')
  await haveReceipts(session, EVENTS)
  expect(session.receipts.map(([deviceSeq]) => deviceSeq)).toEqual(events.map(({ deviceSeq }) => deviceSeq))
  expect(session.refusals).toEqual([])
  expect(session.messages.filter(({ type }) => type === 'unavailable' || type === 'error')).toEqual([])
  expect([session.closeFrame, bystander.closeFrame]).toEqual([undefined, undefined])
  await bystander.until('everything', () => bystander.through === EVENTS)
  await roundTrip(session)
  expect([await paused(), await buffered()]).toEqual([0, 0])
})
