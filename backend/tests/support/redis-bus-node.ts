// The Redis bus of one node, with its account of itself, beside the Redis that it works with. What a test opens ends with it.

import { afterEach, expect } from 'vitest'
import type { Announcement, Bus, Subscription } from '../../src/bus/bus.ts'
import { openRedisBus } from '../../src/bus/redis-bus.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts'
import { testBusKeys } from './bus-keys.ts'
import { startRedis, type TestRedis } from './redis.ts'
import { readTruth, until } from './redis-truth.ts'

export interface BusNode {
  readonly bus: Bus
  readonly metrics: Metrics
  readonly gaps: { count: number }
  readonly lines: { readonly event: string; readonly [field: string]: unknown }[]
}

export const context = { deviceHash: 'fedcba9876543210' }
export const timings = { heartbeatMs: 200, connectTimeoutMs: 500, retryDelayMs: () => 20 }
const undo: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

export const atEnd = (step: () => Promise<unknown>): void => void undo.push(step)

export async function openRedis(options: { startsDown?: boolean } = {}): Promise<TestRedis> {
  const redis = await startRedis(options)
  atEnd(redis.close)
  return redis
}

export async function openNode(url: string, { heartbeatMs = timings.heartbeatMs } = {}): Promise<BusNode> {
  const metrics = createMetrics()
  const lines: BusNode['lines'] = []
  const log = createLog({ level: 'debug', stream: { write: (line) => lines.push(JSON.parse(line)) } })
  const bus = await openRedisBus({ url, keys: testBusKeys, log, metrics, timings: { ...timings, heartbeatMs } })
  const gaps = { count: 0 }
  bus.onGap(() => {
    gaps.count++
  })
  atEnd(bus.close)
  return { bus, metrics, gaps, lines }
}

export const untilHealthy = (node: BusNode): Promise<void> => until(() => expect(node.bus.isHealthy).toBe(true))

export const userOf = (index: number): Uint8Array => {
  const userId = new Uint8Array(32)
  new DataView(userId.buffer).setUint32(0, index + 1)
  return userId
}

export const subscribe = (
  node: BusNode,
  user: number,
  handler: (announcement: Announcement) => void = () => {},
): Promise<Subscription> => node.bus.subscribe(userOf(user), handler, context)

export const gauge = (node: BusNode): Promise<number> => node.metrics.read('redis_subscribers_active')
export const errors = (node: BusNode): Promise<number> => node.metrics.read('redis_subscriber_errors_total')
export const cleanupErrors = (node: BusNode): Promise<number> =>
  node.metrics.read('redis_subscriber_cleanup_errors_total')

/** What Redis itself holds: the channels somebody listens on, and the subscriptions of each subscriber connection. */
export async function truth(redis: TestRedis) {
  const { listenersByChannel, ...held } = await readTruth(redis)
  return { channels: [...listenersByChannel.keys()].sort(), ...held }
}
