// Redis that was killed, restarted, late or silent: every channel is subscribed again, and every gap is told.

import { describe, expect, it } from 'vitest'
import type { Announcement } from '../src/bus/bus.ts'
import { channelOf } from '../src/bus/redis-bus.ts'
import { errors, gauge, openNode, openRedis, subscribe, truth, untilHealthy, userOf } from './support/redis-bus-node.ts'
import { killSubscribers, until } from './support/redis-truth.ts'

describe('redis bus, without Redis', () => {
  it('BUS-3: after CLIENT KILL every channel is subscribed again and the gap is told', async () => {
    const redis = await openRedis()
    const [node, other] = [await openNode(redis.url), await openNode(redis.url)]
    const heard: Announcement[] = []
    for (const user of [1, 2, 3]) await subscribe(node, user, (announcement) => void heard.push(announcement))
    const gapsBefore = node.gaps.count
    await killSubscribers(redis)
    await until(() => expect(node.gaps.count).toBe(gapsBefore + 1))
    expect(node.bus.isHealthy).toBe(true)
    expect(await gauge(node)).toBe(3)
    expect((await truth(redis)).subscriptions).toEqual([0, 3])
    expect(await errors(node)).toBeGreaterThan(0)
    await untilHealthy(other)
    await other.bus.publish({ type: 'account_deleted', userId: userOf(2) })
    await until(() => expect(heard).toHaveLength(1))
  })

  it('BUS-3: a restarted Redis is found again, and the log says when it was lost and restored', async () => {
    const redis = await openRedis()
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
    const redis = await openRedis({ startsDown: true })
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
    const redis = await openRedis()
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
    const redis = await openRedis()
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
})
