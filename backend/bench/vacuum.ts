// `npm run bench -- vacuum [--events 20000] [--bytes 540] [--rounds 8]`: how the embedded database grows while events are
// published and pruned, round after round: left alone, and vacuumed after each round in two ways. One user, on whom the
// quota keeps the events of half a round. Prints the size of the events with their indexes, and how long a vacuum took:
// everything else waits for it.

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runMigrations } from '../src/db/migrate.ts'
import { openPglite } from '../src/db/pglite.ts'
import type { Database } from '../src/db/postgres.ts'
import { appendRuns } from '../src/db/queries/events.ts'
import { countStoredBytes, pruneEvents } from '../src/db/queries/retention.ts'
import {
  addDevice,
  continueRun,
  createCapturedParts,
  makeEvents,
  type TestDevice,
} from '../tests/support/open-database.ts'
import { table, whole } from './report.ts'

const { values: flags } = parseArgs({
  options: {
    events: { type: 'string', default: '20000' },
    bytes: { type: 'string', default: '540' },
    rounds: { type: 'string', default: '8' },
  },
})
const [events, bytes, rounds] = [Number(flags.events), Number(flags.bytes), Number(flags.rounds)]
const BATCH_EVENTS = Math.max(1, Math.min(100, Math.floor(1_000_000 / bytes)))
const SWEEP_EVENTS = 250
const maxBytes = (events * bytes) / 2

const WAYS = {
  'left alone': undefined,
  'vacuumed, as the server does': 'vacuum',
  'vacuumed, indexes left': 'vacuum (index_cleanup off)',
}
const SIZES = {
  name: 'sizes',
  text: `
    select
      pg_relation_size('events')::float8 as heap,
      pg_indexes_size('events')::float8 as indexes,
      (pg_total_relation_size('events') - pg_relation_size('events') - pg_indexes_size('events'))::float8 as toast`,
}

for (const [name, vacuum] of Object.entries(WAYS)) {
  const folder = await mkdtemp(join(tmpdir(), 'valise-bench-'))
  const db = await openPglite({ ...createCapturedParts(1_000_000).parts, dataDir: join(folder, 'database') })
  try {
    await runMigrations(db)
    console.log(`\n${name}: ${whole(events)} events of ${whole(bytes)} bytes a round\n`)
    console.log(table(['round', 'heap MB', 'large wires MB', 'indexes MB', 'vacuum ms'], await run(db, vacuum)))
  } finally {
    await db.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function run(db: Database, vacuum: string | undefined): Promise<string[][]> {
  const device = await addDevice(db)
  const rows: string[][] = []
  for (let round = 1; round <= rounds; round++) {
    await publish(db, device)
    await prune(db, device.userId)
    const startedAtMs = performance.now()
    if (vacuum !== undefined) await db.query({ name: '', text: vacuum }, [])
    const tookMs = performance.now() - startedAtMs
    const [sizes] = await db.query<{ heap: number; toast: number; indexes: number }>(SIZES, [])
    if (sizes === undefined) throw new Error('no sizes')
    const megabytes = [sizes.heap, sizes.toast, sizes.indexes].map((size) => (size / 1e6).toFixed(1))
    rows.push([String(round), ...megabytes, vacuum === undefined ? '' : tookMs.toFixed(0)])
  }
  return rows
}

async function publish(db: Database, device: TestDevice): Promise<void> {
  for (let left = events; left > 0; left -= BATCH_EVENTS) {
    const batch = makeEvents(Math.min(left, BATCH_EVENTS)).map((event) => ({ ...event, wire: randomBytes(bytes) }))
    await appendRuns(db, [continueRun(device, batch)], { maxStreams: 10 })
  }
}

async function prune(db: Database, userId: Uint8Array): Promise<void> {
  while ((await countStoredBytes(db, [userId], 2 * SWEEP_EVENTS)).length > 0);
  while ((await pruneEvents(db, { reason: 'quota', maxBytes }, SWEEP_EVENTS)) !== undefined);
}
