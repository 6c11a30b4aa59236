// Ten thousand devices in a seeded order on two nodes.

import { afterEach, describe, expect, test } from 'vitest'
import { channelOf } from '../../src/bus/redis-bus.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { countResources, killSubscribers, readTruth, until, untilReleased } from '../support/redis-truth.ts'
import { createSeededRandom } from '../support/seeded-random.ts'
import { attachDevice, createMemoryLog, type HubDevice, type HubNode, openHubNode, userOf } from './hub-node.ts'

const USERS = 300
const COMINGS = 10_000
/** How many devices are connected, give or take. */
const CROWD = 250

interface Present {
  readonly node: HubNode
  readonly device: HubDevice
}

const gauge = (node: HubNode): Promise<number> => node.metrics.read('redis_subscribers_active')

/** The nodes' gauges, PUBSUB NUMSUB and CLIENT LIST against the devices that are really there. */
async function expectTruth(redis: TestRedis, nodes: readonly HubNode[], present: readonly Present[]): Promise<void> {
  const usersOf = (node: HubNode): Set<number> =>
    new Set(present.filter((one) => one.node === node).map(({ device }) => device.user))
  const listeners = new Map<string, number>()
  for (const user of nodes.flatMap((node) => [...usersOf(node)])) {
    const channel = channelOf(userOf(user))
    listeners.set(channel, (listeners.get(channel) ?? 0) + 1)
  }
  const wanted = nodes.map((node) => usersOf(node).size)
  await until(() => expect(nodes.map(({ bus }) => bus.isHealthy)).toEqual(nodes.map(() => true)))
  await until(async () => expect((await readTruth(redis)).listenersByChannel).toEqual(listeners))
  const truth = await readTruth(redis)
  expect(truth.subscriptions).toEqual([...wanted].sort((a, b) => a - b))
  expect(truth.connections).toBe(2 * nodes.length)
  expect(await Promise.all(nodes.map(gauge))).toEqual(wanted)
  expect(nodes.map(({ hubs }) => hubs.userCount)).toEqual(wanted)
}

export function describeHubChurn(): void {
  describe('of ten thousand devices', () => {
    const undo: (() => Promise<unknown>)[] = []
    afterEach(async () => {
      for (const step of undo.splice(0).reverse()) await step()
    })

    test('BUS-2: 10 000 comings and goings, broken connections, CLIENT KILL, a restart and an absence leave nothing', async () => {
      const redis = await startRedis()
      undo.push(redis.close)
      const before = countResources()
      const random = createSeededRandom(20_261_123)
      const memoryLog = createMemoryLog()
      const nodes = [await openHubNode(redis.url, memoryLog), await openHubNode(redis.url, memoryLog)]
      undo.push(...nodes.map((node) => node.close))
      const present: Present[] = []
      let moving: Promise<unknown>[] = []

      const come = (): void => {
        const node = random.pick(nodes)
        const chosen = { user: random.below(USERS), isBroken: random.chance(10), deviceHash: 'fedcba9876543210' }
        moving.push(attachDevice(node, memoryLog, chosen).then((device) => present.push({ node, device })))
      }
      const go = (): void => {
        const [left] = present.splice(random.below(present.length), 1)
        if (left !== undefined) moving.push(left.device.detach())
      }
      const settle = async (): Promise<void> => {
        await Promise.all(moving)
        moving = []
      }
      const trouble: Readonly<Record<number, () => Promise<unknown>>> = {
        2000: () => killSubscribers(redis),
        2010: () => killSubscribers(redis),
        4000: () => redis.restart(),
        6000: () => redis.kill(),
        6500: () => redis.restart(),
        8000: () => killSubscribers(redis),
      }
      const rests = new Set([1999, 3999, 5999, 7999, COMINGS])

      for (let comings = 1; comings <= COMINGS; comings++) {
        come()
        while (present.length > CROWD - random.below(CROWD)) go()
        memoryLog.append(random.below(USERS), random.pick(nodes).hubs)
        if (random.chance(5))
          random.pick(nodes).hubs.announce({ type: 'device_log', userId: userOf(random.below(USERS)), seq: 1 })
        // Some operations overlap with the next ones, and now and then everything stands still.
        if (random.chance(10)) await settle()
        const happen = trouble[comings]
        if (happen !== undefined) moving.push(happen())
        if (!rests.has(comings)) continue
        await settle()
        await expectTruth(redis, nodes, present)
        const sound = present.filter(({ device }) => !device.isBroken)
        const heads = sound.map(({ device }) => memoryLog.head(device.user))
        await until(() => expect(sound.map(({ device }) => device.received)).toEqual(heads))
        expect(sound.length).toBeGreaterThan(20)
      }

      while (present.length > 0) go()
      await settle()
      await expectTruth(redis, nodes, [])
      for (const { lines, failures, metrics } of nodes) {
        expect(lines.filter(({ event }) => event === 'bus.redis.restored').length).toBeGreaterThan(0)
        expect(lines.find(({ event }) => event === 'bus.channel.left')?.device).toBe('fedcba9876543210')
        expect(await metrics.read('redis_subscriber_errors_total')).toBeGreaterThan(0)
        expect(failures.length).toBeGreaterThan(0)
      }
      for (const node of nodes) await node.close()
      expect(await readTruth(redis)).toMatchObject({ subscriptions: [], connections: 0 })
      await untilReleased(before)
    }, 120_000)
  })
}
