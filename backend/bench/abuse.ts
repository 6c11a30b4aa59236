// `npm run bench -- abuse [--seconds 5] [--connections 20] [--only NAME,…] [--database postgres|pglite|both]`: what abusers
// of each kind cost others, on a server with its default limits. Another user publishes one event at a time, first with
// nobody else there and then meanwhile, and an honest device connects twice a second. Aims: p50 within 5 times of idle, every
// handshake within 2 s, 64 MiB more memory at most.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { createTestDatabase } from '../tests/support/database.ts'
import { ABUSE_KINDS } from './abuse-kinds.ts'
import type { AbuseOrder, AbuseReport } from './abuse-process.ts'
import { median } from './median.ts'
import { encodePublish } from './messages.ts'
import { connectPeer } from './peer.ts'
import { table, whole } from './report.ts'
import { createSealing, type SealedRun } from './sealing.ts'
import { type ServerProcess, startServer } from './server-process.ts'
import { type BenchUser, createUser, identityOf, registerUsers } from './users.ts'

const HONEST = '127.0.0.2'
const OTHER_HONEST = '127.1.0.2'
const EVENT_EVERY_MS = 20
const HANDSHAKE_EVERY_MS = 500
const MEBIBYTE = 1024 * 1024
const AIMS = { ratio: 5, handshakeMs: 2000, mebibytes: 64 }

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    connections: { type: 'string', default: '20' },
    only: { type: 'string', default: '' },
    database: { type: 'string', default: 'both' },
  },
})
const measureMs = Number(flags.seconds) * 1000
const connections = Number(flags.connections)
const only = new Set(flags.only.split(',').filter((name) => name !== ''))
const kinds = Object.keys(ABUSE_KINDS).filter((kind) => only.size === 0 || only.has(kind))
const databases = (['postgres', 'pglite'] as const).filter(
  (name) => flags.database === 'both' || flags.database === name,
)

function* payloadsOf(sealed: SealedRun | undefined): Generator<Uint8Array, undefined> {
  const { elements, starts } = sealed ?? { elements: new Uint8Array(0), starts: [0] }
  for (let i = 0; i + 1 < starts.length; i++) yield encodePublish(elements.subarray(starts[i], starts[i + 1]), 1)
  return undefined
}

