// `npm run bench -- connections [--devices 10000] [--rest-seconds 10] [--drain-seconds 30]`: one node with PostgreSQL and
// Redis, and as many idle devices as asked for. Prints what one of them costs in memory, what all of them cost in CPU
// time at rest, and how many connections to Redis the node needs. Then two ways to be deployed anew. A drain: the node
// gets SIGTERM and lets them go over its window, each to a second node that is already there. A storm: that one gets
// SIGTERM without a window and closes all of them at once, a new one starts on the same port when it has ended, and from
// the moment it listens they come back as fast as they can, with jittered backoff on failure.

import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createClient } from '@redis/client'
import { createTestDatabase } from '../tests/support/database.ts'
import { connectIdle, createIdleDevices, type IdleDevice } from './idle-devices.ts'
import type { Peer } from './peer.ts'
import { table, whole } from './report.ts'
import { type ServerProcess, startServer } from './server-process.ts'
import { forEachAtOnce } from './users.ts'

const HANDSHAKES_AT_ONCE = 32
const REHEARSAL_DEVICES = 500
/** One process plays all devices: more attempts at once than it can serve itself would measure nothing but itself. */
const STORM = { attemptsAtOnce: 512, firstWaitMs: 100, mostWaitMs: 5000 }
/** By then a device that is not back counts as lost, and the run fails. */
const patienceMs = (devices: number): number => 60_000 + 20 * devices
const DRAIN_PARTS = 10

const { values: flags } = parseArgs({
  options: {
    devices: { type: 'string', default: '10000' },
    'rest-seconds': { type: 'string', default: '10' },
    'drain-seconds': { type: 'string', default: '30' },
  },
})
const deviceCount = Number(flags.devices)
const restMs = Number(flags['rest-seconds']) * 1000
const drainMs = Number(flags['drain-seconds']) * 1000
const redisUrl = process.env['VALISE_TEST_REDIS_URL']
if (redisUrl === undefined) throw new Error('VALISE_TEST_REDIS_URL is not set: run `npm run bench -- connections`')

const rows: string[][] = []
const database = await createTestDatabase()
const identityFolder = await mkdtemp(join(tmpdir(), 'valise-bench-'))
const environment = {
  REDIS_URL: redisUrl,
  VALISE_IDENTITY_FILE: join(identityFolder, 'identity.key'),
  VALISE_LOG_LEVEL: 'warn',
}
const start = (port: string, windowMs: number): Promise<ServerProcess> =>
  startServer({
    databaseUrl: database.url,
    environment: { ...environment, PORT: port, VALISE_DRAIN_MS: String(windowMs) },
  })
const peers = new Map<IdleDevice, Peer>()
/** Called with each device whose connection ended. */
let onLost = (_device: IdleDevice): void => undefined
let server = await start('0', drainMs)
try {
  const devices = await createIdleDevices(database.url, deviceCount)
  await rehearse(devices.slice(0, REHEARSAL_DEVICES))
  await measureIdle(devices)
  await measureDrain(devices)
  await measureStorm(devices)
} finally {
  onLost = () => undefined
  await Promise.all([...peers.values()].map((peer) => peer.close()))
  await server.close()
  await database.drop()
  await rm(identityFolder, { recursive: true, force: true })
}
const [processor] = cpus()
console.log(
  `\nNode ${process.versions.node}, ${cpus().length} × ${processor?.model}, ${process.platform} ${process.arch}\n`,
)
console.log(table([`${whole(deviceCount)} idle devices, one node, Redis`, ''], rows))

/** Said at once, too: a run is long. */
function note(what: string, value: string): void {
  console.log(`${what}: ${value}`)
  rows.push([what, value])
}

/** Code gets compiled, and pools and heap take their size, before anything is measured. */
async function rehearse(devices: readonly IdleDevice[]): Promise<void> {
  await connectAll(devices)
  await Promise.all([...peers.values()].map((peer) => peer.close()))
  peers.clear()
}

async function measureIdle(devices: readonly IdleDevice[]): Promise<void> {
  const without = await server.readUsage({ isCollected: true })
  await connectAll(devices)
  const idle = await server.readUsage({ isCollected: true })
  const perDevice = (read: (usage: typeof idle) => number): string =>
    `${((read(idle) - read(without)) / devices.length / 1000).toFixed(1)} KB`
  note(
    'resident memory a device',
    perDevice(({ rssBytes }) => rssBytes),
  )
  note(
    '  of it JavaScript heap and buffers',
    perDevice(({ heapBytes }) => heapBytes),
  )
  note('resident memory of the whole server', `${whole(idle.rssBytes / 1e6)} MB`)
  const connections = await readRedisConnections()
  const subscribers = connections.filter(({ name }) => name.includes('subscriber'))
  note('connections of the server to Redis', String(connections.length))
  note('  of them subscribers', String(subscribers.length))
  note('  channels they listen on', whole(subscribers.reduce((sum, { channels }) => sum + channels, 0)))
  note('redis_subscribers_active', whole((await server.readMetric('redis_subscribers_active')) ?? Number.NaN))
  const begun = await server.readUsage()
  const begunAtMs = performance.now()
  await new Promise((resolve) => setTimeout(resolve, restMs))
  const share = ((await server.readUsage()).cpuMs - begun.cpuMs) / (performance.now() - begunAtMs)
  note('CPU at rest, of one core', `${(share * 100).toFixed(1)} %`)
}

