// The outbox: durable, sealed, bounded, in order.

import { setImmediate as turn } from 'node:timers/promises'
import { createEventId } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { expect, test } from 'vitest'
import { type Outbox, type OutboxItem, type OutboxLimits, openOutbox } from '../src/publish/outbox.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import type { Store } from '../src/store/store.ts'
import { sealer } from './support/test-device.ts'
import { until } from './support/until.ts'

const ROOMY: OutboxLimits = { maxEvents: 100, maxBytes: 1_000_000 }
const open = (store: Store, limits = ROOMY): Promise<Outbox> => openOutbox({ store, sealer, limits })
const item = (name: string, size = 4): OutboxItem => ({
  eventId: createEventId(1_700_000_000_000, crypto.randomBytes(10)),
  streamName: name,
  ttlS: 7,
  content: new Uint8Array(size).fill(name.charCodeAt(0)),
})
const namesIn = async (outbox: Outbox): Promise<string[]> =>
  (await outbox.read(0, 100, 1_000_000)).map(({ streamName }) => streamName)
const settle = async (store: Store, outbox: Outbox, position: number): Promise<void> => {
  await store.batch([outbox.removal(position)])
  outbox.settled(position)
}

test('P3: what was added is there after a restart, in order and unchanged', async () => {
  const store = createMemoryStore()
  const outbox = await open(store)
  const items = ['a', 'b', 'c'].map((name) => item(name))
  for (const each of items) await outbox.add(each)
  const reopened = await open(store)
  expect([reopened.count, reopened.last]).toEqual([3, 3])
  expect(reopened.bytes).toBe(outbox.bytes)
  const read = await reopened.read(0, 100, 1_000_000)
  expect(read.map(({ position, ...rest }) => rest)).toEqual(items)
  expect(read.map(({ position }) => position)).toEqual([1, 2, 3])
  expect(await reopened.get(2)).toMatchObject({ streamName: 'b', ttlS: 7 })
  expect(await reopened.get(4)).toBeUndefined()
})

test('P1: nothing of an item lies open in the store', async () => {
  const store = createMemoryStore()
  const outbox = await open(store)
  await outbox.add({ ...item('diary-of-mine'), content: new TextEncoder().encode('what nobody may read') })
  for await (const [key, value] of store.range({})) {
    expect(key).toMatch(/^outbox\/\d{16}$/)
    expect(Buffer.from(value).toString('latin1')).not.toMatch(/diary|nobody/)
  }
})

test('reads are bounded in events and bytes, but never stuck on one large item', async () => {
  const store = createMemoryStore()
  const outbox = await open(store)
  for (const [name, size] of [
    ['a', 10],
    ['b', 5000],
    ['c', 10],
  ] as const) {
    await outbox.add(item(name, size))
  }
  expect(await outbox.read(0, 2, 1_000_000)).toHaveLength(2)
  expect(await outbox.read(0, 100, 1000)).toHaveLength(1)
  expect(await outbox.read(1, 100, 1000)).toMatchObject([{ streamName: 'b' }])
  expect(await outbox.read(3, 100, 1000)).toEqual([])
})

test('P5: publishers wait while it is full in events or bytes, and are let in one by one, in order', async () => {
  for (const limits of [
    { maxEvents: 1, maxBytes: 1_000_000 },
    { maxEvents: 100, maxBytes: 100 },
  ]) {
    const store = createMemoryStore()
    const outbox = await open(store, limits)
    await outbox.add(item('a', 200))
    const let_in: string[] = []
    const waiting = ['b', 'c'].map((name, index) =>
      outbox.add(item(name, index === 0 ? 200 : 1)).then(() => let_in.push(name)),
    )
    await until(() => outbox.count === 1, 'the first item')
    expect(let_in).toEqual([])
    await settle(store, outbox, 1)
    await until(() => let_in.length === 1, 'the second item')
    expect(await namesIn(outbox)).toEqual(['b'])
    await settle(store, outbox, 2)
    await Promise.all(waiting)
    expect(let_in).toEqual(['b', 'c'])
  }
})

test.each([
  ['exactly fits', 0, 2],
  ['is a byte too large', 1, 1],
])('P5: of an item that %s its plaintext counts, and of those in it what they take', async (_, excess, count) => {
  const kept = await open(createMemoryStore())
  await kept.add(item('a', 50))
  // What is stored of an item without a name and content.
  const PLAIN_BYTES = 16 + 4 + 4 + 4
  const outbox = await open(createMemoryStore(), { maxEvents: 100, maxBytes: kept.bytes + PLAIN_BYTES + 1 + 20 })
  await outbox.add(item('a', 50))
  const giveUp = new AbortController()
  const adding = outbox.add(item('b', 20 + excess), giveUp.signal).catch((error: unknown) => error)
  await turn()
  expect(outbox.count).toBe(count)
  giveUp.abort()
  await adding
})

test('P5: who waits may give up without holding up the others', async () => {
  const store = createMemoryStore()
  const outbox = await open(store, { maxEvents: 1, maxBytes: 1_000_000 })
  await outbox.add(item('a'))
  const controller = new AbortController()
  const given_up = outbox.add(item('b'), controller.signal)
  const kept = outbox.add(item('c'))
  controller.abort(new Error('no longer wanted'))
  await expect(given_up).rejects.toThrow('no longer wanted')
  await settle(store, outbox, 1)
  await kept
  expect(await namesIn(outbox)).toEqual(['c'])
})

test('P3: an item that the store did not take is not in the outbox', async () => {
  const store = createMemoryStore()
  let isFull = true
  const failing: Store = {
    ...store,
    batch: (operations) => (isFull ? Promise.reject(new Error('disk full')) : store.batch(operations)),
  }
  const outbox = await open(failing)
  await expect(outbox.add(item('a'))).rejects.toThrow('disk full')
  expect([outbox.count, outbox.bytes]).toEqual([0, 0])
  isFull = false
  await outbox.add(item('b'))
  expect(await namesIn(outbox)).toEqual(['b'])
})

test('what the client publishes by itself does not wait for room', async () => {
  const store = createMemoryStore()
  const outbox = await open(store, { maxEvents: 1, maxBytes: 1_000_000 })
  await outbox.add(item('a'))
  await outbox.addAtOnce(item('b'))
  expect(await namesIn(outbox)).toEqual(['a', 'b'])
})

test('a changed record is an alarm, never another event', async () => {
  const store = createMemoryStore()
  const outbox = await open(store)
  await outbox.add(item('a'))
  for await (const [key, value] of store.range({})) {
    await store.batch([{ type: 'put', key, value: Uint8Array.from(value, (byte) => byte ^ 1) }])
  }
  await expect(outbox.get(1)).rejects.toMatchObject({ alarm: { code: 'store_damaged' } })
})

test('P5: once nothing leaves it any more, whoever waits for room is told, and so is who comes later', async () => {
  const outbox = await open(createMemoryStore(), { maxEvents: 1, maxBytes: 1_000_000 })
  await outbox.add(item('a'))
  const waiting = ['b', 'c'].map((name) => expect(outbox.add(item(name))).rejects.toThrow('stopped'))
  outbox.giveUp(new Error('stopped'))
  await Promise.all(waiting)
  await expect(outbox.add(item('d'))).rejects.toThrow('stopped')
  expect(await namesIn(outbox)).toEqual(['a'])
})
