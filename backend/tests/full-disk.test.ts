// P3 on a disk that is full in earnest: PostgreSQL keeps the database, or its write-ahead log, on a small one, and
// something else takes what is left of it. Devices that publish get no receipt, try again, and lose nothing.

import { dirname } from 'node:path'
import pg from 'pg'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../client/src/clock.ts'
import { providePostgresWithSmallDisk, providePostgresWithSmallWalDisk } from '../../scripts/postgres.mjs'
import { until } from './bad-input/server-state.ts'
import { createPatientPublisher, expectStoredOnce } from './database-trouble/patient-publisher.ts'
import { createAccount } from './support/account.ts'
import { openSdkDevice } from './support/sdk-device.ts'
import { startTestServer } from './support/server.ts'

/** A new database with its tables takes some 10 MiB. */
const DISK_BYTES = 32 * 1024 * 1024
/** A new cluster's log takes some 5 MiB of it. */
const WAL_DISK_BYTES = 8 * 1024 * 1024
/** Too large for the room that pages still have. */
const TEXT_LENGTH = 100 * 1024
const TEXTS = 5
/** More than the segments that the log has already. */
const TEXTS_FOR_WAL = 80
/** One message, of more than a page has room for. */
const EVENTS = 20

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

interface SmallDisk {
  readonly databaseUrl: string
  fill(): Promise<void>
  free(): Promise<void>
}

/** Only PostgreSQL sees its small disk, so it has to run what fills it. */
const runIn = async (databaseUrl: string, command: string): Promise<void> => {
  const sql = new pg.Client({ connectionString: databaseUrl })
  await sql.connect()
  await sql.query(`copy (select 1) to program 'cat > /dev/null; ${command}'`)
  await sql.end()
}

const fillWith = (ballast: string): string => `! cat /dev/zero > ${ballast} 2> /dev/null`

async function startPostgresOnSmallDisk(): Promise<SmallDisk> {
  const { url, close, smallFolder } = await providePostgresWithSmallDisk(DISK_BYTES)
  undo.push(close)
  const server = new pg.Client({ connectionString: url })
  await server.connect()
  await server.query(`create tablespace small location '${smallFolder}'`)
  await server.query('create database small tablespace small template template0')
  await server.end()
  const databaseUrl = `${dirname(url)}/small`
  const ballast = `${smallFolder}/ballast`
  return {
    databaseUrl,
    fill: () => runIn(databaseUrl, fillWith(ballast)),
    free: () => runIn(databaseUrl, `rm ${ballast}`),
  }
}

async function startPostgresOnSmallWalDisk(): Promise<SmallDisk> {
  const { url, close, smallFolder, makeRoom } = await providePostgresWithSmallWalDisk(WAL_DISK_BYTES)
  undo.push(close)
  return {
    databaseUrl: url,
    fill: () => runIn(url, fillWith(`${smallFolder}/ballast`)),
    free: async () => makeRoom!(),
  }
}

/** Two users: one whose devices run the SDK, and one whose publisher and reader are seen message by message. */
async function createScene({ databaseUrl }: SmallDisk) {
  const server = await startTestServer({ database: 'postgres', databaseUrl })
  undo.push(server.close)
  const [writing, reading] = (await createAccount(server, { devices: 2 })).devices
  const writer = await openSdkDevice(server, writing!, systemClock)
  undo.push(writer.close)
  const reader = await openSdkDevice(server, reading!, systemClock)
  undo.push(reader.close)
  const [publishing, checking] = (await createAccount(server, { devices: 2 })).devices
  const publisher = await createPatientPublisher(server, publishing!)
  const unavailable = (): Promise<number> => server.app.metrics.read('valise_events_unavailable_total')
  await writer.publish('before')
  await until(() => expect(reader.bodies).toEqual(['before']))
  const allOf = (texts: readonly string[]): string[] => ['before', ...texts.map((text) => text.trim())]
  const untilAllArrived = async (texts: readonly string[]): Promise<void> => {
    await publisher.untilAcknowledged()
    await expectStoredOnce(server, [publisher], checking!)
    await until(() => expect(reader.bodies.length).toBeGreaterThanOrEqual(1 + texts.length))
    expect(reader.bodies.map((text) => text.trim())).toEqual(allOf(texts))
    await until(() => expect(writer.receipts.length).toBeGreaterThanOrEqual(1 + texts.length))
    expect(writer.receipts.map(({ deviceSeq }) => deviceSeq)).toEqual(allOf(texts).map((_, index) => index + 1))
    // Neither session ended, nor did anybody have to do anything.
    expect([writer.connections, reader.connections, publisher.session.closeFrame]).toEqual([1, 1, undefined])
  }
  return { server, writer, reader, publisher, checking: checking!, unavailable, untilAllArrived }
}

