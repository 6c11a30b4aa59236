// The same through whole servers: real sockets, real sessions, two nodes on one PostgreSQL.

import { afterEach, describe, expect, test } from 'vitest'
import type { Bus } from '../../src/bus/bus.ts'
import { channelOf } from '../../src/bus/redis-bus.ts'
import { createLog, hashForLog, type Log } from '../../src/telemetry/log.ts'
import { follow, haveEvents, wiresOf } from '../event-ordering/publishing.ts'
import { createAccount, type TestAccount, type TestDevice } from '../support/account.ts'
import type { RawSession } from '../support/raw-device.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { startRedisProxy } from '../support/redis-proxy.ts'
import { countResources, killSubscribers, readTruth, until, untilReleased } from '../support/redis-truth.ts'
import { createSeededRandom, type SeededRandom } from '../support/seeded-random.ts'
import { startTestServer, type TestServer } from '../support/server.ts'

/** Heads are compared so rarely that only the bus brings word. */
const NEVER_POLLED = { VALISE_HEAD_POLL_MS: '600000' }
const COMINGS = 250

interface Line {
  readonly event: string
  readonly device?: string
  readonly devices?: readonly string[]
}

const undo: (() => Promise<unknown>)[] = []

async function start(options: { startsDown?: boolean } = {}): Promise<TestRedis> {
  const redis = await startRedis(options)
  undo.push(redis.close)
  return redis
}

interface NodeOptions {
  readonly redisUrl: string
  readonly beside?: TestServer
  readonly flags?: Readonly<Record<string, string>>
  readonly bus?: (built: Bus) => Bus
}

async function startNode({ redisUrl, beside, flags = NEVER_POLLED, bus }: NodeOptions) {
  const lines: Line[] = []
  const log: Log = createLog({ level: 'debug', stream: { write: (line) => lines.push(JSON.parse(line)) } })
  const server = await startTestServer({
    database: 'postgres',
    redisUrl,
    flags,
    log,
    ...(beside?.databaseUrl === undefined
      ? {}
      : { databaseUrl: beside.databaseUrl, identityFile: beside.identityFile }),
    ...(bus === undefined ? {} : { bus }),
  })
  undo.push(server.close)
  return { server, lines, gauge: () => server.app.metrics.read('redis_subscribers_active') }
}

/** Handlers that have done their work and fail all the same. */
const withFailingHandlers =
  (random: SeededRandom) =>
  (bus: Bus): Bus => ({
    ...bus,
    get isHealthy() {
      return bus.isHealthy
    },
    subscribe: (userId, handler, context) =>
      bus.subscribe(
        userId,
        (announcement) => {
          handler(announcement)
          if (random.chance(10)) throw new Error('a broken handler')
        },
        context,
      ),
  })

/** Never twice the same in a row, and the channel is held at the end, whoever was first. */
function expectTurns(steps: readonly (string | undefined)[]): void {
  expect(steps).toEqual(steps.map((_, i) => (i % 2 === 0 ? 'SUBSCRIBE' : 'UNSUBSCRIBE')))
  expect(steps.at(-1)).toBe('SUBSCRIBE')
}

async function publishOne(session: RawSession, device: TestDevice): Promise<void> {
  const before = session.receipts.length
  session.publish(wiresOf([await device.seal('notes')]))
  await session.until('the receipt', () => session.receipts.length > before)
}

