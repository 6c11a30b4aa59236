// After everything has come, failed and gone, Redis and this process hold nothing of a node.

import { describe, expect, it } from 'vitest'
import type { Subscription } from '../src/bus/bus.ts'
import { channelOf } from '../src/bus/redis-bus.ts'
import { errors, gauge, openNode, openRedis, subscribe, truth, untilHealthy, userOf } from './support/redis-bus-node.ts'
import { countResources, killSubscribers, until, untilReleased } from './support/redis-truth.ts'
import { createSeededRandom } from './support/seeded-random.ts'

describe('redis bus, afterwards', () => {
  it('BUS-2: after 2 000 comings and goings in a seeded order, with failing handlers, a kill and a restart, all is gone', async () => {
    const redis = await openRedis()
    const before = countResources()
    const [node, other] = [await openNode(redis.url), await openNode(redis.url)]
    const USERS = 60
    const open: { user: number; subscription: Promise<Subscription> }[] = []
    const closing: Promise<void>[] = []
    const random = createSeededRandom(42)
    const handler = () => {
      throw new Error('a broken handler')
    }
    for (let step = 0; step < 2000; step++) {
      const pick = random.below(2 ** 24)
      if (pick % 2 === 0 || open.length === 0) {
        const user = (pick >> 1) % USERS
        open.push({ user, subscription: subscribe(node, user, handler) })
      } else {
        const [left] = open.splice((pick >> 1) % open.length, 1)
        closing.push(left!.subscription.then((subscription) => subscription.close()))
      }
      if (step % 10 === 0) void other.bus.publish({ type: 'account_deleted', userId: userOf(pick % USERS) })
      if (step % 25 === 0) await Promise.all(closing.splice(0))
      if (step === 600) await killSubscribers(redis)
      if (step === 1200) await redis.restart()
    }
    await Promise.all([...closing, ...open.map(({ subscription }) => subscription)])
    await untilHealthy(node)
    const wanted = new Set(open.map(({ user }) => channelOf(userOf(user))))
    expect(wanted.size).toBeGreaterThan(0)
    await until(async () => expect((await truth(redis)).channels).toEqual([...wanted].sort()))
    expect(await gauge(node)).toBe(wanted.size)
    expect((await truth(redis)).subscriptions).toEqual([0, wanted.size])

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
    const redis = await openRedis({ startsDown: true })
    const before = countResources()
    const node = await openNode(redis.url)
    await subscribe(node, 1)
    await node.bus.close()
    await untilReleased(before)
    expect(await gauge(node)).toBe(0)
  })
})
