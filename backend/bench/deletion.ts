// `npm run bench -- deletion [--events 200000]`: what it takes to delete an account with that many events, in one
// transaction, on PostgreSQL and on the embedded database in a folder; and how long an event of another user waits
// meanwhile, at the most, beside the longest wait while nothing is deleted.

import { mkdtemp, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { runMigrations } from '../src/db/migrate.ts'
import { openPglite } from '../src/db/pglite.ts'
import { type Database, openPostgres } from '../src/db/postgres.ts'
import { appendDeviceLogEntry } from '../src/db/queries/device-log.ts'
import { appendRuns } from '../src/db/queries/events.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { createTestDatabase } from '../tests/support/database.ts'
import {
  addDevice,
  addUser,
  continueRun,
  makeEntry,
  makeEvents,
  type TestDevice,
} from '../tests/support/open-database.ts'
import { table, whole } from './report.ts'

/** A sealed event with 256 bytes of content. */
const WIRE_BYTES = 540
const QUIET_MS = 5000
const MAX_STREAMS = 1000
/** More than the product gives a deletion. */
const TIMEOUT_MS = 3_600_000

const { values: flags } = parseArgs({ options: { events: { type: 'string', default: '200000' } } })
const eventCount = Number(flags.events)
const parts = { log: createLog({ level: 'warn' }), metrics: createMetrics().database, slowQueryMs: TIMEOUT_MS }

// One transaction with the counters below: a server sees all of it at once.
const INSERT_EVENTS = `
  insert into events (user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, chain, wire)
  select $1, n, $2, n, $3, n, substr(sha256($1 || int8send(n)), 1, 16), now(), sha256(int8send(n)), $4
  from generate_series(1, $5::bigint) as n`

const rows: string[][] = []
const database = await createTestDatabase()
try {
  await report('PostgreSQL', await openPostgres({ ...parts, url: database.url, poolSize: 8 }))
} finally {
  await database.drop()
}
const folder = await mkdtemp(join(tmpdir(), 'valise-bench-'))
try {
  await report('PGlite in a folder', await openPglite({ ...parts, dataDir: folder }))
} finally {
  await rm(folder, { recursive: true })
}
const [processor] = cpus()
console.log(
  `\nNode ${process.versions.node}, ${cpus().length} × ${processor?.model}, ${process.platform} ${process.arch}`,
)
console.log(`An account with ${whole(eventCount)} events\n`)
console.log(table(['', 'deletion s', 'µs/event', 'longest wait of another user ms', 'without a deletion ms'], rows))

async function report(title: string, db: Database): Promise<void> {
  try {
    await runMigrations(db)
    const { genesis, devices } = await addUser(db)
    const [device] = devices
    if (device === undefined) throw new Error('a user without a device')
    const wire = crypto.randomBytes(WIRE_BYTES)
    await db.transaction({ name: 'bench_fill', timeoutMs: TIMEOUT_MS }, (tx) =>
      tx.query({ name: '', text: INSERT_EVENTS }, [
        device.userId,
        device.deviceId,
        crypto.randomBytes(16),
        wire,
        eventCount,
      ]),
    )
    const other = await addDevice(db)
    const quietMs = await longestWait(db, other, new Promise((resolve) => setTimeout(resolve, QUIET_MS)))
    const close = makeEntry(genesis, { isClosed: true })
    const startedAtMs = performance.now()
    const deletion = db.transaction({ name: 'close_account', timeoutMs: TIMEOUT_MS }, (tx) =>
      appendDeviceLogEntry(tx, close),
    )
    let deletionMs = 0
    const timed = deletion.then(() => {
      deletionMs = performance.now() - startedAtMs
    })
    const waitMs = await longestWait(db, other, timed)
    const [left] = await db.query<{ count: number }>(
      { name: '', text: 'select count(*)::int as count from events where user_id = $1' },
      [device.userId],
    )
    if (left?.count !== 0) throw new Error(`${left?.count} events are left`)
    const perEventUs = (deletionMs * 1000) / eventCount
    rows.push([title, (deletionMs / 1000).toFixed(2), perEventUs.toFixed(1), waitMs.toFixed(0), quietMs.toFixed(0)])
  } finally {
    await db.close()
  }
}

/** Of the device's events, one after the other until `work` is done. */
async function longestWait(db: Database, device: TestDevice, work: Promise<unknown>): Promise<number> {
  const ended = { value: false }
  const ending = work.finally(() => {
    ended.value = true
  })
  let longestMs = 0
  while (!ended.value) {
    const run = continueRun(device, makeEvents(1, { wire: crypto.randomBytes(WIRE_BYTES) }))
    const sentAtMs = performance.now()
    const [verdict] = await appendRuns(db, [run], { maxStreams: MAX_STREAMS })
    longestMs = Math.max(longestMs, performance.now() - sentAtMs)
    if (verdict?.status !== 'stored') throw new Error(`an event was not stored: ${verdict?.status}`)
  }
  await ending
  return longestMs
}
