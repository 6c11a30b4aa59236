// The contract of the bus port, kept by the bus inside a process and by the bus over a real Redis alike.

import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Announcement, Bus } from '../src/bus/bus.ts'
import { createLocalBus, createLocalExchange } from '../src/bus/local-bus.ts'
import { openRedisBus } from '../src/bus/redis-bus.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics, type Metrics } from '../src/telemetry/metrics.ts'
import { testBusKeys } from './support/bus-keys.ts'
import { startRedis, type TestRedis } from './support/redis.ts'

interface Node {
  readonly bus: Bus
  readonly metrics: Metrics
}

interface Implementation {
  prepare(): Promise<void>
  /** Two nodes that can reach each other. */
  openPair(): Promise<readonly [Node, Node]>
  dispose(): Promise<void>
}

const log = createLog({ level: 'silent' })

const local: Implementation = {
  prepare: async () => {},
  openPair: async () => {
    const exchange = createLocalExchange()
    const open = (): Node => {
      const metrics = createMetrics()
      return { bus: createLocalBus({ log, metrics, exchange }), metrics }
    }
    return [open(), open()]
  },
  dispose: async () => {},
}

function overRedis(): Implementation {
  let redis: TestRedis
  return {
    prepare: async () => {
      redis = await startRedis()
    },
    openPair: async () => {
      const open = async (): Promise<Node> => {
        const metrics = createMetrics()
        return { bus: await openRedisBus({ url: redis.url, keys: testBusKeys, log, metrics }), metrics }
      }
      return [await open(), await open()]
    },
    dispose: () => redis.close(),
  }
}

const context = { deviceHash: '0123456789abcdef' }
const bytes = (length: number, value: number) => new Uint8Array(length).fill(value)
const plain = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (_, part) => (part instanceof Uint8Array ? [...part] : (part?.data ?? part))))

