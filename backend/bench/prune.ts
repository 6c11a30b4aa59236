// `npm run bench -- prune [--events 1000000] [--seconds 8] [--users 10] [--in-flight 1]`: what publishers feel while events
// that are too old go. A PostgreSQL with that many old events of other users, one server that keeps events for a day.
// The same load before the old events are there, while they go, and when they are gone: p50 and p99 from publishing to
// the receiver, and how many went a second.

import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import pg from 'pg'
import { createTestDatabase } from '../tests/support/database.ts'
import { type LoadCase, REHEARSAL, rehearse, runCase } from './cases.ts'
import { findPostmaster } from './cpu.ts'
import { formatRun, table, whole } from './report.ts'
import { createSealing } from './sealing.ts'
import { startServer } from './server-process.ts'
import { type BenchUser, createUser, registerUsers } from './users.ts'

const { values: flags } = parseArgs({
  options: {
    events: { type: 'string', default: '1000000' },
    seconds: { type: 'string', default: '8' },
    users: { type: 'string', default: '10' },
    'in-flight': { type: 'string', default: '1' },
  },
})
const OLD_USERS = 10
/** A sealed event with 256 bytes of content. */
const WIRE_BYTES = 540
/** A prune that has not ended by then fails the run. */
const PATIENCE_MS = 600_000
const eventsEach = Math.ceil(Number(flags.events) / OLD_USERS)
const load: LoadCase = {
  name: 'prune',
  database: 'postgres',
  users: Number(flags.users),
  inFlight: Number(flags['in-flight']),
  sealedPerSecond: 8000,
}

// Every statement but the last is one transaction with it: a server sees all of it at once, counted and too old.
const INSERT_OLD_EVENTS = `
  insert into events (user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, leaf, wire)
  select $1, n, $2, n, $3, n, substr(sha256($1 || int8send(n)), 1, 16), now() - interval '3 days', sha256(int8send(n)), $4
  from generate_series(1, $5::bigint) as n`
const COUNT_OLD_EVENTS = `
  insert into user_storage as s (user_id, counted_through, stored_bytes, oldest_stored_at)
  values ($1, $2::bigint, $2::bigint * $3::bigint, now() - interval '3 days')
  on conflict (user_id) do update
  set counted_through = excluded.counted_through, stored_bytes = excluded.stored_bytes,
    oldest_stored_at = excluded.oldest_stored_at`

const database = await createTestDatabase()
const admin = new pg.Client({ connectionString: database.url })
await admin.connect()
const postmaster = await findPostmaster(admin)
const sealing = createSealing()
const server = await startServer({
  databaseUrl: database.url,
  environment: { VALISE_EVENT_RETENTION_DAYS: '1', VALISE_RETENTION_INTERVAL_MS: '500', VALISE_LOG_LEVEL: 'warn' },
})
const rows: string[][] = []
try {
  await rehearse(server, sealing, await makeUsers(REHEARSAL.users))
  await measure('before')
  await insertOldEvents(await makeUsers(OLD_USERS))
  const startedAtMs = performance.now()
  await measure('while they go')
  const duringMs = performance.now() - startedAtMs
  const wentDuring = await readPruned()
  if (wentDuring >= eventsEach * OLD_USERS) console.error('All were gone before the load ended: give more --events.')
  await untilPruned(eventsEach * OLD_USERS)
  await measure('after')
  const [processor] = cpus()
  console.log(
    `\nNode ${process.versions.node}, ${cpus().length} × ${processor?.model}, ${process.platform} ${process.arch}`,
  )
  console.log(`${load.users} users × ${load.inFlight} in flight, ${whole(eventsEach * OLD_USERS)} old events\n`)
  console.log(table(['', 'events/s', 'p50 ms', 'p99 ms', 'PostgreSQL µs/event'], rows))
  console.log(`\nWhile the load ran, ${whole((wentDuring / duringMs) * 1000)} old events went a second.`)
} finally {
  await server.close()
  await sealing.close()
  await admin.end()
  await database.drop()
}

async function makeUsers(count: number): Promise<BenchUser[]> {
  const users = await Promise.all(Array.from({ length: count }, createUser))
  await registerUsers(server.address, users)
  return users
}

async function measure(title: string): Promise<void> {
  const users = await makeUsers(load.users)
  const seconds = Number(flags.seconds)
  const result = await runCase(load, { server, sealing, users, postmaster, seconds, cores: availableParallelism() })
  console.log(`${title}: ${formatRun(result)}`)
  const { eventsPerSecond, p50Ms, p99Ms, cpu } = result
  rows.push([title, whole(eventsPerSecond), p50Ms.toFixed(2), p99Ms.toFixed(1), cpu.postgresUs?.toFixed(0) ?? '–'])
}

async function insertOldEvents(users: readonly BenchUser[]): Promise<void> {
  const wire = crypto.randomBytes(WIRE_BYTES)
  await admin.query('begin')
  for (const { userId, publisher } of users) {
    const streamId = crypto.randomBytes(16)
    await admin.query(INSERT_OLD_EVENTS, [userId, publisher.deviceId, streamId, wire, eventsEach])
    await admin.query(COUNT_OLD_EVENTS, [userId, eventsEach, WIRE_BYTES])
  }
  await admin.query('commit')
}

async function readPruned(): Promise<number> {
  return (await server.readMetric('valise_events_pruned_total')) ?? 0
}

async function untilPruned(count: number): Promise<void> {
  const endAtMs = performance.now() + PATIENCE_MS
  while ((await readPruned()) < count) {
    if (performance.now() > endAtMs) throw new Error(`only ${whole(await readPruned())} of ${whole(count)} are gone`)
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}