/** Each device goes to the second node as soon as the first one closes it. */
async function measureDrain(devices: readonly IdleDevice[]): Promise<void> {
  const draining = server
  const next = await start(String(await findFreePort()), 0)
  const lostAfterMs: number[] = []
  const backAfterMs: number[] = []
  const signalledAtMs = performance.now()
  const moves: Promise<void>[] = []
  let failedAttempts = 0
  onLost = (device) => {
    if (!peers.delete(device)) return
    lostAfterMs.push(performance.now() - signalledAtMs)
    const move = comeBack(next, device, signalledAtMs + drainMs).then((result) => {
      failedAttempts += result.failedAttempts
      if (result.isBack) backAfterMs.push(performance.now() - signalledAtMs)
    })
    moves.push(move)
  }
  server = next
  await draining.close()
  await Promise.all(moves)
  const histogram = (times: readonly number[]): string => {
    const counts = Array.from({ length: DRAIN_PARTS + 1 }, () => 0)
    for (const time of times) {
      const part = Math.min(DRAIN_PARTS, Math.floor((time / drainMs) * DRAIN_PARTS))
      counts[part] = (counts[part] ?? 0) + 1
    }
    return counts.map(whole).join(', ')
  }
  note('drain window', `${drainMs / 1000} s`)
  note('  let go in each tenth of it, and after', histogram(lostAfterMs))
  note('  back in each tenth of it, and after', histogram(backAfterMs))
  tellBack(backAfterMs.length, devices.length)
  note('  attempts that failed meanwhile', whole(failedAttempts))
}

async function measureStorm(devices: readonly IdleDevice[]): Promise<void> {
  onLost = (device) => peers.delete(device)
  const { port } = new URL(server.address.url)
  const signalledAtMs = performance.now()
  await server.close()
  const endedAtMs = performance.now()
  server = await start(port, 0)
  const listensAtMs = performance.now()
  const cpuBefore = process.cpuUsage()
  const backAfterMs: number[] = []
  let failedAttempts = 0
  await forEachAtOnce(devices, STORM.attemptsAtOnce, async (device) => {
    const result = await comeBack(server, device, listensAtMs)
    failedAttempts += result.failedAttempts
    if (result.isBack) backAfterMs.push(performance.now() - listensAtMs)
  })
  const usage = await server.readUsage()
  const { user, system } = process.cpuUsage(cpuBefore)
  const active = await server.readMetric('redis_subscribers_active')
  backAfterMs.sort((a, b) => a - b)
  const after = (share: number): string =>
    `${((backAfterMs[Math.ceil(share * devices.length) - 1] ?? Number.NaN) / 1000).toFixed(1)} s`
  note('SIGTERM without a window until the node had ended', `${((endedAtMs - signalledAtMs) / 1000).toFixed(1)} s`)
  note('until the new one listened', `${((listensAtMs - endedAtMs) / 1000).toFixed(1)} s`)
  tellBack(backAfterMs.length, devices.length)
  note('  half, 99 %, all of them after', `${after(0.5)}, ${after(0.99)}, ${after(1)}`)
  note('  attempts that failed meanwhile', whole(failedAttempts))
  note('  CPU of the new node until then, a device', `${(usage.cpuMs / devices.length).toFixed(2)} ms`)
  note('  CPU of the load generator, a device', `${((user + system) / 1000 / devices.length).toFixed(2)} ms`)
  note('redis_subscribers_active', whole(active ?? Number.NaN))
}

interface Return {
  readonly isBack: boolean
  readonly failedAttempts: number
}

/** Tries until it is back, or until it has had its time since `sinceMs`. */
async function comeBack(target: ServerProcess, device: IdleDevice, sinceMs: number): Promise<Return> {
  let failedAttempts = 0
  while (performance.now() - sinceMs < patienceMs(deviceCount)) {
    try {
      peers.set(device, await connectIdle(target.address, device, () => onLost(device)))
      return { isBack: true, failedAttempts }
    } catch {
      const mostMs = Math.min(STORM.mostWaitMs, STORM.firstWaitMs * 2 ** failedAttempts++)
      await new Promise((later) => setTimeout(later, Math.random() * mostMs))
    }
  }
  return { isBack: false, failedAttempts }
}

function tellBack(count: number, all: number): void {
  note('  back, of all', `${whole(count)} of ${whole(all)}`)
  if (count === all) return
  console.error(
    `${whole(all - count)} devices were not back within ${patienceMs(all) / 1000} s. Fewer, with --devices?`,
  )
  process.exitCode = 1
}

async function connectAll(devices: readonly IdleDevice[]): Promise<void> {
  await forEachAtOnce(devices, HANDSHAKES_AT_ONCE, async (device) => {
    peers.set(device, await connectIdle(server.address, device, () => onLost(device)))
  })
}

async function readRedisConnections(): Promise<{ name: string; channels: number }[]> {
  const client = createClient({ url: redisUrl ?? '', RESP: 2, socket: { reconnectStrategy: false } })
  await client.connect()
  const lines = String(await client.sendCommand(['CLIENT', 'LIST'])).split('\n')
  client.destroy()
  return lines
    .map((line) => ({
      name: / name=(\S*)/.exec(line)?.[1] ?? '',
      channels: Number(/ sub=(\d+)/.exec(line)?.[1] ?? 0),
    }))
    .filter(({ name }) => name.startsWith('valise-'))
}

async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port was assigned')
  return address.port
}
