// The races of one channel, by hand and at random: a remote whose every answer the test gives when it likes.

import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { type ChannelTable, createChannelTable } from '../src/bus/channel-table.ts'
import type { Subscriber } from '../src/bus/subscribers.ts'

interface Operation {
  readonly type: 'subscribe' | 'unsubscribe'
  readonly names: readonly string[]
  answer(): void
  refuse(): void
}

/** Plays Redis: holds what was confirmed, and fails the test when an operation is out of order. */
function createHandRemote() {
  const pending: Operation[] = []
  const held = new Set<string>()
  const faults: string[] = []
  const request = (type: Operation['type'], names: readonly string[]): Promise<void> =>
    new Promise((resolve, reject) => {
      for (const name of names) {
        if (pending.some((operation) => operation.names.includes(name))) faults.push(`two operations at once: ${name}`)
        if (held.has(name) === (type === 'subscribe')) faults.push(`${type} without need: ${name}`)
      }
      const end = (settle: () => void) => () => {
        pending.splice(pending.indexOf(operation), 1)
        settle()
      }
      const operation: Operation = {
        type,
        names,
        answer: end(() => {
          for (const name of names) type === 'subscribe' ? held.add(name) : held.delete(name)
          resolve()
        }),
        refuse: end(() => reject(new Error('refused'))),
      }
      pending.push(operation)
    })
  return {
    pending,
    held,
    faults,
    remote: {
      subscribe: (names: readonly string[]) => request('subscribe', names),
      unsubscribe: (names: readonly string[]) => request('unsubscribe', names),
    },
  }
}

function createTable() {
  const seen = { active: 0, left: [] as string[], failures: [] as string[] }
  const table = createChannelTable({
    onActive: (count) => {
      seen.active = count
    },
    onLeft: (deviceHash) => seen.left.push(deviceHash),
    onFailure: ({ operation }) => seen.failures.push(operation),
  })
  return { table, seen }
}