for (const [name, implementation] of [
  ['in the process', local],
  ['over Redis', overRedis()],
] as const) {
  describe(`bus ${name}`, () => {
    let here: Node
    let there: Node
    let nextUser = 1
    beforeAll(implementation.prepare)
    afterAll(implementation.dispose)
    const open = async (): Promise<Uint8Array> => {
      const pair = await implementation.openPair()
      here = pair[0]
      there = pair[1]
      return bytes(32, nextUser++)
    }
    afterEach(async () => {
      await here.bus.close()
      await there.bus.close()
    })

    const collect = async (bus: Bus, userId: Uint8Array) => {
      const heard: Announcement[] = []
      const subscription = await bus.subscribe(userId, (announcement) => void heard.push(announcement), context)
      return { heard, subscription }
    }
    /** Everything published before on this channel has been heard once this returns. */
    const settle = async (heard: Announcement[], from: Bus, userId: Uint8Array): Promise<void> => {
      const seq = 1_000_000 + heard.length
      await from.publish({ type: 'device_log', userId, seq })
      await vi.waitFor(() => expect(heard.at(-1)).toMatchObject({ type: 'device_log', seq }), 5000)
      heard.pop()
    }

    it('BUS-4: every kind of announcement reaches the other node as it was', async () => {
      const userId = await open()
      const { heard } = await collect(there.bus, userId)
      const item = {
        userSeq: 8,
        streamSeq: 2,
        storedAtMs: 1_700_000_000_000,
        deviceId: bytes(16, 3),
        deviceSeq: 4,
        wire: Uint8Array.from({ length: 256 }, (_, i) => i),
      }
      const sent: Announcement[] = [
        {
          type: 'events',
          userId,
          from: 7,
          to: 9,
          items: [item, { ...item, userSeq: 9 }],
          arrivedAtMs: 8,
        },
        { type: 'events', userId, from: 10, to: 12, items: undefined, arrivedAtMs: 8 },
        { type: 'device_log', userId, seq: 3 },
        { type: 'device_revoked', userId, deviceId: bytes(16, 6) },
        { type: 'account_deleted', userId },
        { type: 'session_superseded', userId, deviceId: bytes(16, 7), sessionNumber: 8 },
        {
          type: 'presence',
          userId,
          deviceId: bytes(16, 9),
          sessionNumber: 10,
          isOnline: true,
          atMs: 1_700_000_000_000,
        },
      ]
      for (const announcement of sent) await here.bus.publish(announcement)
      await vi.waitFor(() => expect(heard).toHaveLength(sent.length), 5000)
      expect(plain(heard)).toEqual(plain(sent))
    })

    it('BUS-1: a node never hears itself', async () => {
      const userId = await open()
      const own = await collect(here.bus, userId)
      const other = await collect(there.bus, userId)
      await here.bus.publish({ type: 'events', userId, from: 1, to: 1, items: undefined, arrivedAtMs: 8 })
      await here.bus.publish({ type: 'account_deleted', userId })
      await vi.waitFor(() => expect(other.heard).toHaveLength(2), 5000)
      await settle(own.heard, there.bus, userId)
      expect(own.heard).toEqual([])
    })

    it('BUS-1: announcements of one node are heard in order, and of one user only by those who asked', async () => {
      const userId = await open()
      const stranger = await collect(there.bus, bytes(32, 255))
      const { heard } = await collect(there.bus, userId)
      for (let seq = 1; seq <= 500; seq++) void here.bus.publish({ type: 'device_log', userId, seq })
      await vi.waitFor(() => expect(heard).toHaveLength(500), 5000)
      expect(heard.map((announcement) => ('seq' in announcement ? announcement.seq : 0))).toEqual(
        Array.from({ length: 500 }, (_, i) => i + 1),
      )
      expect(stranger.heard).toEqual([])
    })

    it('BUS-1: announcements too large to carry their events still carry the range', async () => {
      const userId = await open()
      const { heard } = await collect(there.bus, userId)
      const item = {
        userSeq: 1,
        streamSeq: 1,
        storedAtMs: 1,
        deviceId: bytes(16, 3),
        deviceSeq: 1,
        wire: new Uint8Array(300_000),
      }
      await here.bus.publish({ type: 'events', userId, from: 1, to: 1, items: [item], arrivedAtMs: 8 })
      await vi.waitFor(() => expect(heard).toMatchObject([{ type: 'events', from: 1, to: 1 }]), 5000)
    })

    it('BUS-2: each subscriber of a user hears, and one that leaves does not end the others', async () => {
      const userId = await open()
      const first = await collect(there.bus, userId)
      const second = await collect(there.bus, userId)
      await here.bus.publish({ type: 'account_deleted', userId })
      await vi.waitFor(() => expect([first.heard.length, second.heard.length]).toEqual([1, 1]), 5000)
      await first.subscription.close()
      await first.subscription.close()
      await here.bus.publish({ type: 'account_deleted', userId })
      await vi.waitFor(() => expect(second.heard).toHaveLength(2), 5000)
      expect(first.heard).toHaveLength(1)
    })

    it('BUS-2: whoever leaves and comes back at once hears, however often', async () => {
      const userId = await open()
      for (let round = 0; round < 20; round++) {
        const { subscription } = await collect(there.bus, userId)
        const leaving = subscription.close()
        const { heard, subscription: back } = await collect(there.bus, userId)
        await leaving
        await settle(heard, here.bus, userId)
        if (round % 2 === 0) await back.close()
        else void back.close()
      }
    })

    it('BUS-2: a handler that throws is counted and harms neither others nor later announcements', async () => {
      const userId = await open()
      await there.bus.subscribe(
        userId,
        () => {
          throw new Error('a broken handler')
        },
        context,
      )
      const { heard } = await collect(there.bus, userId)
      await here.bus.publish({ type: 'account_deleted', userId })
      await here.bus.publish({ type: 'account_deleted', userId })
      await vi.waitFor(() => expect(heard).toHaveLength(2), 5000)
      expect(await there.metrics.read('valise_bus_announcements_total', { direction: 'in', result: 'failed' })).toBe(2)
    })

    it('BUS-2: a handler may leave, and make others leave, while it is called', async () => {
      const userId = await open()
      const second = { heard: 0 }
      const first = await there.bus.subscribe(
        userId,
        () => {
          void first.close()
          void last.close()
        },
        context,
      )
      const last = await there.bus.subscribe(userId, () => second.heard++, context)
      const { heard } = await collect(there.bus, userId)
      await here.bus.publish({ type: 'account_deleted', userId })
      await vi.waitFor(() => expect(heard).toHaveLength(1), 5000)
      expect(second.heard).toBe(0)
    })

    it('SES-5: after close nothing is heard, nothing rejects, and closing again does nothing', async () => {
      const userId = await open()
      const { heard, subscription } = await collect(there.bus, userId)
      expect(there.bus.isHealthy).toBe(true)
      const closing = there.bus.close()
      expect(there.bus.isHealthy).toBe(false)
      await Promise.all([closing, there.bus.close()])
      await here.bus.publish({ type: 'account_deleted', userId })
      const late = await collect(there.bus, userId)
      await there.bus.publish({ type: 'account_deleted', userId })
      await subscription.close()
      await late.subscription.close()
      await there.bus.close()
      expect([...heard, ...late.heard]).toEqual([])
      expect(await there.metrics.read('valise_announcements_dropped_total')).toBe(1)
      expect(await there.metrics.read('valise_bus_healthy')).toBe(0)
    })
  })
}
