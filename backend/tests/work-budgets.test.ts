// What a session, a user and an address may use of a node's time, and who is served next.

import { clientMessage } from '@valise/protocol'
import { describe, expect, test } from 'vitest'
import { MESSAGE_COSTS, ROUTE_COSTS, ROUTES } from '../src/limits/costs.ts'
import { createFairTurns } from '../src/limits/fair-turns.ts'
import { createWorkBudgets, nodeWorkRule, workRule } from '../src/limits/work-budgets.ts'
import { createSeededRandom } from './support/seeded-random.ts'

describe('costs', () => {
  test('LIM-10: every message and every route has one, and none is free', () => {
    const types = clientMessage.options.map((option) => option.shape.type.value)
    expect(Object.keys(MESSAGE_COSTS).sort()).toEqual([...types].sort())
    for (const cost of Object.values(MESSAGE_COSTS)) expect(cost).toBeGreaterThan(0)
    expect(Object.keys(ROUTE_COSTS).sort()).toEqual([...ROUTES].sort())
    for (const cost of Object.values(ROUTE_COSTS)) expect(cost).toBeGreaterThan(0)
  })
})

describe('budgets', () => {
  const openBudgets = (percents: readonly [session: number, user: number, address: number], nodePercent = 0) => {
    const scene = { nowMs: 0, worked: 0, limited: [] as string[] }
    const [session, user, address] = percents.map(workRule)
    const budgets = createWorkBudgets({
      rules: { session, user, address, node: nodeWorkRule(nodePercent) },
      observe: (cost) => {
        scene.worked += cost
      },
      countLimited: (scope) => void scene.limited.push(scope),
      now: () => scene.nowMs,
    })
    return { scene, budgets }
  }
  const one = { sessionKey: '1', userKey: 'u', address: 'a' }

  test('LIM-10: work within the burst is free of rest, and what is owed beyond is paid at the rate', () => {
    const { scene, budgets } = openBudgets([1, 0, 0])
    // One percent is 10 ms a second, saved up for four seconds.
    expect(budgets.charge(one, 40_000)).toBe(0)
    expect(budgets.charge(one, 10_000)).toBe(1000)
    scene.nowMs += 1000
    expect(budgets.charge(one, 0)).toBe(0)
    expect(scene.worked).toBe(50_000)
    expect(scene.limited).toEqual(['session'])
  })

  test('LIM-10: sessions share the budget of their user, and users that of their address', () => {
    const { budgets } = openBudgets([0, 1, 2])
    expect(budgets.charge(one, 40_000)).toBe(0)
    expect(budgets.charge({ ...one, sessionKey: '2' }, 1000)).toBe(100)
    const other = { sessionKey: '3', userKey: 'v', address: 'a' }
    expect(budgets.charge(other, 39_000)).toBe(0)
    expect(budgets.charge(other, 1000)).toBe(50)
    expect(budgets.charge({ sessionKey: '4', userKey: 'w', address: 'b' }, 40_000)).toBe(0)
    // Requests without a session are the address's too; a refused one costs nothing.
    expect(budgets.refuseRequest('a', 1000)).toBe(50)
    expect(budgets.refuseRequest('a', 1000)).toBe(50)
    expect(budgets.refuseRequest('b', 1000)).toBeUndefined()
  })

  test('LIM-10: nobody rests longer than ten seconds at a time, and what is owed then is still owed', () => {
    const { scene, budgets } = openBudgets([1, 0, 0])
    expect(budgets.charge(one, 1_000_000)).toBe(10_000)
    scene.nowMs += 10_000
    expect(budgets.charge(one, 0)).toBe(10_000)
  })

  test('LIM-10: when all together ask for too much, those rest that have asked for much', () => {
    const { scene, budgets } = openBudgets([10, 0, 0], 50)
    for (let i = 0; i < 5; i++) expect(budgets.charge({ ...one, sessionKey: `busy ${i}` }, 14_000)).toBe(0)
    // Each has used little, though all together owe 20 ms.
    expect(budgets.charge({ ...one, sessionKey: 'busy 0' }, 2000)).toBe(44)
    expect(budgets.charge({ ...one, sessionKey: 'quiet' }, 100)).toBe(0)
    expect(scene.limited).toEqual(['node'])
    scene.nowMs += 100
    expect(budgets.charge({ ...one, sessionKey: 'busy 0' }, 2000)).toBe(0)
  })

  test('LIM-10: a percentage of 0 limits nothing', () => {
    const { budgets } = openBudgets([0, 0, 0])
    expect(budgets.charge(one, 1e12)).toBe(0)
    expect(budgets.refuseRequest('a', 1e12)).toBeUndefined()
  })
})

