// `npm run bench -- replay [--users 4] [--events 20000] [--rounds 5] [--profile FOLDER]`: how fast the log comes out of
// the server. Each user's log is filled straight into the database; then his receiver resumes from its beginning, all at
// once, and opens every frame and checks that the events come in order and all of them. The first round is a rehearsal.

import { randomBytes } from 'node:crypto'
import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { openPostgres } from '../src/db/postgres.ts'
import { appendRuns } from '../src/db/queries/events.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { createTestDatabase } from '../tests/support/database.ts'
import { findPostmaster } from './cpu.ts'
import { type CpuPerEvent, cpuBetween, takeSnapshot } from './cpu-window.ts'
import { resume } from './load.ts'
import { median } from './median.ts'
import { connectPeer } from './peer.ts'
import { optional, table, whole } from './report.ts'
import { type ServerProcess, startServer } from './server-process.ts'
import { type BenchUser, createUser, identityOf, registerUsers } from './users.ts'

/** A sealed event with 256 bytes of content: header, padded ciphertext, signature. */
const WIRE_BYTES = 540
const FILL_BATCH = 500

const { values: flags } = parseArgs({
  options: {
    users: { type: 'string', default: '4' },
    events: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '5' },
    profile: { type: 'string' },
  },
})
const eventsEach = Number(flags.events)

const database = await createTestDatabase()
const admin = new pg.Client({ connectionString: database.url })
await admin.connect()
const postmaster = await findPostmaster(admin)
await admin.end()
const server = await startServer({ databaseUrl: database.url, profileDir: flags.profile })
const rounds: { readonly eventsPerSecond: number; readonly cpu: CpuPerEvent }[] = []
try {
  const users = await Promise.all(Array.from({ length: Number(flags.users) }, createUser))
  await registerUsers(server.address, users)
  await fillLogs(database.url, users)
  for (let round = 0; round <= Number(flags.rounds); round++) {
    const result = await replay(server, users)
    if (round > 0) rounds.push(result)
  }
} finally {
  await server.close()
  await database.drop()
}
const [processor] = cpus()
console.log(
  `\nNode ${process.versions.node}, ${cpus().length} × ${processor?.model}, ${process.platform} ${process.arch}`,
)
console.log(`${flags.users} readers × ${whole(eventsEach)} events, ${flags.rounds} rounds, medians\n`)
console.log(formatRounds())

async function fillLogs(url: string, users: readonly BenchUser[]): Promise<void> {
  const log = createLog({ level: 'warn' })
  const db = await openPostgres({ url, poolSize: 2, log, metrics: createMetrics().database, slowQueryMs: 5000 })
  const wire = randomBytes(WIRE_BYTES)
  try {
    for (const { userId, publisher, streamId, log: deviceLog, firstChain } of users) {
      let chainPrev = firstChain
      for (let stored = 0; stored < eventsEach; stored += FILL_BATCH) {
        const events = Array.from({ length: Math.min(FILL_BATCH, eventsEach - stored) }, () => ({
          streamId,
          eventId: randomBytes(16),
          epoch: deviceLog.epoch.n,
          logSeq: deviceLog.seq,
          logHead: deviceLog.head,
          ttlS: 0,
          checkpoint: undefined,
          chain: randomBytes(32),
          wire,
        }))
        const run = { userId, deviceId: publisher.deviceId, firstSeq: stored + 1, chainPrev, events }
        const refused = (await appendRuns(db, [run])).find(({ status }) => status !== 'stored')
        if (refused !== undefined) throw new Error(`an event was not stored: ${refused.status}`)
        chainPrev = events.at(-1)?.chain ?? chainPrev
      }
    }
  } finally {
    await db.close()
  }
}

async function replay(target: ServerProcess, users: readonly BenchUser[]) {
  let received = 0
  let failure: Error | undefined
  const readers = await Promise.all(
    users.map((user) => {
      let last = 0
      return connectPeer({
        server: target.address,
        identity: identityOf(user, user.receiver),
        signer: user.receiver.signer,
        onEvent: (userSeq) => {
          if (userSeq !== ++last) failure ??= new Error(`expected event ${last}, got ${userSeq}`)
          received++
        },
        onLost: (error) => {
          failure ??= error
        },
      })
    }),
  )
  const begin = await takeSnapshot(target, postmaster, () => received)
  const startedAtMs = performance.now()
  await Promise.all(readers.map(resume))
  const seconds = (performance.now() - startedAtMs) / 1000
  const end = await takeSnapshot(target, postmaster, () => received)
  await Promise.all(readers.map((reader) => reader.close()))
  if (failure !== undefined) throw failure
  if (received !== users.length * eventsEach) throw new Error(`${received} events were received`)
  return { eventsPerSecond: received / seconds, cpu: cpuBetween(begin, end, availableParallelism()) }
}

function formatRounds(): string {
  const of = (read: (cpu: CpuPerEvent) => number | undefined): number | undefined => {
    const values = rounds.map(({ cpu }) => read(cpu)).filter((value) => value !== undefined)
    return values.length === 0 ? undefined : median(values)
  }
  const micros = (value: number): string => value.toFixed(1)
  const serverUs = of((cpu) => cpu.serverUs) ?? Number.NaN
  return table(
    ['replay', ''],
    [
      ['events a second received', whole(median(rounds.map(({ eventsPerSecond }) => eventsPerSecond)))],
      ['events a second of server CPU', whole(1_000_000 / serverUs)],
      ['server µs/event', micros(serverUs)],
      [
        'PostgreSQL µs/event',
        optional(
          of((cpu) => cpu.postgresUs),
          micros,
        ),
      ],
      [
        'load µs/event',
        optional(
          of((cpu) => cpu.loadUs),
          micros,
        ),
      ],
      [
        'CPU of others',
        optional(
          of((cpu) => cpu.foreignShare),
          (share) => `${Math.round(share * 100)} %`,
        ),
      ],
    ],
  )
}
