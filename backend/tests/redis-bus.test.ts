// What only a real Redis shows: the gauge against Redis's own account, lost connections, restarts, absences, refusals,
// and that nothing stays behind.

import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Announcement, Bus, Subscription } from '../src/bus/bus.ts'
import { channelOf, openRedisBus } from '../src/bus/redis-bus.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics, type Metrics } from '../src/telemetry/metrics.ts'
import { startRedis, type TestRedis } from './support/redis.ts'
import { startRedisProxy } from './support/redis-proxy.ts'

interface Node {
  readonly bus: Bus
  readonly metrics: Metrics
  readonly gaps: { count: number }
  readonly lines: { readonly event: string; readonly [field: string]: unknown }[]
}

const context = { deviceHash: 'fedcba9876543210' }
const timings = { heartbeatMs: 200, connectTimeoutMs: 500, retryDelayMs: () => 20 }
const DEADLINE_MS = 15_000
const undo: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function start(options: { startsDown?: boolean } = {}): Promise<TestRedis> {
  const redis = await startRedis(options)
  undo.push(redis.close)
  return redis
}

async function openNode(url: string): Promise<Node> {
  const metrics = createMetrics()
  const lines: Node['lines'] = []
  const log = createLog({ level: 'debug', stream: { write: (line) => lines.push(JSON.parse(line)) } })
  const bus = await openRedisBus({ url, log, metrics, timings })
  const gaps = { count: 0 }
  bus.onGap(() => {
    gaps.count++
  })
  undo.push(bus.close)
  return { bus, metrics, gaps, lines }
}

const until = (check: () => unknown) => vi.waitFor(check, { timeout: DEADLINE_MS, interval: 10 })
const untilHealthy = (node: Node) => until(() => expect(node.bus.isHealthy).toBe(true))
const userOf = (index: number): Uint8Array => {
  const userId = new Uint8Array(32)
  new DataView(userId.buffer).setUint32(0, index + 1)
  return userId
}
const subscribe = (node: Node, user: number, handler: (a: Announcement) => void = () => {}) =>
  node.bus.subscribe(userOf(user), handler, context)
const gauge = (node: Node) => node.metrics.read('redis_subscribers_active')
const errors = (node: Node) => node.metrics.read('redis_subscriber_errors_total')
const cleanupErrors = (node: Node) => node.metrics.read('redis_subscriber_cleanup_errors_total')

/** What Redis itself holds: the channels somebody listens on, and the subscriptions of each subscriber connection. */
async function truth(redis: TestRedis) {
  const channels = await redis.send('PUBSUB', 'CHANNELS', '*')
  const connections = (await redis.clients()).filter(({ name }) => name.startsWith('valise-'))
  const subscribers = connections.filter(({ name }) => name.startsWith('valise-subscriber-'))
  return {
    channels: (Array.isArray(channels) ? channels : []).map(String).sort(),
    connections: connections.length,
    subscriptions: subscribers.map(({ sub }) => sub),
  }
}

async function killSubscriber(redis: TestRedis): Promise<void> {
  for (const { name, id } of await redis.clients()) {
    if (name.startsWith('valise-subscriber-')) await redis.send('CLIENT', 'KILL', 'ID', id)
  }
}

/** Whole numbers in an order that the seed alone decides (a linear congruential generator, its low bits left out). */
function seededPicks(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state >>> 8
  }
}

/** Timers and sockets of this process. */
function countResources(): Map<string, number> {
  const countByKind = new Map<string, number>()
  for (const kind of process.getActiveResourcesInfo()) {
    if (/^(Timeout|TCPSocketWrap|ConnectWrap)$/.test(kind)) countByKind.set(kind, (countByKind.get(kind) ?? 0) + 1)
  }
  return countByKind
}

/** Waits without a timer, which would count itself, for handles that close in the next turns of the loop. */
async function untilReleased(before: ReadonlyMap<string, number>): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS
  const extra = () => [...countResources()].filter(([kind, count]) => count > (before.get(kind) ?? 0))
  while (extra().length > 0 && performance.now() < deadline) await new Promise((resolve) => setImmediate(resolve))
  expect(extra()).toEqual([])
}

