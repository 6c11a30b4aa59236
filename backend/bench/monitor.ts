// `npm run bench -- monitor [--seconds 4]`: what it costs that every query is counted and timed. One and the same query
// that takes no time runs with the monitor and without, in turns; beside it stands what an event costs the server in the
// same run, and how many queries it makes.

import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { createQueryMonitor, type QueryMonitor, type Statement } from '../src/db/postgres.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { createTestDatabase } from '../tests/support/database.ts'
import { LOAD_CASES, REHEARSAL, rehearse, runCase } from './cases.ts'
import { findPostmaster } from './cpu.ts'
import { median } from './median.ts'
import { table } from './report.ts'
import { createSealing } from './sealing.ts'
import { startServer } from './server-process.ts'
import { type BenchUser, createUser, registerUsers } from './users.ts'

const PAIRS = 25
const QUERIES_A_TURN = 20_000
const MEASURED = ['1x1', '10x8']
/** The aim: of an event's CPU time on the server. */
const MAX_SHARE = 0.02

const { values: flags } = parseArgs({ options: { seconds: { type: 'string', default: '4' } } })

const monitorUs = await measureMonitorUs()
const rows = await measureLoads()
const [processor] = cpus()
console.log(
  `\nNode ${process.versions.node}, ${cpus().length} × ${processor?.model}, ${process.platform} ${process.arch}`,
)
console.log(`The monitor costs ${monitorUs.toFixed(2)} µs of CPU time a query, median of ${PAIRS} pairs.\n`)
console.log(
  table(
    [
      'users × in flight',
      'server µs/event',
      'queries an event',
      'monitor µs/event',
      `share (aim ${MAX_SHARE * 100} %)`,
    ],
    rows,
  ),
)

async function measureMonitorUs(): Promise<number> {
  const { database: metrics } = createMetrics()
  const monitored = createQueryMonitor({ log: createLog({ level: 'warn' }), metrics, slowQueryMs: 1000 })
  const bare: QueryMonitor = (_statement, run) => run({ waitMs: 0 })
  const statement: Statement = { name: 'nothing', text: 'select' }
  const noRows: never[] = []
  const measureTurn = async (monitor: QueryMonitor): Promise<number> => {
    const before = process.cpuUsage()
    for (let i = 0; i < QUERIES_A_TURN; i++) await monitor(statement, async () => noRows)
    const { user, system } = process.cpuUsage(before)
    return (user + system) / QUERIES_A_TURN
  }
  const costsUs: number[] = []
  // The first pair compiles the code.
  for (let pair = 0; pair <= PAIRS; pair++) {
    const withoutUs = await measureTurn(bare)
    const withUs = await measureTurn(monitored)
    if (pair > 0) costsUs.push(withUs - withoutUs)
  }
  return median(costsUs)
}

async function measureLoads(): Promise<string[][]> {
  const database = await createTestDatabase()
  const admin = new pg.Client({ connectionString: database.url })
  await admin.connect()
  const postmaster = await findPostmaster(admin)
  await admin.end()
  const sealing = createSealing()
  const server = await startServer({ databaseUrl: database.url })
  const createUsers = async (count: number): Promise<BenchUser[]> => {
    const users = await Promise.all(Array.from({ length: count }, createUser))
    await registerUsers(server.address, users)
    return users
  }
  const readCounts = async () => ({
    queries: (await server.readMetric('database_queries_total')) ?? Number.NaN,
    events: (await server.readMetric('valise_events_stored_total')) ?? Number.NaN,
  })
  const measured: string[][] = []
  try {
    await rehearse(server, sealing, await createUsers(REHEARSAL.users))
    for (const load of LOAD_CASES.filter(({ name }) => MEASURED.includes(name))) {
      const users = await createUsers(load.users)
      const before = await readCounts()
      const seconds = Number(flags.seconds)
      const { cpu } = await runCase(load, {
        server,
        sealing,
        users,
        postmaster,
        seconds,
        cores: availableParallelism(),
      })
      const after = await readCounts()
      const queries = (after.queries - before.queries) / (after.events - before.events)
      const ofMonitorUs = queries * monitorUs
      measured.push([
        `${load.users} × ${load.inFlight}`,
        cpu.serverUs.toFixed(1),
        queries.toFixed(3),
        ofMonitorUs.toFixed(3),
        `${((ofMonitorUs / cpu.serverUs) * 100).toFixed(2)} %`,
      ])
    }
  } finally {
    await server.close()
    await sealing.close()
    await database.drop()
  }
  return measured
}
