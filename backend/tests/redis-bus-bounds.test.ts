// What the bus holds, and takes, is bounded while Redis is away or slow, and whatever others put on a channel.

import { describe, expect, it } from 'vitest'
import type { Announcement } from '../src/bus/bus.ts'
import { channelOf, openRedisBus } from '../src/bus/redis-bus.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { testBusKeys } from './support/bus-keys.ts'
import { atEnd, openNode, openRedis, subscribe, timings, userOf } from './support/redis-bus-node.ts'
import { until } from './support/redis-truth.ts'

describe('redis bus, bounds', () => {
  it('P5: while Redis is away announcements are dropped and counted, and memory stays flat', async () => {
    const redis = await openRedis()
    const node = await openNode(redis.url)
    await redis.kill()
    await until(() => expect(node.bus.isHealthy).toBe(false))
    const item = {
      userSeq: 1,
      streamSeq: 1,
      storedAtMs: 1,
      deviceId: new Uint8Array(16),
      deviceSeq: 1,
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
    const redis = await openRedis()
    const metrics = createMetrics()
    const log = createLog({ level: 'silent' })
    const bus = await openRedisBus({
      url: redis.url,
      keys: testBusKeys,
      log,
      metrics,
      timings: { ...timings, heartbeatMs: 5000 },
    })
    atEnd(bus.close)
    redis.pause()
    const item = {
      userSeq: 1,
      streamSeq: 1,
      storedAtMs: 1,
      deviceId: new Uint8Array(16),
      deviceSeq: 1,
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

  it('BUS-5: bytes on a channel that no node sealed are counted and dropped', async () => {
    const redis = await openRedis()
    const node = await openNode(redis.url)
    const heard: Announcement[] = []
    await subscribe(node, 1, (announcement) => void heard.push(announcement))
    await redis.send('PUBLISH', channelOf(userOf(1)), 'not an announcement')
    await redis.send('PUBLISH', channelOf(userOf(1)), '')
    const forged = () => node.metrics.read('valise_bus_announcements_total', { direction: 'in', result: 'forged' })
    await until(async () => expect(await forged()).toBe(2))
    expect(heard).toEqual([])
    expect(node.bus.isHealthy).toBe(true)
  })
})
