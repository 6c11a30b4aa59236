// `npm run bench -- prune [--events 1000000] [--seconds 8] [--users 10] [--in-flight 1]`: what publishers feel while events
// that are too old go. A PostgreSQL with that many old events of one user, one server that keeps events for a day. The
// same two loads before the old events are there, while they go, and when they are gone: one of other users, one of that
// user himself. p50 and p99 from publishing to the receiver, and how many went a second.

import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { chainStart } from '@valise/protocol'
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
/** A sealed event with 256 bytes of content. */
const WIRE_BYTES = 540
/** A prune that has not ended by then fails the run. */
const PATIENCE_MS = 600_000
const oldEvents = Number(flags.events)
const otherUsers: LoadCase = {
  name: 'prune',
  database: 'postgres',
  users: Number(flags.users),
  inFlight: Number(flags['in-flight']),
  sealedPerSecond: 8000,
}
const owner: LoadCase = { ...otherUsers, name: 'prune-owner', users: 1, sealedPerSecond: 3000 }

const INSERT_OLD_EVENTS = `
  insert into events (user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, chain, wire)
  select $1, n, $2, n, $3, n, substr(sha256($1 || int8send(n)), 1, 16), now() - interval '3 days', sha256(int8send(n)), $4
  from generate_series(1, $5::bigint) as n`
const COUNT_OLD_EVENTS = `
  update user_storage
  set counted_through = $2::bigint, stored_bytes = $2::bigint * $3::bigint, oldest_stored_at = now() - interval '3 days'
  where user_id = $1`

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
  await measure('other users, before', otherUsers, await makeUsers(otherUsers.users))
  await measure('one user, before', owner, await makeUsers(owner.users))
  const [old] = await makeUsers(1)
  if (old === undefined) throw new Error('no user was made')
  await insertOldEvents(old)
  const startedAtMs = performance.now()
  await measure('other users, while they go', otherUsers, await makeUsers(otherUsers.users))
  await measure('the user they belong to, while they go', owner, [old], oldEvents)
  const duringMs = performance.now() - startedAtMs
  const wentDuring = await readPruned()
  if (wentDuring >= oldEvents) console.error('All were gone before the load ended: give more --events.')
  await untilPruned(oldEvents)
  await measure('other users, after', otherUsers, await makeUsers(otherUsers.users))
  await measure('the user they belonged to, after', owner, [swapDevices(old)], await readLastSeq(old))
  const [processor] = cpus()
  console.log(
    `\nNode ${process.versions.node}, ${cpus().length} × ${processor?.model}, ${process.platform} ${process.arch}`,
  )
  console.log(`${otherUsers.users} other users × ${otherUsers.inFlight} in flight, ${whole(oldEvents)} old events\n`)
  console.log(table(['', 'events/s', 'p50 ms', 'p99 ms', 'PostgreSQL µs/event'], rows))
  console.log(`\nWhile the loads ran, ${whole((wentDuring / duringMs) * 1000)} old events went a second.`)
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

async function measure(title: string, load: LoadCase, users: readonly BenchUser[], startsAfter = 0): Promise<void> {
  const seconds = Number(flags.seconds)
  const parts = { server, sealing, users, startsAfter, postmaster, seconds, cores: availableParallelism() }
  const result = await runCase(load, parts)
  console.log(`${title}: ${formatRun(result)}`)
  const { eventsPerSecond, p50Ms, p99Ms, cpu } = result
  rows.push([title, whole(eventsPerSecond), p50Ms.toFixed(2), p99Ms.toFixed(1), cpu.postgresUs?.toFixed(0) ?? '–'])
}

/** Of another device of his, in the stream that he publishes to. A server sees all of it at once, counted and too old. */
async function insertOldEvents({ userId, streamId }: BenchUser): Promise<void> {
  await admin.query('begin')
  const wire = crypto.randomBytes(WIRE_BYTES)
  await admin.query(INSERT_OLD_EVENTS, [userId, crypto.randomBytes(16), streamId, wire, oldEvents])
  await admin.query('insert into streams (user_id, stream_id, last_stream_seq) values ($1, $2, $3)', [
    userId,
    streamId,
    oldEvents,
  ])
  await admin.query('update users set last_user_seq = $2, stream_count = 1 where user_id = $1', [userId, oldEvents])
  await admin.query(COUNT_OLD_EVENTS, [userId, oldEvents, WIRE_BYTES])
  await admin.query('commit')
}

/** A second load of the same user needs a device that has published nothing yet. */
function swapDevices(user: BenchUser): BenchUser {
  const { publisher, receiver } = user
  const firstChain = chainStart(crypto, user.userId, receiver.deviceId)
  return { ...user, publisher: receiver, receiver: publisher, firstChain }
}

async function readLastSeq({ userId }: BenchUser): Promise<number> {
  const { rows: users } = await admin.query('select last_user_seq from users where user_id = $1', [userId])
  return Number(users[0].last_user_seq)
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
