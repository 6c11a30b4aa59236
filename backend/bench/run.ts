// `npm run bench`: measures the built server, as a process of its own, over real sockets from this process, and prints
// tables. Needs a PostgreSQL server at VALISE_TEST_DATABASE_URL (the script provides one); makes a database in it, and
// drops it. Ends everything it starts.

import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { measureBareRelay } from './bare-relay.ts'
import { type BaselineResult, measureBaseline } from './baseline.ts'
import { LOAD_CASES, type LoadCase, REHEARSAL, rehearse, runCase } from './cases.ts'
import { findPostmaster } from './cpu.ts'
import { formatBaselines, formatCases, formatConnections, formatRun, type MeasuredCase } from './report.ts'
import { createSealing, type Sealing } from './sealing.ts'
import { type ServerProcess, startServer } from './server-process.ts'
import { type ConnectionsResult, measureConnections } from './session-costs.ts'
import { type BenchUser, createUser, registerUsers } from './users.ts'

const USAGE = `npm run bench [-- --runs N] [--seconds N] [--only NAME,NAME…] [--profile FOLDER]
  --runs N          each load N times, medians of them (default 1)
  --seconds N       measured seconds of each load (default 4)
  --only NAMES      of: baseline, connections, ${LOAD_CASES.map(({ name }) => name).join(', ')}
  --profile FOLDER  writes a CPU profile of each server there`

interface Options {
  readonly runs: number
  readonly seconds: number
  readonly only: ReadonlySet<string>
  readonly profileDir: string | undefined
}

const IDLE_USERS = 500
const BASELINE_CONNECTIONS = [1, 8]
const BASELINE_MS = 2000

/** Rejects on Ctrl-C, so that what was started is ended first. */
const interrupted = new Promise<never>((_resolve, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => reject(new Error(signal)))
})
interrupted.catch(() => undefined)

const isWanted = ({ only }: Options, name: string): boolean => only.size === 0 || only.has(name)

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '1' },
      seconds: { type: 'string', default: '4' },
      only: { type: 'string', default: '' },
      profile: { type: 'string' },
    },
  })
  const runs = Number(values.runs)
  const seconds = Number(values.seconds)
  const only = new Set(values.only.split(',').filter((name) => name !== ''))
  const known = new Set(['baseline', 'connections', ...LOAD_CASES.map(({ name }) => name)])
  const isValid = Number.isInteger(runs) && runs > 0 && seconds > 0 && [...only].every((name) => known.has(name))
  if (!isValid) throw new TypeError('an option has a value it cannot have')
  return { runs, seconds, only, profileDir: values.profile }
}

async function measure(options: Options, databaseUrl: string, postmaster: number | undefined): Promise<void> {
  const baselines: BaselineResult[] = []
  if (isWanted(options, 'baseline')) {
    for (const connections of BASELINE_CONNECTIONS) {
      baselines.push(await measureBaseline(databaseUrl, connections, BASELINE_MS))
    }
    for (const stored of ['insert', 'append'] as const) {
      baselines.push(await measureBareRelay(databaseUrl, stored, BASELINE_MS))
    }
  }
  const sealing = createSealing()
  const cases: MeasuredCase[] = []
  let connections: ConnectionsResult | undefined
  try {
    for (const database of ['postgres', 'pglite'] as const) {
      const loads = LOAD_CASES.filter((load) => load.database === database && isWanted(options, load.name))
      const isConnecting = database === 'postgres' && isWanted(options, 'connections')
      if (loads.length === 0 && !isConnecting) continue
      const server = await startServer({
        databaseUrl: database === 'postgres' ? databaseUrl : undefined,
        profileDir: options.profileDir && makeFolder(join(options.profileDir, database)),
      })
      const measureServer = async (): Promise<void> => {
        const needed = loads.reduce((sum, load) => sum + load.users * options.runs, 0)
        await rehearse(server, sealing, await createUsers(server, REHEARSAL.users))
        const users = await createUsers(server, Math.max(needed, isConnecting ? IDLE_USERS : 0))
        if (isConnecting) connections = await measureConnections(server, users, () => startServer({ databaseUrl }))
        cases.push(...(await measureLoads(options, { loads, server, sealing, users, postmaster })))
      }
      try {
        await Promise.race([measureServer(), interrupted])
      } finally {
        await server.close()
      }
    }
  } finally {
    await sealing.close()
  }
  const tables = [
    cases.length > 0 ? formatCases(cases) : undefined,
    baselines.length > 0 ? formatBaselines(baselines) : undefined,
    connections && formatConnections(connections),
  ]
  console.log(`\n${tables.filter((text) => text !== undefined).join('\n\n')}\n`)
}

interface LoadsParts {
  readonly loads: readonly LoadCase[]
  readonly server: ServerProcess
  readonly sealing: Sealing
  readonly users: readonly BenchUser[]
  readonly postmaster: number | undefined
}

/** Every run of every load has users of its own, so each begins with an empty log. */
async function measureLoads(options: Options, parts: LoadsParts): Promise<MeasuredCase[]> {
  const unused = [...parts.users]
  const measured: MeasuredCase[] = []
  for (const load of parts.loads) {
    const results = []
    for (let run = 1; run <= options.runs; run++) {
      const users = unused.splice(0, load.users)
      const result = await runCase(load, {
        ...parts,
        users,
        seconds: options.seconds,
        cores: availableParallelism(),
      })
      console.log(`${load.name}, run ${run}: ${formatRun(result)}`)
      results.push(result)
    }
    measured.push({ load, results })
  }
  return measured
}

async function createUsers(server: ServerProcess, count: number): Promise<BenchUser[]> {
  const users: BenchUser[] = []
  for (let i = 0; i < count; i++) users.push(await createUser())
  await registerUsers(server.address, users)
  return users
}

function makeFolder(folder: string): string {
  mkdirSync(folder, { recursive: true })
  return folder
}

async function main(): Promise<void> {
  const options = readOptions()
  const adminUrl = process.env['VALISE_TEST_DATABASE_URL']
  if (adminUrl === undefined) throw new Error('VALISE_TEST_DATABASE_URL is not set: run `npm run bench`')
  const admin = new pg.Client({ connectionString: adminUrl })
  await admin.connect()
  const name = `valise_bench_${randomBytes(4).toString('hex')}`
  try {
    const { rows } = await admin.query<{ version: string }>(`select current_setting('server_version') as version`)
    const [processor] = cpus()
    console.log(
      `Node ${process.versions.node}, PostgreSQL ${rows[0]?.version}, ${cpus().length} × ${processor?.model}, ` +
        `${process.platform} ${process.arch}; ${options.runs} × ${options.seconds} s a load`,
    )
    await admin.query(`create database ${name}`)
    const url = new URL(adminUrl)
    url.pathname = `/${name}`
    await measure(options, url.href, await findPostmaster(admin))
  } finally {
    await admin.query(`drop database if exists ${name} with (force)`)
    await admin.end()
  }
}

try {
  await main()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  if (error instanceof TypeError) console.error(USAGE)
  // Whatever was still measuring when it was interrupted would keep the process alive.
  process.exit(1)
}
