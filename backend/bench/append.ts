// `npm run bench -- append [--seconds 5] [--devices 50] [--in-flight 2]`: how fast the log stores. Batches go straight
// into appendRuns, no sockets; prints events a second and the time of a batch by its size, for PostgreSQL and for the
// embedded database in a folder. What it writes is removed at the end.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { runMigrations } from '../src/db/migrate.ts'
import { openPglite } from '../src/db/pglite.ts'
import { type Database, openPostgres } from '../src/db/postgres.ts'
import { appendRuns } from '../src/db/queries/events.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { createTestDatabase } from '../tests/support/database.ts'
import { addDevice, makeBatch } from './append-batches.ts'

const BATCH_SIZES = [1, 10, 25, 100, 250, 500]

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    devices: { type: 'string', default: '50' },
    'in-flight': { type: 'string', default: '2' },
  },
})
const parts = { log: createLog({ level: 'warn' }), metrics: createMetrics().database, slowQueryMs: 1000 }

const database = await createTestDatabase()
await report(await openPostgres({ ...parts, url: database.url, poolSize: 8 }))
await database.drop()
const folder = await mkdtemp(join(tmpdir(), 'valise-bench-'))
await report(await openPglite({ ...parts, dataDir: folder }))
await rm(folder, { recursive: true })

async function report(db: Database): Promise<void> {
  await runMigrations(db)
  const rows: Record<string, unknown>[] = []
  for (const batchSize of BATCH_SIZES) rows.push(await measure(db, batchSize))
  await db.close()
  console.table(rows)
}

/** Batches of different users in flight at once, as the intake sends them. */
async function measure(target: Database, batchSize: number): Promise<Record<string, unknown>> {
  const lanes = await Promise.all(
    Array.from({ length: Number(flags['in-flight']) }, () =>
      Promise.all(Array.from({ length: Number(flags.devices) }, () => addDevice(target))),
    ),
  )
  const durations: number[] = []
  const startedAtMs = performance.now()
  const endAtMs = startedAtMs + Number(flags.seconds) * 1000
  const cpuBefore = process.cpuUsage()
  await Promise.all(
    lanes.map(async (devices) => {
      for (let turn = 0; performance.now() < endAtMs; turn++) {
        const runs = makeBatch(devices, batchSize, turn)
        const sentAtMs = performance.now()
        const verdicts = await appendRuns(target, runs)
        durations.push(performance.now() - sentAtMs)
        const refused = verdicts.find((verdict) => verdict.status !== 'stored')
        if (refused !== undefined) throw new Error(`an event was not stored: ${refused.status}`)
      }
    }),
  )
  const seconds = (performance.now() - startedAtMs) / 1000
  const cpu = process.cpuUsage(cpuBefore)
  durations.sort((a, b) => a - b)
  const events = durations.length * batchSize
  return {
    database: target.kind,
    'events a batch': batchSize,
    'events a second': Math.round(events / seconds),
    'batch p50 ms': Number((durations[durations.length >> 1] ?? 0).toFixed(2)),
    'batch p99 ms': Number((durations[Math.floor(durations.length * 0.99)] ?? 0).toFixed(2)),
    'client CPU µs an event': Number(((cpu.user + cpu.system) / events).toFixed(1)),
  }
}