const subscriber = (deviceHash = 'device'): Subscriber => ({ handler: () => {}, context: { deviceHash } })
const userId = new Uint8Array(32)
const add = (table: ChannelTable, name: string, entry: Subscriber) => table.add(name, userId, entry)
/** Lets every promise that can go on go on. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const isSettled = async (promise: Promise<unknown>): Promise<boolean> => {
  const settled = vi.fn()
  void promise.then(settled)
  await turn()
  return settled.mock.calls.length > 0
}

describe('channel table', () => {
  it('BUS-1: the first reference subscribes, the last unsubscribes, those between cause nothing', async () => {
    const { table, seen } = createTable()
    const hand = createHandRemote()
    await table.connect(hand.remote)
    const [first, second] = [subscriber('one'), subscriber('two')]
    const heard = add(table, 'c', first)
    await turn()
    expect(hand.pending.map((operation) => operation.type)).toEqual(['subscribe'])
    expect(await isSettled(heard)).toBe(false)
    hand.pending[0]!.answer()
    await heard
    await add(table, 'c', second)
    await table.remove('c', first)
    expect(hand.pending).toEqual([])
    expect(seen.active).toBe(1)
    const gone = table.remove('c', second)
    await turn()
    expect(hand.pending.map((operation) => operation.type)).toEqual(['unsubscribe'])
    expect(seen.active).toBe(1)
    expect(await isSettled(gone)).toBe(false)
    hand.pending[0]!.answer()
    await gone
    expect(seen).toEqual({ active: 0, left: ['two'], failures: [] })
    expect(table.find('c')).toBeUndefined()
  })

  it('BUS-2: a channel left while its subscribe is on the way is unsubscribed after, never before', async () => {
    const { table, seen } = createTable()
    const hand = createHandRemote()
    await table.connect(hand.remote)
    const entry = subscriber()
    void add(table, 'c', entry)
    await turn()
    const gone = table.remove('c', entry)
    await turn()
    expect(hand.pending.map((operation) => operation.type)).toEqual(['subscribe'])
    hand.pending[0]!.answer()
    await turn()
    expect(hand.pending.map((operation) => operation.type)).toEqual(['unsubscribe'])
    hand.pending[0]!.answer()
    await gone
    expect(hand.held.size).toBe(0)
    expect(seen.active).toBe(0)
  })

  it('BUS-2: a channel taken again while its unsubscribe is on the way is subscribed after it', async () => {
    const { table, seen } = createTable()
    const hand = createHandRemote()
    await table.connect(hand.remote)
    const [first, second] = [subscriber(), subscriber()]
    const heardFirst = add(table, 'c', first)
    await turn()
    hand.pending[0]!.answer()
    await heardFirst
    const gone = table.remove('c', first)
    await turn()
    const heard = add(table, 'c', second)
    await turn()
    expect(hand.pending.map((operation) => operation.type)).toEqual(['unsubscribe'])
    // Not heard yet: what is published between the two operations would be missed.
    expect(await isSettled(heard)).toBe(false)
    hand.pending[0]!.answer()
    await turn()
    expect(hand.pending.map((operation) => operation.type)).toEqual(['subscribe'])
    expect(await isSettled(gone)).toBe(true)
    hand.pending[0]!.answer()
    await heard
    expect(hand.held).toEqual(new Set(['c']))
    expect(seen.active).toBe(1)
  })

  it('BUS-2: left and taken again within one turn, the channel never leaves Redis', async () => {
    const { table } = createTable()
    const hand = createHandRemote()
    await table.connect(hand.remote)
    const [first, second] = [subscriber(), subscriber()]
    const heard = add(table, 'c', first)
    await turn()
    hand.pending[0]!.answer()
    await heard
    const gone = table.remove('c', first)
    await add(table, 'c', second)
    await gone
    expect(hand.pending).toEqual([])
    expect(hand.held).toEqual(new Set(['c']))
  })

  it('BUS-2: a channel left for good does not take its successor of the same name with it', async () => {
    const { table } = createTable()
    const hand = createHandRemote()
    await table.connect(hand.remote)
    const [first, passing] = [subscriber(), subscriber()]
    const heard = add(table, 'c', first)
    await turn()
    hand.pending[0]!.answer()
    await heard
    void table.remove('c', first)
    await turn()
    // In one turn: the unsubscribe is answered, somebody passes, and a new subscriber comes right after the answer.
    hand.pending[0]!.answer()
    const coming = Promise.resolve().then(() => add(table, 'c', subscriber()))
    void add(table, 'c', passing)
    void table.remove('c', passing)
    await turn()
    hand.pending[0]!.answer()
    await coming
    expect(hand.held).toEqual(new Set(['c']))
    expect(table.find('c')?.subscribers.size).toBe(1)
  })

  it('BUS-3: whoever waits is let go when the connection is lost, and all that is wanted is subscribed on the next', async () => {
    const { table, seen } = createTable()
    const lost = createHandRemote()
    await table.connect(lost.remote)
    const [staying, leaving] = [subscriber(), subscriber()]
    const heard = add(table, 'stays', staying)
    void add(table, 'leaves', leaving)
    await turn()
    table.disconnect()
    await heard
    await table.remove('leaves', leaving)
    await add(table, 'new', subscriber())
    const next = createHandRemote()
    const connected = table.connect(next.remote)
    await turn()
    expect(next.pending.map((operation) => operation.names)).toEqual([['stays', 'new']])
    // The answer of the lost connection comes late and changes nothing.
    lost.pending[0]!.answer()
    await turn()
    expect(seen.active).toBe(0)
    next.pending[0]!.answer()
    await connected
    expect(seen.active).toBe(2)
  })

  it('BUS-2: a refused operation disconnects, is reported once, and leaves nobody waiting', async () => {
    const { table, seen } = createTable()
    const hand = createHandRemote()
    await table.connect(hand.remote)
    const entry = subscriber()
    const heard = add(table, 'c', entry)
    await turn()
    hand.pending[0]!.refuse()
    await heard
    expect(seen).toEqual({ active: 0, left: [], failures: ['subscribe'] })
    await table.remove('c', entry)
    expect(table.find('c')).toBeUndefined()
  })

  it('BUS-2: clearing waits until Redis has confirmed the last unsubscribe', async () => {
    const { table, seen } = createTable()
    const hand = createHandRemote()
    await table.connect(hand.remote)
    const heard = add(table, 'a', subscriber())
    await turn()
    hand.pending[0]!.answer()
    await heard
    void add(table, 'b', subscriber())
    await turn()
    const cleared = table.clear()
    while (hand.pending.length > 0) {
      expect(await isSettled(cleared)).toBe(false)
      hand.pending[0]!.answer()
      await turn()
    }
    await cleared
    expect(hand.held.size).toBe(0)
    expect(seen.active).toBe(0)
  })

  it('BUS-2: in any order of comings, goings, answers and lost connections, what is held is what is wanted', async () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ type: fc.constant('add' as const), name: fc.integer({ min: 0, max: 2 }) }) },
      { weight: 6, arbitrary: fc.record({ type: fc.constant('remove' as const), pick: fc.nat() }) },
      { weight: 6, arbitrary: fc.record({ type: fc.constant('answer' as const), pick: fc.nat() }) },
      { weight: 3, arbitrary: fc.record({ type: fc.constant('turn' as const) }) },
      { weight: 3, arbitrary: fc.record({ type: fc.constant('tick' as const) }) },
      { weight: 1, arbitrary: fc.record({ type: fc.constant('lose' as const) }) },
      { weight: 1, arbitrary: fc.record({ type: fc.constant('refuse' as const), pick: fc.nat() }) },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { table, seen } = createTable()
        let hand = createHandRemote()
        const faults: string[] = []
        const open: { name: string; entry: Subscriber }[] = []
        const waiting: Promise<unknown>[] = []
        const reconnect = () => {
          faults.push(...hand.faults)
          hand = createHandRemote()
          void table.connect(hand.remote)
        }
        reconnect()
        for (const action of steps) {
          if (action.type === 'add') {
            const [name, entry] = [`c${action.name}`, subscriber()]
            open.push({ name, entry })
            waiting.push(add(table, name, entry))
          } else if (action.type === 'remove' && open.length > 0) {
            const [left] = open.splice(action.pick % open.length, 1)
            waiting.push(table.remove(left!.name, left!.entry))
          } else if (action.type === 'answer' && hand.pending.length > 0) {
            hand.pending[action.pick % hand.pending.length]!.answer()
          } else if (action.type === 'refuse' && hand.pending.length > 0) {
            hand.pending[action.pick % hand.pending.length]!.refuse()
            await turn()
            reconnect()
          } else if (action.type === 'lose') {
            table.disconnect()
            reconnect()
          } else if (action.type === 'tick') await Promise.resolve()
          else await turn()
        }
        await turn()
        while (hand.pending.length > 0) {
          for (const operation of [...hand.pending]) operation.answer()
          await turn()
        }
        await Promise.all(waiting)
        expect([...faults, ...hand.faults]).toEqual([])
        expect(hand.held).toEqual(new Set(open.map(({ name }) => name)))
        expect(seen.active).toBe(hand.held.size)
      }),
      { numRuns: 300 },
    )
  })
})