describe('redis bus', () => {
  it('BUS-1: one subscriber and one publisher connection serve a node with 5 000 users', async () => {
    const redis = await start()
    const node = await openNode(redis.url)
    const subscriptions = await Promise.all(Array.from({ length: 5000 }, (_, user) => subscribe(node, user)))
    expect(await truth(redis)).toMatchObject({ connections: 2, subscriptions: [5000] })
    expect(await gauge(node)).toBe(5000)
    await Promise.all(subscriptions.map((subscription) => subscription.close()))
    expect(await truth(redis)).toEqual({ channels: [], connections: 2, subscriptions: [0] })
    expect(await gauge(node)).toBe(0)
  })

  it('BUS-2: the gauge counts channels, not subscribers, and cleanup is logged with the device', async () => {
    const redis = await start()
    const node = await openNode(redis.url)
    const first = await subscribe(node, 1)
    const second = await subscribe(node, 1)
    expect(await gauge(node)).toBe(1)
    await first.close()
    expect(await gauge(node)).toBe(1)
    expect((await truth(redis)).channels).toEqual([channelOf(userOf(1))])
    await second.close()
    await second.close()
    expect(await gauge(node)).toBe(0)
    const left = node.lines.filter(({ event }) => event === 'bus.channel.left')
    expect(left).toMatchObject([{ device: context.deviceHash }])
    expect(await cleanupErrors(node)).toBe(0)
  })

  it('BUS-2: comings and goings interleaved on the wire never end a channel that is in use', async () => {
    const redis = await start()
    const proxy = await startRedisProxy(redis.port)
    undo.push(proxy.close)
    const node = await openNode(proxy.url)
    const sent = () => proxy.commands.filter(({ args }) => args[0]?.endsWith('SUBSCRIBE')).map(({ args }) => args[0])
    const first = await subscribe(node, 1)

    proxy.holdAnswers()
    const leaving = first.close()
    await until(() => expect(sent()).toEqual(['SUBSCRIBE', 'UNSUBSCRIBE']))
    // While Redis has not answered the unsubscribe, the user comes, goes and comes again.
    const heard: Announcement[] = []
    const coming = subscribe(node, 1, (announcement) => void heard.push(announcement))
    const passing = subscribe(node, 1).then((subscription) => subscription.close())
    await until(async () => expect((await truth(redis)).channels).toEqual([]))
    expect(sent()).toEqual(['SUBSCRIBE', 'UNSUBSCRIBE'])
    proxy.releaseAnswers()
    await Promise.all([leaving, coming, passing])
    expect(sent()).toEqual(['SUBSCRIBE', 'UNSUBSCRIBE', 'SUBSCRIBE'])

    const other = await openNode(redis.url)
    await other.bus.publish({ type: 'account_deleted', userId: userOf(1) })
    await until(() => expect(heard).toHaveLength(1))
    expect(await gauge(node)).toBe(1)
  })

  it('BUS-2: shutdown unsubscribes everything, then quits, each once', async () => {
    const redis = await start()
    const proxy = await startRedisProxy(redis.port)
    undo.push(proxy.close)
    const node = await openNode(proxy.url)
    for (const user of [1, 2, 3]) await subscribe(node, user)
    await Promise.all([node.bus.close(), node.bus.close()])
    const connection = proxy.commands.find(({ args }) => args[0] === 'SUBSCRIBE')?.connection
    const last = proxy.commands.filter((command) => command.connection === connection).slice(-2)
    expect(last.map(({ args }) => args)).toEqual([
      ['UNSUBSCRIBE', ...[1, 2, 3].map((user) => channelOf(userOf(user)))],
      ['QUIT'],
    ])
    expect(proxy.commands.filter(({ args }) => args[0] === 'QUIT')).toHaveLength(2)
    expect(await truth(redis)).toEqual({ channels: [], connections: 0, subscriptions: [] })
    expect([await gauge(node), await cleanupErrors(node)]).toEqual([0, 0])
  })

  it('BUS-2: a shutdown that Redis does not confirm ends all the same, and is counted', async () => {
    const redis = await start()
    const metrics = createMetrics()
    const log = createLog({ level: 'silent' })
    const bus = await openRedisBus({ url: redis.url, log, metrics, timings: { ...timings, closeTimeoutMs: 100 } })
    await bus.subscribe(userOf(1), () => {}, context)
    redis.pause()
    await bus.close()
    redis.resume()
    expect(await metrics.read('redis_subscriber_cleanup_errors_total')).toBe(1)
    expect(await metrics.read('redis_subscribers_active')).toBe(0)
    await until(async () => expect(await truth(redis)).toEqual({ channels: [], connections: 0, subscriptions: [] }))
  })

  it('BUS-2: a failing handler is counted under its name', async () => {
    const redis = await start()
    const [node, other] = [await openNode(redis.url), await openNode(redis.url)]
    await subscribe(node, 1, () => {
      throw new Error('a broken handler')
    })
    await other.bus.publish({ type: 'account_deleted', userId: userOf(1) })
    await until(async () => expect(await errors(node)).toBe(1))
    expect(node.lines).toContainEqual(
      expect.objectContaining({ event: 'bus.handler.failed', device: context.deviceHash }),
    )
  })

  it('BUS-3: after CLIENT KILL every channel is subscribed again and the gap is told', async () => {
    const redis = await start()
    const [node, other] = [await openNode(redis.url), await openNode(redis.url)]
    const heard: Announcement[] = []
    for (const user of [1, 2, 3]) await subscribe(node, user, (announcement) => void heard.push(announcement))
    const gapsBefore = node.gaps.count
    await killSubscriber(redis)
    await until(() => expect(node.gaps.count).toBe(gapsBefore + 1))
    expect(node.bus.isHealthy).toBe(true)
    expect(await gauge(node)).toBe(3)
    expect((await truth(redis)).subscriptions.sort()).toEqual([0, 3])
    expect(await errors(node)).toBeGreaterThan(0)
    await untilHealthy(other)
    await other.bus.publish({ type: 'account_deleted', userId: userOf(2) })
    await until(() => expect(heard).toHaveLength(1))
  })

  it('BUS-3: a restarted Redis is found again, and the log says when it was lost and restored', async () => {
    const redis = await start()
    const node = await openNode(redis.url)
    const staying = await subscribe(node, 1)
    const leaving = await subscribe(node, 2)
    const gapsBefore = node.gaps.count
    await redis.kill()
    await until(() => expect(node.bus.isHealthy).toBe(false))
    expect(await gauge(node)).toBe(0)
    expect(await node.metrics.read('valise_bus_healthy')).toBe(0)
    // Comings and goings while it is away.
    await leaving.close()
    await subscribe(node, 3)
    await redis.restart()
    await untilHealthy(node)
    expect(node.gaps.count).toBe(gapsBefore + 1)
    expect((await truth(redis)).channels).toEqual([1, 3].map((user) => channelOf(userOf(user))).sort())
    expect(await gauge(node)).toBe(2)
    await staying.close()
    expect(await gauge(node)).toBe(1)
    const events = node.lines.map(({ event }) => event)
    expect(events.filter((event) => event === 'bus.redis.lost')).toHaveLength(2)
    expect(events.filter((event) => event === 'bus.redis.restored')).toHaveLength(2)
  })

  it('BUS-3: Redis down at the start delays nothing, and is found when it comes', async () => {
    const redis = await start({ startsDown: true })
    const node = await openNode(redis.url)
    const heard: Announcement[] = []
    await subscribe(node, 1, (announcement) => void heard.push(announcement))
    await node.bus.publish({ type: 'account_deleted', userId: userOf(1) })
    expect(node.bus.isHealthy).toBe(false)
    expect(await node.metrics.read('valise_announcements_dropped_total')).toBe(1)
    expect(node.gaps.count).toBe(0)
    await redis.restart()
    await until(() => expect(node.gaps.count).toBe(1))
    await untilHealthy(node)
    const other = await openNode(redis.url)
    await other.bus.publish({ type: 'account_deleted', userId: userOf(1) })
    await until(() => expect(heard).toHaveLength(1))
    expect(await gauge(node)).toBe(1)
  })

  it('BUS-3: a Redis that stops answering without closing is noticed by the heartbeat', async () => {
    const redis = await start()
    const node = await openNode(redis.url)
    await subscribe(node, 1)
    redis.pause()
    await until(() => expect(node.bus.isHealthy).toBe(false))
    expect(await gauge(node)).toBe(0)
    redis.resume()
    await untilHealthy(node)
    expect(await gauge(node)).toBe(1)
    await until(async () => expect(await truth(redis)).toMatchObject({ connections: 2, subscriptions: [1] }))
  })

  it('BUS-3: a node whose announcements were dropped tells the others, each once', async () => {
    const redis = await start()
    const [node, other] = [await openNode(redis.url), await openNode(redis.url)]
    for (const user of [1, 2, 3]) await subscribe(other, user)
    await subscribe(node, 4)
    const gapsBefore = { node: node.gaps.count, other: other.gaps.count }
    // The node opened first has the lower connection id.
    const [publisher] = (await redis.clients()).filter(({ name }) => name.startsWith('valise-publisher-'))
    await redis.send('CLIENT', 'KILL', 'ID', publisher!.id)
    await until(() => expect(node.bus.isHealthy).toBe(false))
    await node.bus.publish({ type: 'device_log', userId: userOf(2), seq: 1 })
    expect(await node.metrics.read('valise_announcements_dropped_total')).toBe(1)
    await until(() => expect(other.gaps.count).toBe(gapsBefore.other + 1))
    await until(() => expect(node.lines.map(({ event }) => event)).toContain('bus.announcement.repaired'))
    expect(node.gaps.count).toBe(gapsBefore.node)
    expect(other.gaps.count).toBe(gapsBefore.other + 1)
  })

  it('P5: while Redis is away announcements are dropped and counted, and memory stays flat', async () => {
    const redis = await start()
    const node = await openNode(redis.url)
    await redis.kill()
    await until(() => expect(node.bus.isHealthy).toBe(false))
    const item = {
      userSeq: 1,
      streamSeq: 1,
      storedAtMs: 1,
      deviceId: new Uint8Array(16),
      deviceSeq: 1,
      leaf: new Uint8Array(32),
      wire: new Uint8Array(4000),
    }
    const before = process.memoryUsage().arrayBuffers
    const published: Promise<void>[] = []
    for (let i = 0; i < 20_000; i++) {
      published.push(
        node.bus.publish({ type: 'events', userId: userOf(1), from: 1, to: 1, items: [item], arrivedAtMs: 8 }),
      )
      if (i % 1000 === 0) await Promise.all(published.splice(0))
    }
    await Promise.all(published)
    expect(await node.metrics.read('valise_announcements_dropped_total')).toBe(20_000)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40 * 1024 * 1024)
    expect(node.lines.filter(({ event }) => event === 'bus.announcement.dropped')).toHaveLength(1)
  })

  it('P5: announcements that a slow Redis does not take are bounded in bytes, and the rest is dropped', async () => {
    const redis = await start()
    const metrics = createMetrics()
    const log = createLog({ level: 'silent' })
    const bus = await openRedisBus({ url: redis.url, log, metrics, timings: { ...timings, heartbeatMs: 5000 } })
    undo.push(bus.close)
    redis.pause()
    const item = {
      userSeq: 1,
      streamSeq: 1,
      storedAtMs: 1,
      deviceId: new Uint8Array(16),
      deviceSeq: 1,
      leaf: new Uint8Array(32),
      wire: new Uint8Array(60_000),
    }
    const published: Promise<void>[] = []
    for (let i = 0; i < 400; i++) {
      published.push(bus.publish({ type: 'events', userId: userOf(1), from: 1, to: 1, items: [item], arrivedAtMs: 8 }))
    }
    const dropped = await metrics.read('valise_announcements_dropped_total')
    expect(dropped).toBeGreaterThan(200)
    expect(dropped).toBeLessThan(400)
    redis.resume()
    await Promise.all(published)
    expect(await metrics.read('valise_bus_announcements_total', { direction: 'out', result: 'ok' })).toBe(400 - dropped)
  })

  it('BUS-2: a subscribe that Redis refuses is counted, makes the bus unhealthy, and is tried until it is allowed', async () => {
    const redis = await start()
    const node = await openNode(redis.url)
    await redis.send('ACL', 'SETUSER', 'default', '-subscribe')
    await subscribe(node, 1)
    await until(() => expect(node.bus.isHealthy).toBe(false))
    expect(await errors(node)).toBeGreaterThan(0)
    expect(await cleanupErrors(node)).toBe(0)
    await redis.send('ACL', 'SETUSER', 'default', '+subscribe')
    await untilHealthy(node)
    expect(await gauge(node)).toBe(1)
    expect((await truth(redis)).subscriptions).toEqual([1])
  })

  it('BUS-2: an unsubscribe that Redis refuses is counted and logged with the device, and the channel is left all the same', async () => {
    const redis = await start()
    const node = await openNode(redis.url)
    await subscribe(node, 1)
    const leaving = await subscribe(node, 2)
    await redis.send('ACL', 'SETUSER', 'default', '-unsubscribe')
    await leaving.close()
    expect(await cleanupErrors(node)).toBe(1)
    expect(node.lines).toContainEqual(
      expect.objectContaining({ event: 'bus.channel.unsubscribe_failed', devices: [context.deviceHash] }),
    )
    await redis.send('ACL', 'SETUSER', 'default', '+unsubscribe')
    await untilHealthy(node)
    await until(async () => expect((await truth(redis)).channels).toEqual([channelOf(userOf(1))]))
    expect(await gauge(node)).toBe(1)
  })

  it('P5: bytes on a channel that are no announcement are counted and dropped', async () => {
    const redis = await start()
    const node = await openNode(redis.url)
    const heard: Announcement[] = []
    await subscribe(node, 1, (announcement) => void heard.push(announcement))
    await redis.send('PUBLISH', channelOf(userOf(1)), 'not an announcement')
    await redis.send('PUBLISH', channelOf(userOf(1)), '')
    const malformed = () =>
      node.metrics.read('valise_bus_announcements_total', { direction: 'in', result: 'malformed' })
    await until(async () => expect(await malformed()).toBe(2))
    expect(heard).toEqual([])
    expect(node.bus.isHealthy).toBe(true)
  })

  it('P7: a URL that is none of Redis stops the start', async () => {
    const parts = { log: createLog({ level: 'silent' }), metrics: createMetrics() }
    await expect(openRedisBus({ ...parts, url: 'postgres://127.0.0.1' })).rejects.toThrow(TypeError)
    await expect(openRedisBus({ ...parts, url: 'nonsense' })).rejects.toThrow(TypeError)
  })

  it('BUS-2: after 2 000 comings and goings in a seeded order, with failing handlers, a kill and a restart, all is gone', async () => {
    const redis = await start()
    const before = countResources()
    const [node, other] = [await openNode(redis.url), await openNode(redis.url)]
    const USERS = 60
    const open: { user: number; subscription: Promise<Subscription> }[] = []
    const closing: Promise<void>[] = []
    const pickNext = seededPicks(42)
    const handler = () => {
      throw new Error('a broken handler')
    }
    for (let step = 0; step < 2000; step++) {
      const pick = pickNext()
      if (pick % 2 === 0 || open.length === 0) {
        const user = (pick >> 1) % USERS
        open.push({ user, subscription: subscribe(node, user, handler) })
      } else {
        const [left] = open.splice((pick >> 1) % open.length, 1)
        closing.push(left!.subscription.then((subscription) => subscription.close()))
      }
      if (step % 10 === 0) void other.bus.publish({ type: 'account_deleted', userId: userOf(pick % USERS) })
      if (step % 25 === 0) await Promise.all(closing.splice(0))
      if (step === 600) await killSubscriber(redis)
      if (step === 1200) await redis.restart()
    }
    await Promise.all([...closing, ...open.map(({ subscription }) => subscription)])
    await untilHealthy(node)
    const wanted = new Set(open.map(({ user }) => channelOf(userOf(user))))
    expect(wanted.size).toBeGreaterThan(0)
    await until(async () => expect((await truth(redis)).channels).toEqual([...wanted].sort()))
    expect(await gauge(node)).toBe(wanted.size)
    expect((await truth(redis)).subscriptions.sort((a, b) => a - b)).toEqual([0, wanted.size])

    await Promise.all(open.map(async ({ subscription }) => (await subscription).close()))
    expect(await gauge(node)).toBe(0)
    expect(await truth(redis)).toMatchObject({ channels: [], subscriptions: [0, 0] })
    expect(await errors(node)).toBeGreaterThan(0)

    await node.bus.close()
    await other.bus.close()
    expect((await truth(redis)).connections).toBe(0)
    await untilReleased(before)
  })

  it('BUS-2: closing while Redis is away leaves neither a timer nor a connection', async () => {
    const redis = await start({ startsDown: true })
    const before = countResources()
    const node = await openNode(redis.url)
    await subscribe(node, 1)
    await node.bus.close()
    await untilReleased(before)
    expect(await gauge(node)).toBe(0)
  })
})
