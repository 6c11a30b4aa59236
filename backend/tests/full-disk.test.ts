// P3 on a disk that is full in earnest: PostgreSQL keeps the database on a small one, and something else takes what is
// left of it. Devices that publish get no receipt, try again, and lose nothing.

import { dirname } from 'node:path'
import pg from 'pg'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../client/src/clock.ts'
import { providePostgresWithSmallDisk } from '../../scripts/postgres.mjs'
import { until } from './bad-input/server-state.ts'
import { createPatientPublisher, expectStoredOnce } from './database-trouble/patient-publisher.ts'
import { createAccount } from './support/account.ts'
import { openSdkDevice } from './support/sdk-device.ts'
import { startTestServer } from './support/server.ts'

/** A new database with its tables takes some 10 MiB. */
const DISK_BYTES = 32 * 1024 * 1024
/** Too large for the room that pages still have. */
const TEXT_LENGTH = 100 * 1024
const TEXTS = 5
/** One message, of more than a page has room for. */
const EVENTS = 20

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

interface SmallDisk {
  readonly databaseUrl: string
  readonly sql: pg.Client
  fill(): Promise<void>
  free(): Promise<void>
}

async function startPostgresOnSmallDisk(): Promise<SmallDisk> {
  const { url, close, smallFolder } = await providePostgresWithSmallDisk(DISK_BYTES)
  undo.push(close)
  const server = new pg.Client({ connectionString: url })
  await server.connect()
  await server.query(`create tablespace small location '${smallFolder}'`)
  await server.query('create database small tablespace small template template0')
  await server.end()
  const databaseUrl = `${dirname(url)}/small`
  const sql = new pg.Client({ connectionString: databaseUrl })
  await sql.connect()
  undo.push(() => sql.end())
  // Only PostgreSQL sees that disk, so it has to run what fills it.
  const run = (command: string): Promise<unknown> => sql.query(`copy (select 1) to program '${command}'`)
  const ballast = `${smallFolder}/ballast`
  return {
    databaseUrl,
    sql,
    fill: async () => {
      await run(`cat > /dev/null; ! cat /dev/zero > ${ballast} 2> /dev/null`)
    },
    free: async () => {
      await run(`cat > /dev/null; rm ${ballast}`)
    },
  }
}

test('P3: the disk is full: nothing is acknowledged, reading goes on, and all of it is stored once when there is room', {
  timeout: 60_000,
}, async () => {
  const { databaseUrl, sql, fill, free } = await startPostgresOnSmallDisk()
  const server = await startTestServer({ database: 'postgres', databaseUrl })
  undo.push(server.close)
  const [writing, reading] = (await createAccount(server, { devices: 2 })).devices
  const writer = await openSdkDevice(server, writing!, systemClock)
  undo.push(writer.close)
  const reader = await openSdkDevice(server, reading!, systemClock)
  undo.push(reader.close)
  const [publishing, checking] = (await createAccount(server, { devices: 2 })).devices
  const publisher = await createPatientPublisher(server, publishing!)
  const countEvents = async (): Promise<number> =>
    Number((await sql.query<{ count: string }>('select count(*) from events')).rows[0]?.count)
  const unavailable = (): Promise<number> => server.app.metrics.read('valise_events_unavailable_total')

  await writer.publish('before')
  await until(() => expect(reader.bodies).toEqual(['before']))
  await fill()
  const texts = Array.from({ length: TEXTS }, (_, index) => `${index}`.padStart(TEXT_LENGTH))
  for (const text of texts) await writer.publish(text)
  await until(async () => expect(await unavailable()).toBeGreaterThanOrEqual(TEXTS))
  await publisher.publish(EVENTS)
  await publisher.session.until('word of it', () => publisher.unavailableCount > 0)
  const toldBefore = await unavailable()
  await until(async () => expect(await unavailable()).toBeGreaterThanOrEqual(toldBefore + 2 * TEXTS))

  expect([writer.receipts.length, publisher.receiptsBySeq.size, await countEvents()]).toEqual([1, 0, 1])
  expect(publisher.session.refusals).toEqual([])
  expect(reader.bodies).toEqual(['before'])
  const late = await checking!.connect(server, { cursor: 0 })
  await late.until('caught_up', () => late.isCaughtUp)
  late.drop()

  await free()
  await publisher.untilAcknowledged()
  await expectStoredOnce(server, [publisher], checking!)
  await until(() => expect(reader.bodies.length).toBeGreaterThanOrEqual(1 + TEXTS))
  expect(reader.bodies.map((text) => text.trim())).toEqual(['before', ...texts.map((text) => text.trim())])
  expect(writer.receipts.map(({ deviceSeq }) => deviceSeq)).toEqual(texts.concat('before').map((_, index) => index + 1))
  // Neither session ended, nor did anybody have to do anything.
  expect([writer.connections, reader.connections, publisher.session.closeFrame]).toEqual([1, 1, undefined])
})
