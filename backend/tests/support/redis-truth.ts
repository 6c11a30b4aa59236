// What Redis itself holds of the nodes under test, and what this process holds of Redis, to compare a node's own account
// with.

import { vi } from 'vitest'
import type { TestRedis } from './redis.ts'

const DEADLINE_MS = 30_000

/** Waits for a condition, never for time. */
export const until = <T>(check: () => T): Promise<Awaited<T>> =>
  vi.waitFor(check, { timeout: DEADLINE_MS, interval: 10 }) as Promise<Awaited<T>>

export interface RedisTruth {
  /** PUBSUB NUMSUB of every channel somebody listens on: listening connections by channel. */
  readonly listenersByChannel: ReadonlyMap<string, number>
  /** CLIENT LIST: channels of each node's subscriber connection, sorted. */
  readonly subscriptions: readonly number[]
  /** All connections of nodes, subscribers and publishers. */
  readonly connections: number
}

export async function readTruth(redis: TestRedis): Promise<RedisTruth> {
  const listed = await redis.send('PUBSUB', 'CHANNELS', '*')
  const channels = Array.isArray(listed) ? listed.map(String) : []
  const counted = channels.length === 0 ? [] : await redis.send('PUBSUB', 'NUMSUB', ...channels)
  const answer = Array.isArray(counted) ? counted : []
  const nodes = (await redis.clients()).filter(({ name }) => name.startsWith('valise-'))
  return {
    listenersByChannel: new Map(channels.map((channel, i) => [channel, Number(answer[2 * i + 1])])),
    subscriptions: nodes
      .filter(({ name }) => name.startsWith('valise-subscriber-'))
      .map(({ sub }) => sub)
      .sort((a, b) => a - b),
    connections: nodes.length,
  }
}

/** CLIENT KILL of every node's subscriber. */
export async function killSubscribers(redis: TestRedis): Promise<void> {
  for (const { name, id } of await redis.clients()) {
    if (name.startsWith('valise-subscriber-')) await redis.send('CLIENT', 'KILL', 'ID', id)
  }
}

/** Timers, sockets and servers that keep this process alive. */
export function countResources(): Map<string, number> {
  const countByKind = new Map<string, number>()
  for (const kind of process.getActiveResourcesInfo()) {
    if (/^(Timeout|TCPSocketWrap|TCPServerWrap|ConnectWrap)$/.test(kind)) {
      countByKind.set(kind, (countByKind.get(kind) ?? 0) + 1)
    }
  }
  return countByKind
}

/** Waits without a timer, which would count itself, for handles that close in the next turns of the loop. */
export async function untilReleased(before: ReadonlyMap<string, number>): Promise<void> {
  const deadlineMs = performance.now() + DEADLINE_MS
  const extra = () => [...countResources()].filter(([kind, count]) => count > (before.get(kind) ?? 0))
  while (extra().length > 0) {
    if (performance.now() > deadlineMs) throw new Error(`still held: ${JSON.stringify(extra())}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}
