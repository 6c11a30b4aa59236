// `npm run bench -- append-cost [--rounds 12] [--turns 200]`: the CPU time of one PostgreSQL backend for storing a run of
// events, by the way it goes in, without the flush, so that the disk of a shared machine does not decide; and for a plain
// insert of one row. In turns, each way over a connection and a database of its own; the least of the rounds after two.
// Needs a PostgreSQL on this machine, a Linux.

import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { runMigrations } from '../src/db/migrate.ts'
import { openPostgres, type Queryable, type Statement } from '../src/db/postgres.ts'
import { appendBatch, appendRuns } from '../src/db/queries/events.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { createTestDatabase, runSql } from '../tests/support/database.ts'
import { addDevice, makeBatch } from './append-batches.ts'
import { PLAIN_INSERT, PLAIN_ROW_BYTES, preparePlainInserts } from './baseline.ts'
import { table } from './report.ts'

const BATCH_SIZES = [1, 4, 8, 25]
const UNMEASURED_ROUNDS = 2
/** The check constraints that migration 10 dropped, as they were. */
const DROPPED_CHECKS = `
  alter table users add check (octet_length(user_id) = 32), add check (octet_length(log_head) = 32);
  alter table devices add check (octet_length(device_id) = 16), add check (octet_length(ed_pub) = 32),
    add check (octet_length(last_chain) = 32), add check ((revoked_at is null) = (revoked_log_seq is null)),
    add check (role in (1, 2, 3));
  alter table streams add check (octet_length(stream_id) = 16);
  alter table events add check (octet_length(event_id) = 16), add check (octet_length(chain) = 32)`

interface Lane {
  readonly way: string
  readonly events: number
  store(): Promise<unknown>
  /** CPU time of its backend so far, in ns. */
  cpuNs(): number
  close(): Promise<void>
  bestUs: number
}

const { values: flags } = parseArgs({
  options: { rounds: { type: 'string', default: '12' }, turns: { type: 'string', default: '200' } },
})
const rounds = Number(flags.rounds)
const turns = Number(flags.turns)

const lanes: Lane[] = [await openLane('plain insert of one row', 1)]
for (const way of ['append_run', 'append_run, with checks', 'append_events']) {
  for (const events of BATCH_SIZES) lanes.push(await openLane(way, events))
}
for (let round = 0; round < rounds + UNMEASURED_ROUNDS; round++) {
  for (const lane of lanes) {
    const before = lane.cpuNs()
    for (let turn = 0; turn < turns; turn++) await lane.store()
    const us = (lane.cpuNs() - before) / turns / 1000
    if (round >= UNMEASURED_ROUNDS) lane.bestUs = Math.min(lane.bestUs, us)
  }
}
for (const lane of lanes) await lane.close()
report()

async function openLane(way: string, events: number): Promise<Lane> {
  const database = await createTestDatabase()
  const parts = { log: createLog({ level: 'warn' }), metrics: createMetrics().database, slowQueryMs: 1000 }
  const db = await openPostgres({ ...parts, url: database.url, poolSize: 1 })
  await runMigrations(db)
  const device = await addDevice(db)
  await db.close()
  if (way === 'append_run, with checks') await runSql(database.url, DROPPED_CHECKS)
  await preparePlainInserts(database.url)
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  await client.query('set synchronous_commit = off')
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  const pid = rows[0]?.pid ?? 0
  const cpuNs = (): number => Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0])
  const queryable: Queryable = {
    query: async <Row>({ name, text }: Statement, values: readonly unknown[]) =>
      (await client.query({ name, text, values: [...values] })).rows as Row[],
  }
  const append = way === 'append_events' ? appendBatch : appendRuns
  const row = Buffer.alloc(PLAIN_ROW_BYTES, 1)
  let lastId = 0
  return {
    way,
    events,
    store: way.startsWith('plain')
      ? () => client.query({ ...PLAIN_INSERT, values: [++lastId, row] })
      : async () => {
          const verdicts = await append(queryable, makeBatch([device], events, 0))
          if (verdicts.some(({ status }) => status !== 'stored')) throw new Error('an event was not stored')
        },
    cpuNs,
    close: async () => {
      await client.end()
      await database.drop()
    },
    bestUs: Number.POSITIVE_INFINITY,
  }
}

function report(): void {
  const [plain, ...others] = lanes
  const ways = [...new Set(others.map(({ way }) => way))]
  const of = (way: string, events: number): string =>
    others.find((lane) => lane.way === way && lane.events === events)?.bestUs.toFixed(0) ?? ''
  const rows = BATCH_SIZES.map((events) => [
    `${events} event${events === 1 ? '' : 's'}`,
    ...ways.map((way) => of(way, events)),
    events === 1 ? (plain?.bestUs.toFixed(0) ?? '') : '',
  ])
  console.log(`Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; µs of CPU time of a backend\n`)
  console.log(table(['one run of one stream', ...ways, 'plain insert of one row'], rows))
}
