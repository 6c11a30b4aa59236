// Channels and their gauge against Redis's own account: comings, goings, refusals and the shutdown.

import { describe, expect, it } from 'vitest'
import type { Announcement } from '../src/bus/bus.ts'
import { channelOf, openRedisBus } from '../src/bus/redis-bus.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { testBusKeys } from './support/bus-keys.ts'
import {
  atEnd,
  cleanupErrors,
  context,
  errors,
  gauge,
  openNode,
  openRedis,
  subscribe,
  timings,
  truth,
  untilHealthy,
  userOf,
} from './support/redis-bus-node.ts'
import { startRedisProxy } from './support/redis-proxy.ts'
import { until } from './support/redis-truth.ts'

describe('redis bus', () => {
  it('BUS-1: one subscriber and one publisher connection serve a node with 5 000 users', async () => {
    const redis = await openRedis()
    // As many at once keep the event loop longer than the heartbeat of the other tests.
    const node = await openNode(redis.url, { heartbeatMs: 5000 })
    const subscriptions = await Promise.all(Array.from({ length: 5000 }, (_, user) => subscribe(node, user)))
    expect(await truth(redis)).toMatchObject({ connections: 2, subscriptions: [5000] })
    expect(await gauge(node)).toBe(5000)
    await Promise.all(subscriptions.map((subscription) => subscription.close()))
    expect(await truth(redis)).toEqual({ channels: [], connections: 2, subscriptions: [0] })
    expect(await gauge(node)).toBe(0)
  })

  it('BUS-2: the gauge counts channels, not subscribers, and cleanup is logged with the device', async () => {
    const redis = await openRedis()
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
    const redis = await openRedis()
    const proxy = await startRedisProxy(redis.port)
    atEnd(proxy.close)
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
    const redis = await openRedis()
    const proxy = await startRedisProxy(redis.port)
    atEnd(proxy.close)
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
    const redis = await openRedis()
    const metrics = createMetrics()
    const log = createLog({ level: 'silent' })
    const bus = await openRedisBus({
      url: redis.url,
      keys: testBusKeys,
      log,
      metrics,
      timings: { ...timings, closeTimeoutMs: 100 },
    })
    await bus.subscribe(userOf(1), () => {}, context)
    redis.pause()
    await bus.close()
    redis.resume()
    expect(await metrics.read('redis_subscriber_cleanup_errors_total')).toBe(1)
    expect(await metrics.read('redis_subscribers_active')).toBe(0)
    await until(async () => expect(await truth(redis)).toEqual({ channels: [], connections: 0, subscriptions: [] }))
  })

  it('BUS-2: a failing handler is counted under its name', async () => {
    const redis = await openRedis()
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

  it('BUS-2: a subscribe that Redis refuses is counted, makes the bus unhealthy, and is tried until it is allowed', async () => {
    const redis = await openRedis()
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
    const redis = await openRedis()
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

  it('P7: a URL that is none of Redis stops the start', async () => {
    const parts = { keys: testBusKeys, log: createLog({ level: 'silent' }), metrics: createMetrics() }
    await expect(openRedisBus({ ...parts, url: 'postgres://127.0.0.1' })).rejects.toThrow(TypeError)
    await expect(openRedisBus({ ...parts, url: 'nonsense' })).rejects.toThrow(TypeError)
  })
})
