// `npm run bench -- rotation [--pairs 5] [--seconds 4] [--users 10] [--in-flight 8] [--sealed-per-second 25000]`: what new
// keys every 1000 events cost. Two servers on one PostgreSQL, one that rotates and one that hardly ever does, take the
// same load in turns, the first of each pair by turns, so that what else the machine does meets both; the cost is the
// median over the pairs. And the CPU time of one rotation by itself.

import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { createSessionChannel, type SessionSecrets } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import pg from 'pg'
import { createTestDatabase } from '../tests/support/database.ts'
import { type CaseResult, type LoadCase, runCase } from './cases.ts'
import { findPostmaster } from './cpu.ts'
import { median } from './median.ts'
import { formatRun, table, whole } from './report.ts'
import { createSealing } from './sealing.ts'
import { type ServerProcess, startServer } from './server-process.ts'
import { createUser, registerUsers } from './users.ts'

const { values: flags } = parseArgs({
  options: {
    pairs: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    users: { type: 'string', default: '10' },
    'in-flight': { type: 'string', default: '8' },
    'sealed-per-second': { type: 'string', default: '25000' },
  },
})
const ROTATIONS_MEASURED = 1000
const load: LoadCase = {
  name: 'rotation',
  database: 'postgres',
  users: Number(flags.users),
  inFlight: Number(flags['in-flight']),
  sealedPerSecond: Number(flags['sealed-per-second']),
}

interface Side {
  readonly title: string
  readonly server: ServerProcess
  readonly results: CaseResult[]
  /** Of both directions of all its sessions. */
  rotations: number
}

const database = await createTestDatabase()
const startSide = async (title: string, rotateAfterEvents: number): Promise<Side> => ({
  title,
  server: await startServer({
    databaseUrl: database.url,
    environment: { VALISE_SESSION_ROTATE_AFTER_EVENTS: String(rotateAfterEvents), VALISE_LOG_LEVEL: 'warn' },
  }),
  results: [],
  rotations: 0,
})
const admin = new pg.Client({ connectionString: database.url })
await admin.connect()
const postmaster = await findPostmaster(admin)
await admin.end()
const sealing = createSealing()
const sides = [await startSide('new keys every 1000 events', 1000), await startSide('without', 1_000_000)]
try {
  // The first run of each is a rehearsal: code gets compiled.
  for (let pair = 0; pair <= Number(flags.pairs); pair++) {
    for (const side of pair % 2 === 0 ? sides : [...sides].reverse()) {
      const result = await run(side)
      if (pair === 0) continue
      side.results.push(result)
      console.log(`pair ${pair}, ${side.title}: ${formatRun(result)}`)
    }
  }
  for (const side of sides) side.rotations = (await side.server.readMetric('valise_session_rotations_total')) ?? 0
} finally {
  for (const { server } of sides) await server.close()
  await sealing.close()
  await database.drop()
}
const [processor] = cpus()
console.log(
  `\nNode ${process.versions.node}, ${cpus().length} × ${processor?.model}, ${process.platform} ${process.arch}`,
)
console.log(`${load.users} users × ${load.inFlight} in flight, ${flags.pairs} pairs of ${flags.seconds} s, medians\n`)
console.log(formatSides())
console.log(`\nOne rotation by itself costs the server ${whole(measureRotationUs())} µs of CPU time.`)

/** The server's half: its key share, the shared secret, the key schedule, and both directions' new keys. */
function measureRotationUs(): number {
  // A channel overwrites what it is given, so each gets its own.
  const createSecrets = (): SessionSecrets => ({
    masterSecret: new Uint8Array(32).fill(1),
    transcriptHash: new Uint8Array(32).fill(2),
    clientTraffic: new Uint8Array(32).fill(3),
    serverTraffic: new Uint8Array(32).fill(4),
    sessionId: new Uint8Array(16),
  })
  const client = createSessionChannel({ crypto, role: 'client', secrets: createSecrets() })
  const server = createSessionChannel({ crypto, role: 'server', secrets: createSecrets() })
  let spentUs = 0
  const serve = (frame: Uint8Array): Uint8Array[] => {
    const before = process.cpuUsage()
    const received = server.receive(frame)
    const { user, system } = process.cpuUsage(before)
    spentUs += user + system
    return received.type === 'rekey' ? received.replies : []
  }
  for (let rotation = -ROTATIONS_MEASURED; rotation < ROTATIONS_MEASURED; rotation++) {
    // The first half compiles the code.
    if (rotation === 0) spentUs = 0
    for (const reply of serve(client.startRekey())) {
      const received = client.receive(reply)
      if (received.type === 'rekey') for (const done of received.replies) serve(done)
    }
  }
  if (server.phase() !== 2 * ROTATIONS_MEASURED) throw new Error('the rotations did not take place')
  return spentUs / ROTATIONS_MEASURED
}

async function run({ server }: Side): Promise<CaseResult> {
  const users = await Promise.all(Array.from({ length: load.users }, createUser))
  await registerUsers(server.address, users)
  const seconds = Number(flags.seconds)
  return runCase(load, { server, sealing, users, postmaster, seconds, cores: availableParallelism() })
}

function formatSides(): string {
  const rows = sides.map(({ title, results, rotations }) => [
    title,
    whole(median(results.map(({ eventsPerSecond }) => eventsPerSecond))),
    median(results.map(({ p50Ms }) => p50Ms)).toFixed(2),
    median(results.map(({ cpu }) => cpu.serverUs)).toFixed(1),
    median(results.map(({ cpu }) => cpu.loadUs)).toFixed(1),
    whole(rotations),
  ])
  const cost = (read: (result: CaseResult) => number, sign: 1 | -1): string => {
    const ratios = (sides[0]?.results ?? []).map((result, i) => {
      const other = sides[1]?.results[i]
      return other === undefined ? Number.NaN : read(result) / read(other)
    })
    return `${((median(ratios) - 1) * 100 * sign).toFixed(1)} %`
  }
  rows.push([
    'cost, median of the pairs',
    cost(({ eventsPerSecond }) => eventsPerSecond, -1),
    cost(({ p50Ms }) => p50Ms, 1),
    cost(({ cpu }) => cpu.serverUs, 1),
    cost(({ cpu }) => cpu.loadUs, 1),
    '',
  ])
  return table(['', 'events/s', 'p50 ms', 'server µs/event', 'load µs/event', 'rotations'], rows)
}
