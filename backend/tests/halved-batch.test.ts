// The halves of a batch that PostgreSQL refused, while another node stores between them (ORD-5, ORD-6). Three real nodes
// on one PostgreSQL and one Redis. An advisory lock holds the second half back, so the other node's event lands between
// the halves every time, and heads are compared so rarely that only announcements bring word.

import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectSoundLog, logOf, oneTo } from './event-ordering/observed-log.ts'
import { follow, haveEvents, haveReceipts, wiresOf } from './event-ordering/publishing.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { createFaultBus } from './support/fault-bus.ts'
import { waitFor } from './support/open-database.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

const SECOND_HALF = 7_001
const undo: (() => Promise<unknown>)[] = []
const bus = createFaultBus()
let storing: TestServer
let other: TestServer
let listening: TestServer
let sql: pg.Client

beforeAll(async () => {
  const redisUrl = testRedisUrl()
  const flags = { VALISE_HEAD_POLL_MS: '600000' }
  storing = await startTestServer({ database: 'postgres', redisUrl, flags, bus: bus.wrap })
  undo.push(storing.close)
  const { databaseUrl = '', identityFile } = storing
  const node = { database: 'postgres' as const, databaseUrl, identityFile, redisUrl, flags }
  other = await startTestServer(node)
  undo.push(other.close)
  listening = await startTestServer({ ...node, bus: bus.wrap })
  undo.push(listening.close)
  sql = new pg.Client({ connectionString: databaseUrl })
  await sql.connect()
  undo.push(() => sql.end())
})
afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const literal = (bytes: Uint8Array): string => `'\\x${Buffer.from(bytes).toString('hex')}'`

/** The database refuses one event, as it refuses a row that breaks a constraint. */
const refuseEvent = (eventId: Uint8Array): Promise<unknown> =>
  sql.query(`
    create function refuse_event() returns trigger language plpgsql as $$
    begin
      raise exception 'no' using errcode = 'check_violation';
    end $$;
    create trigger refuse_event before insert on events for each row
      when (new.event_id = ${literal(eventId)}) execute function refuse_event()`)

/** An append that begins at this device_seq waits for the advisory lock before it takes the user's row lock. */
async function holdAppend({ deviceId }: TestDevice, firstSeq: number): Promise<void> {
  const { rows } = await sql.query<{ text: string }>(`select pg_get_functiondef('append_run'::regproc) as text`)
  const wait = `
    if p_device_id = ${literal(deviceId)} and p_first_seq = ${firstSeq} then
      perform pg_advisory_xact_lock(${SECOND_HALF});
    end if;`
  await sql.query(rows[0]!.text.replace('\nbegin\n', () => `\nbegin\n${wait}\n`))
  await sql.query('select pg_advisory_lock($1)', [SECOND_HALF])
}

const untilHeld = (): Promise<number> =>
  waitFor(
    'the second half that waits',
    async () => {
      const { rows } = await sql.query(
        `select 1 from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`,
      )
      return rows.length
    },
    (count) => count === 1,
  )

test('ORD-5: what another node stores between the halves of a refused batch reaches every reader, live, once, in order', async () => {
  const { devices } = await createAccount(storing, { devices: 5 })
  const [writer, intruder, ...readers] = devices as [TestDevice, TestDevice, ...TestDevice[]]
  const [writing, intruding] = [await follow(storing, writer), await follow(other, intruder)]
  const nodes = [storing, other, listening]
  const readings = await Promise.all(readers.map((reader, i) => follow(nodes[i]!, reader)))

  const good = await writer.sealMany('notes', 3)
  const poison = await writer.sealAside('notes')
  await refuseEvent(poison.eventId)
  await holdAppend(writer, 3)
  // Word of the intruder's event comes late: the halves are heard of first.
  bus.setPlan(({ items }) => {
    const isIntruders = items?.some(({ deviceId }) => Buffer.compare(deviceId, intruder.deviceId) === 0) ?? false
    return isIntruders ? { type: 'hold', passing: Number.POSITIVE_INFINITY } : { type: 'pass' }
  })

  writing.publish(wiresOf([...good, poison]))
  await untilHeld()
  intruding.publish(wiresOf([await intruder.seal('notes')]))
  await haveReceipts(intruding, 1)
  await waitFor(
    'word of it on two nodes',
    async () => bus.counts.hold,
    (count) => count === 2,
  )
  await sql.query('select pg_advisory_unlock($1)', [SECOND_HALF])

  await haveReceipts(writing, 3)
  await writing.until('the refusal', () => writing.refusals.length === 1)
  expect(writing.refusals).toEqual([{ type: 'refused', device_seq: 4, code: 'event_refused' }])
  expect(writing.receipts.map(([, , userSeq]) => userSeq)).toEqual([1, 2, 4])
  expect(intruding.receipts.map(([, , userSeq]) => userSeq)).toEqual([3])

  await Promise.all(readings.map((reading) => haveEvents(reading, 4)))
  await haveEvents(intruding, 3)
  await haveEvents(writing, 1)
  bus.release()
  // One event more, behind which a doubled one would show.
  writing.publish(wiresOf([await writer.seal('notes', { data: new Uint8Array(0) })]))
  await Promise.all(readings.map((reading) => haveEvents(reading, 5)))
  for (const [i, reading] of readings.entries()) {
    expect(reading.events.map(({ userSeq }) => userSeq)).toEqual(oneTo(5))
    expectSoundLog(logOf(readers[i]!, reading), 5)
  }
  expect(writing.events.map(({ userSeq }) => userSeq)).toEqual([3])
})