describe('turns', () => {
  const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

  test('LIM-11: whoever floods waits for himself: the next is of the address, then of its user, served longest ago', async () => {
    const turns = createFairTurns({ atOnce: 1, now: () => 0 })
    const served: string[] = []
    const ask = (address: string, userKey: string): Promise<void> =>
      turns.run({ address, userKey }, async () => {
        await nextTurn()
        served.push(`${address}${userKey}`)
      })
    const all = [...Array.from({ length: 6 }, () => ask('a', '1')), ask('a', '2'), ask('b', '1'), ask('b', '1')]
    expect(turns.waitingCount).toBe(8)
    await Promise.all(all)
    expect(served).toEqual(['a1', 'a1', 'b1', 'a2', 'b1', 'a1', 'a1', 'a1', 'a1'])
    expect(turns.waitingCount).toBe(0)
  })

  test('LIM-11: as many run at once as may, also when work fails, and each has its own outcome', async () => {
    const random = createSeededRandom(11)
    let running = 0
    let most = 0
    const turns = createFairTurns({ atOnce: 3, now: () => 0, rest: () => nextTurn() })
    const outcomes = await Promise.allSettled(
      Array.from({ length: 200 }, (_, index) =>
        turns.run({ address: String(index % 7), userKey: String(index % 3) }, async () => {
          most = Math.max(most, ++running)
          for (let i = 0; i < random.below(4); i++) await nextTurn()
          running--
          if (index % 5 === 0) throw new Error(String(index))
          return index
        }),
      ),
    )
    expect(most).toBe(3)
    for (const [index, outcome] of outcomes.entries()) {
      if (index % 5 === 0) expect(outcome).toMatchObject({ reason: { message: String(index) } })
      else expect(outcome).toMatchObject({ value: index })
    }
    expect(turns.waitingCount).toBe(0)
  })

  test('LIM-11: with any mix of floods, a key is passed over at most once for each other key', async () => {
    const random = createSeededRandom(7)
    for (let round = 0; round < 50; round++) {
      const turns = createFairTurns({ atOnce: 1, now: () => 0 })
      const served: number[] = []
      const addresses = 2 + random.below(6)
      const asked = Array.from({ length: 100 }, () => random.below(addresses) * random.below(2))
      await Promise.all(
        asked.map((address) =>
          turns.run({ address: String(address), userKey: '' }, async () => {
            await nextTurn()
            served.push(address)
          }),
        ),
      )
      const left = new Map<number, number>()
      for (const address of asked) left.set(address, (left.get(address) ?? 0) + 1)
      // The first was served before the others asked.
      let since = new Map<number, number>()
      for (const [place, address] of served.entries()) {
        left.set(address, (left.get(address) ?? 0) - 1)
        since.set(address, 0)
        for (const [other, count] of left) {
          if (other === address || count === 0 || place === 0) continue
          const passed = (since.get(other) ?? 0) + 1
          since.set(other, passed)
          expect(passed, `round ${round}`).toBeLessThanOrEqual(addresses)
        }
      }
      since = new Map()
    }
  })
})