export function describeServers(): void {
  describe('of whole servers', () => {
    afterEach(async () => {
      for (const step of undo.splice(0).reverse()) await step()
    })

    test('BUS-2: sessions come and go on two nodes while Redis fails: nothing stays, and nobody misses an event', async () => {
      const before = countResources()
      const redis = await start()
      const random = createSeededRandom(7)
      const bus = withFailingHandlers(random)
      const first = await startNode({ redisUrl: redis.url, bus })
      const second = await startNode({ redisUrl: redis.url, beside: first.server, bus })
      const nodes = [first, second]
      const accounts: TestAccount[] = []
      for (let i = 0; i < 6; i++) accounts.push(await createAccount(first.server, { devices: 3 }))
      const writers: RawSession[] = []
      const readers: RawSession[] = []
      for (const [i, { devices }] of accounts.entries()) {
        writers.push(await follow(first.server, devices[0]!))
        readers.push(await follow(nodes[i % 2]!.server, devices[1]!))
      }
      let passing: RawSession[] = []
      const trouble: Readonly<Record<number, () => Promise<unknown>>> = {
        40: () => killSubscribers(redis),
        90: () => redis.restart(),
        140: () => redis.kill(),
        190: () => redis.restart(),
        220: () => killSubscribers(redis),
      }
      for (let comings = 1; comings <= COMINGS; comings++) {
        await trouble[comings]?.()
        const at = random.below(accounts.length)
        const device = accounts[at]!.devices[2]!
        // A newer session of the device ends the one before; some go by themselves, in order or not.
        const session = device.connect(random.pick(nodes).server)
        if (random.chance(50)) await publishOne(writers[at]!, accounts[at]!.devices[0]!)
        passing.push(await session)
        const isLeaving = random.chance(50)
        if (isLeaving && random.chance(50)) passing.pop()?.drop()
        else if (isLeaving) void passing.pop()?.close()
      }
      for (const [i, reader] of readers.entries()) await haveEvents(reader, accounts[i]!.devices[0]!.sealed.length)
      for (const reader of readers) {
        expect(reader.events.map(({ userSeq }) => userSeq)).toEqual(reader.events.map((_, i) => i + 1))
        expect(reader.closeFrame).toBeUndefined()
      }

      await Promise.all(passing.map((session) => session.close()))
      passing = []
      // The writers keep six channels on the first node, the readers three on the second.
      await until(async () => expect(await Promise.all(nodes.map(({ gauge }) => gauge()))).toEqual([6, 3]))
      const truth = await readTruth(redis)
      expect(truth.subscriptions).toEqual([3, 6])
      expect([...truth.listenersByChannel.values()].sort()).toEqual([1, 1, 1, 2, 2, 2])

      await Promise.all([...writers, ...readers].map((session) => session.close()))
      await until(async () => expect(await Promise.all(nodes.map(({ gauge }) => gauge()))).toEqual([0, 0]))
      expect(await readTruth(redis)).toMatchObject({ listenersByChannel: new Map(), subscriptions: [0, 0] })
      for (const { server, lines } of nodes) {
        expect(await server.app.metrics.read('redis_subscriber_errors_total')).toBeGreaterThan(0)
        expect(lines.filter(({ event }) => event === 'bus.redis.restored').length).toBeGreaterThan(0)
      }
      await second.server.close()
      await first.server.close()
      expect((await readTruth(redis)).connections).toBe(0)
      await redis.close()
      await untilReleased(before)
    }, 120_000)

    test('BUS-2: connect and disconnect race for one channel, step by step', async () => {
      const redis = await start()
      const proxy = await startRedisProxy(redis.port)
      undo.push(proxy.close)
      const stepped = await startNode({ redisUrl: proxy.url })
      const other = await startNode({ redisUrl: redis.url, beside: stepped.server })
      const account = await createAccount(stepped.server, { devices: 3 })
      const [here, late, away] = [account.devices[0]!, account.devices[1]!, account.devices[2]!]
      const channel = channelOf(account.userId)
      await until(async () => expect(await stepped.gauge()).toBe(0))
      let begun = proxy.commands.length
      const steps = () =>
        proxy.commands
          .slice(begun)
          .filter(({ args }) => args.includes(channel) && args[0]?.endsWith('SUBSCRIBE'))
          .map(({ args }) => args[0])
      const listeners = async () => (await readTruth(redis)).listenersByChannel.get(channel) ?? 0
      const writing = await follow(other.server, away)

      // The first device's socket dies while Redis has not answered its SUBSCRIBE, and a second one joins.
      proxy.holdAnswers()
      const cut = new AbortController()
      const dying = here.connect(stepped.server, { signal: cut.signal }).catch(() => 'cut')
      await until(() => expect(steps()).toEqual(['SUBSCRIBE']))
      const joining = late.connect(stepped.server, { cursor: 0 })
      cut.abort()
      expect(await dying).toBe('cut')
      proxy.releaseAnswers()
      const joined = await joining
      expectTurns(steps())
      await joined.until('caught_up', () => joined.isCaughtUp)
      await publishOne(writing, away)
      await haveEvents(joined, 1)
      expect([await stepped.gauge(), await listeners()]).toEqual([1, 2])

      // The last one leaves, and while Redis has not answered the UNSUBSCRIBE one comes, goes, and one stays.
      begun = proxy.commands.length
      proxy.holdAnswers()
      joined.drop()
      await until(() => expect(steps()).toEqual(['UNSUBSCRIBE']))
      const passing = new AbortController()
      const passed = here.connect(stepped.server, { signal: passing.signal }).catch(() => 'cut')
      const staying = late.connect(stepped.server, { cursor: 0 })
      passing.abort()
      expect(await passed).toBe('cut')
      await until(async () => expect(await listeners()).toBe(1))
      expect(steps()).toEqual(['UNSUBSCRIBE'])
      proxy.releaseAnswers()
      const stayed = await staying
      expectTurns(['SUBSCRIBE', ...steps()])
      await stayed.until('caught_up', () => stayed.isCaughtUp)
      await publishOne(writing, away)
      await haveEvents(stayed, 2)
      expect([await stepped.gauge(), await listeners()]).toEqual([1, 2])

      await stayed.close()
      await until(async () => expect([await stepped.gauge(), await listeners()]).toEqual([0, 1]))
      expect(steps().at(-1)).toBe('UNSUBSCRIBE')
      expect(await stepped.server.app.metrics.read('redis_subscriber_cleanup_errors_total')).toBe(0)
    })

    test('BUS-2: cleanup is logged with the device, and one that Redis refuses is counted', async () => {
      const redis = await start()
      const { server, lines, gauge } = await startNode({ redisUrl: redis.url })
      const [device] = (await createAccount(server)).devices
      const deviceHash = hashForLog(device!.deviceId)
      await until(() =>
        expect(lines).toContainEqual(expect.objectContaining({ event: 'bus.channel.left', device: deviceHash })),
      )
      const session = await follow(server, device!)
      await redis.send('ACL', 'SETUSER', 'default', '-unsubscribe')
      await session.close()
      const failed = expect.objectContaining({ event: 'bus.channel.unsubscribe_failed', devices: [deviceHash] })
      await until(() => expect(lines).toContainEqual(failed))
      expect(await server.app.metrics.read('redis_subscriber_cleanup_errors_total')).toBe(1)
      await redis.send('ACL', 'SETUSER', 'default', '+unsubscribe')
      await until(async () => expect((await readTruth(redis)).listenersByChannel).toEqual(new Map()))
      expect(await gauge()).toBe(0)
    })

    test('BUS-3: without Redis a node serves its devices, nodes converge by polling, and its return is announced', async () => {
      const redis = await start({ startsDown: true })
      const flags = { VALISE_HEAD_POLL_MS: '500' }
      const first = await startNode({ redisUrl: redis.url, flags })
      const second = await startNode({ redisUrl: redis.url, flags, beside: first.server })
      const nodes = [first, second]
      const { devices } = await createAccount(first.server, { devices: 3 })
      const writing = await follow(first.server, devices[0]!)
      const beside = await follow(first.server, devices[1]!)
      const remote = await follow(second.server, devices[2]!)
      const publishAndSee = async (total: number): Promise<void> => {
        while (devices[0]!.sealed.length < total) await publishOne(writing, devices[0]!)
        await Promise.all([haveEvents(beside, total), haveEvents(remote, total)])
      }
      await publishAndSee(5)
      expect(await Promise.all(nodes.map(({ gauge }) => gauge()))).toEqual([0, 0])

      await redis.restart()
      for (const { lines, gauge } of nodes) {
        await until(() => expect(lines.map(({ event }) => event)).toContain('bus.redis.restored'))
        await until(async () => expect(await gauge()).toBe(1))
      }
      await publishAndSee(10)

      // Away for good: the nodes go on, and end in order.
      await redis.kill()
      await until(async () => expect(await Promise.all(nodes.map(({ gauge }) => gauge()))).toEqual([0, 0]))
      await publishAndSee(15)
      for (const { events } of [beside, remote]) expect(events.map(({ userSeq }) => userSeq)).toHaveLength(15)
      await Promise.all([writing, beside, remote].map((session) => session.close()))
      await Promise.all(nodes.map(({ server }) => server.stop()))
    })
  })
}