const textsOf = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${index}`.padStart(TEXT_LENGTH))

test('P3: the disk is full: nothing is acknowledged, reading goes on, and all of it is stored once when there is room', {
  timeout: 60_000,
}, async () => {
  const disk = await startPostgresOnSmallDisk()
  const { server, writer, reader, publisher, checking, unavailable, untilAllArrived } = await createScene(disk)
  const sql = new pg.Client({ connectionString: disk.databaseUrl })
  await sql.connect()
  undo.push(() => sql.end())
  const countEvents = async (): Promise<number> =>
    Number((await sql.query<{ count: string }>('select count(*) from events')).rows[0]?.count)

  await disk.fill()
  const texts = textsOf(TEXTS)
  for (const text of texts) await writer.publish(text)
  await until(async () => expect(await unavailable()).toBeGreaterThanOrEqual(TEXTS))
  await publisher.publish(EVENTS)
  await publisher.session.until('word of it', () => publisher.unavailableCount > 0)
  const toldBefore = await unavailable()
  await until(async () => expect(await unavailable()).toBeGreaterThanOrEqual(toldBefore + 2 * TEXTS))

  expect([writer.receipts.length, publisher.receiptsBySeq.size, await countEvents()]).toEqual([1, 0, 1])
  expect(publisher.session.refusals).toEqual([])
  expect(reader.bodies).toEqual(['before'])
  const late = await checking.connect(server, { cursor: 0 })
  await late.until('caught_up', () => late.isCaughtUp)
  late.drop()
  await until(async () => {
    const ready = await fetch(`${server.app.adminUrl}/ready`)
    expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining('no event can be stored')])
  })

  await disk.free()
  await untilAllArrived(texts)
})

test('P3: the disk of the write-ahead log is full, and PostgreSQL ends: nothing is acknowledged, and all of it is stored once when it is back', {
  timeout: 60_000,
}, async () => {
  const disk = await startPostgresOnSmallWalDisk()
  const { server, writer, reader, publisher, unavailable, untilAllArrived } = await createScene(disk)

  await disk.fill()
  const texts = textsOf(TEXTS_FOR_WAL)
  for (const text of texts) await writer.publish(text)
  await until(async () => expect(await unavailable()).toBeGreaterThan(0))
  await publisher.publish(EVENTS)
  await publisher.session.until('word of it', () => publisher.unavailableCount > 0)
  const stored = [writer.receipts.length, reader.bodies.length]
  expect(stored[0]).toBeLessThan(1 + TEXTS_FOR_WAL)
  const toldBefore = await unavailable()
  await until(async () => expect(await unavailable()).toBeGreaterThanOrEqual(toldBefore + EVENTS))
  const ready = await fetch(`${server.app.adminUrl}/ready`)
  expect([ready.status, await ready.json()]).toMatchObject([503, { problems: ['database: out of reach'] }])
  expect([writer.receipts.length, reader.bodies.length]).toEqual(stored)
  expect(publisher.receiptsBySeq.size).toBe(0)
  expect(publisher.session.refusals).toEqual([])

  await disk.free()
  await untilAllArrived(texts)
})