interface Latencies {
  readonly p50Ms: number
  readonly p99Ms: number
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** One event at a time, each so long after the one before. An event without a receipt counts as long as was waited. */
async function publishFor(server: ServerProcess, user: BenchUser, payloads: Iterator<Uint8Array>): Promise<Latencies> {
  let answered: (() => void) | undefined
  const peer = await connectPeer({
    server: server.address,
    identity: identityOf(user, user.publisher),
    signer: user.publisher.signer,
    localAddress: HONEST,
    onReceipt: () => answered?.(),
    onLost: () => undefined,
  })
  const latencies: number[] = []
  const endsAtMs = performance.now() + measureMs
  while (performance.now() < endsAtMs) {
    const payload = payloads.next().value
    if (payload === undefined) throw new Error('too few events were sealed')
    const startedAtMs = performance.now()
    const receipt = new Promise<void>((resolve) => {
      answered = resolve
    })
    peer.sendEncoded(payload)
    await Promise.race([receipt, pause(30_000)])
    latencies.push(performance.now() - startedAtMs)
    await pause(EVENT_EVERY_MS)
  }
  await peer.close()
  const sorted = [...latencies].sort((a, b) => a - b)
  return { p50Ms: median(latencies), p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN }
}

/** The slowest of an honest device's handshakes; one that fails counts as what was waited, and is tried again. */
async function connectFor(server: ServerProcess, user: BenchUser): Promise<number> {
  let slowestMs = 0
  const endsAtMs = performance.now() + measureMs
  while (performance.now() < endsAtMs) {
    const startedAtMs = performance.now()
    for (;;) {
      const peer = await connectPeer({
        server: server.address,
        identity: identityOf(user, user.receiver),
        signer: user.receiver.signer,
        localAddress: OTHER_HONEST,
        onLost: () => undefined,
      }).catch(() => undefined)
      await peer?.close()
      if (peer !== undefined || performance.now() - startedAtMs > 20_000) break
      await pause(100)
    }
    slowestMs = Math.max(slowestMs, performance.now() - startedAtMs)
    await pause(HANDSHAKE_EVERY_MS)
  }
  return slowestMs
}

interface Outcome {
  readonly idle: Latencies
  readonly busy: Latencies
  readonly slowestHandshakeMs: number
  readonly grownMebibytes: number
  readonly sent: number
}

async function measureKind(kind: string, databaseUrl: string | undefined): Promise<Outcome> {
  const server = await startServer({ databaseUrl, hasDefaultLimits: true })
  const sealing = createSealing()
  const order: AbuseOrder = {
    kind,
    url: server.address.url,
    fingerprint: Buffer.from(server.address.fingerprint).toString('hex'),
    connections,
  }
  const abuser = fork(new URL('./abuse-process.js', import.meta.url), [JSON.stringify(order)])
  const reports: AbuseReport[] = []
  abuser.on('message', (report) => void reports.push(report as AbuseReport))
  const ended = once(abuser, 'exit')
  const untilReport = async (type: AbuseReport['type']): Promise<Extract<AbuseReport, { sent: number }>> => {
    for (;;) {
      const failed = reports.find((report) => report.type === 'failed')
      if (failed?.type === 'failed') throw new Error(`the abuser of ${kind} failed: ${failed.reason}`)
      const found = reports.find((report) => report.type === type)
      if (found !== undefined && found.type !== 'failed') return found
      if (abuser.exitCode !== null) throw new Error(`the abuser of ${kind} ended early`)
      await pause(20)
    }
  }
  try {
    const user = await createUser()
    await registerUsers(server.address, [user], () => HONEST)
    await untilReport('ready')
    const count = Math.ceil((3 * measureMs) / EVENT_EVERY_MS) + 100
    const [sealed] = await sealing.seal([user], count, 256)
    const payloads = payloadsOf(sealed)
    const idle = await publishFor(server, user, payloads)
    const before = (await server.readUsage({ isCollected: true })).rssBytes
    abuser.send('begin')
    let peak = before
    const watching = setInterval(() => {
      void server.readUsage().then(
        ({ rssBytes }) => {
          peak = Math.max(peak, rssBytes)
        },
        () => undefined,
      )
    }, 250)
    const [busy, slowestHandshakeMs] = await Promise.all([publishFor(server, user, payloads), connectFor(server, user)])
    clearInterval(watching)
    abuser.send('stop')
    const { sent } = await untilReport('stopped')
    return { idle, busy, slowestHandshakeMs, grownMebibytes: (peak - before) / MEBIBYTE, sent }
  } finally {
    abuser.kill('SIGKILL')
    await ended
    await sealing.close()
    await server.close()
  }
}

const rows: string[][] = []
for (const database of databases) {
  for (const kind of kinds) {
    const own = database === 'postgres' ? await createTestDatabase() : undefined
    try {
      const { idle, busy, slowestHandshakeMs, grownMebibytes, sent } = await measureKind(kind, own?.url)
      const ratio = busy.p50Ms / idle.p50Ms
      const isWell = ratio <= AIMS.ratio && slowestHandshakeMs <= AIMS.handshakeMs && grownMebibytes <= AIMS.mebibytes
      rows.push([
        kind,
        database,
        `${idle.p50Ms.toFixed(2)} → ${busy.p50Ms.toFixed(2)}`,
        ratio.toFixed(1),
        (busy.p99Ms / idle.p99Ms).toFixed(1),
        whole(slowestHandshakeMs),
        whole(grownMebibytes),
        whole(sent),
        isWell ? 'yes' : 'no',
      ])
      console.log(rows.at(-1)?.join(' · '))
    } finally {
      await own?.drop()
    }
  }
}
const head = ['abuse', 'database', 'p50 ms', 'ratio', 'p99 ratio', 'handshake ms', 'MiB', 'sent', 'within the aims']
console.log(`\n${table(head, rows)}\n`)
