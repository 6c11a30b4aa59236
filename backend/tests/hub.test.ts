// The fan-out of one node by itself: whose failure is whose, and what a sweep of heads covers.

import { toHex } from '@valise/protocol'
import { describe, expect, test } from 'vitest'
import type { Announcement, Bus } from '../src/bus/bus.ts'
import { createLocalBus, createLocalExchange } from '../src/bus/local-bus.ts'
import type { WholeItem } from '../src/db/queries/events.ts'
import type { SubmittedEvent } from '../src/log/batch.ts'
import { createDelivery } from '../src/log/delivery.ts'
import { createHubs, type Member, toLogItems } from '../src/log/hub.ts'
import type { StoredBatch } from '../src/log/intake.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'

const userId = new Uint8Array(32).fill(7)
const context = { deviceHash: 'fedcba9876543210' }

/** Live at the beginning of the log; writes down what it is given, or throws on all of it. */
async function createMember(options: { isBroken?: boolean } = {}) {
  const given: string[] = []
  const take = (what: string): void => {
    if (options.isBroken === true) throw new Error('a broken member')
    given.push(what)
  }
  const delivery = createDelivery({
    deviceId: new Uint8Array(16),
    readPage: async (after) => ({ items: [], through: after, prunedThrough: 0, atMs: 0, head: after }),
    isEmptied: async () => false,
    allowance: () => 100,
    send: () => {},
    sendEncoded: ({ from, to }) => take(`events ${from}–${to}`),
    sendCaughtUp: () => {},
    sendPruned: () => {},
    onBehind: () => {},
    onCatchUp: () => take('catch-up'),
    onFailure: () => {},
  })
  delivery.start(0, 0)
  await expect.poll(() => delivery.state()).toBe('live')
  const member: Member = {
    delivery,
    onControl: (word) => take(word.type === 'device_log' ? `device_log ${word.seq}` : word.type),
    onHint: ({ type }) => take(`hint: ${type}`),
  }
  return { member, given }
}

function createNode(exchange = createLocalExchange(), now = () => 1_000_000, heard: Promise<void> = Promise.resolve()) {
  const failures: unknown[] = []
  const reads: ((head: number) => void)[] = []
  const logReads: ((seq: number) => void)[] = []
  /** What another node says. */
  const hear = async (announcement: Announcement) => {
    await outside.publish(announcement)
    await Promise.resolve()
  }
  const outside = createLocalBus({ log: createLog({ level: 'silent' }), metrics: createMetrics(), exchange })
  const metrics = createMetrics()
  const bus = createLocalBus({ log: createLog({ level: 'silent' }), metrics, exchange })
  const subscribe: Bus['subscribe'] = async (...args) => {
    await heard
    return bus.subscribe(...args)
  }
  const hubs = createHubs({
    bus: { ...bus, subscribe },
    readHeads: (userIds) =>
      new Promise((resolve) => reads.push((head) => resolve(new Map(userIds.map((id) => [toHex(id), head]))))),
    readLogSeqs: (userIds) =>
      new Promise((resolve) => logReads.push((seq) => resolve(new Map(userIds.map((id) => [toHex(id), seq]))))),
    onFailure: (error) => failures.push(error),
    metrics: metrics.delivery,
    now,
    monotonicMs: () => 500,
  })
  return { hubs, failures, reads, logReads, metrics, hear }
}

function storedBatch(userSeq: number): StoredBatch {
  const event: SubmittedEvent = {
    streamId: new Uint8Array(16),
    eventId: new Uint8Array(16),
    epoch: 1,
    logSeq: 0,
    logHead: new Uint8Array(32),
    ttlS: 0,
    checkpoint: undefined,
    chain: new Uint8Array(32),
    wire: new Uint8Array(8),
    deviceSeq: userSeq,
    chainPrev: new Uint8Array(32),
  }
  const deviceId = new Uint8Array(16).fill(9)
  const stored = { event, deviceId, userSeq, streamSeq: userSeq, storedAtMs: 1 }
  return { userKey: toHex(userId), userId, events: [stored], arrivedAtMs: 460, traces: [] }
}

describe('hubs', () => {
  test('BUS-2: a member that fails keeps nothing from the others of its user, on its node and on the next', async () => {
    const exchange = createLocalExchange()
    const [here, there] = [createNode(exchange), createNode(exchange)]
    const members = []
    for (const [i, { hubs }] of [here, here, there, there].entries()) {
      const member = await createMember({ isBroken: i % 2 === 0 })
      await hubs.attach(userId, member.member, context)
      hubs.noteHead(userId, 0)
      members.push(member)
    }
    here.hubs.announceStored(storedBatch(1))
    here.hubs.announce({ type: 'account_deleted', userId })
    await Promise.resolve()
    expect(members.map(({ given }) => given)).toEqual([
      [],
      ['events 1–1', 'account_deleted'],
      [],
      ['events 1–1', 'hint: account_deleted'],
    ])
    expect(here.failures).toHaveLength(2)
    expect(await there.metrics.read('valise_bus_announcements_total', { direction: 'in', result: 'failed' })).toBe(2)
  })

  test('BUS-2: who leaves takes word from no other of the user; who comes back, or comes last, is heard', async () => {
    const exchange = createLocalExchange()
    const [here, there] = [createNode(exchange), createNode(exchange)]
    const [stays, goes, returns] = [await createMember(), await createMember(), await createMember()]
    const announce = async () => {
      there.hubs.announce({ type: 'account_deleted', userId })
      await Promise.resolve()
    }
    await here.hubs.attach(userId, stays.member, context)
    const detach = await here.hubs.attach(userId, goes.member, context)
    await detach()
    await announce()
    expect([stays.given.length, goes.given.length]).toEqual([1, 0])
    await detach()
    await announce()
    expect(stays.given).toHaveLength(2)

    // One leaves twice, and the user has a new hub meanwhile.
    const lone = createNode(exchange)
    const leave = await lone.hubs.attach(userId, goes.member, context)
    await leave()
    expect(lone.hubs.userCount).toBe(0)
    await announce()
    expect(goes.given).toEqual([])
    await lone.hubs.attach(userId, returns.member, context)
    await leave()
    expect(lone.hubs.userCount).toBe(1)
    await announce()
    expect(returns.given).toHaveLength(1)
  })

  test('BUS-2: who comes while the last one leaves is heard', async () => {
    const exchange = createLocalExchange()
    const [here, there] = [createNode(exchange), createNode(exchange)]
    const [goes, comes] = [await createMember(), await createMember()]
    const detach = await here.hubs.attach(userId, goes.member, context)
    const attaching = here.hubs.attach(userId, comes.member, context)
    await Promise.all([detach(), attaching])
    here.hubs.noteHead(userId, 0)
    there.hubs.announceStored(storedBatch(1))
    await Promise.resolve()
    expect(comes.given).toEqual(['events 1–1'])
  })

  test('ORD-5: a connection is attached when its channel is heard, not before', async () => {
    let hear = (): void => {}
    const heard = new Promise<void>((resolve) => {
      hear = resolve
    })
    const { hubs } = createNode(createLocalExchange(), () => 0, heard)
    const { member } = await createMember()
    let isAttached = false
    const attaching = hubs.attach(userId, member, context).then(() => {
      isAttached = true
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(isAttached).toBe(false)
    hear()
    await attaching
  })

  test('BUS-1: word of events that were too many to travel has the log read', async () => {
    const exchange = createLocalExchange()
    const node = createNode(exchange)
    const { member, given } = await createMember()
    await node.hubs.attach(userId, member, context)
    node.hubs.noteHead(userId, 0)
    await node.hear({ type: 'events', userId, from: 1, to: 4, items: undefined, arrivedAtMs: 0 })
    await expect.poll(() => node.reads.length).toBe(1)
    node.reads[0]?.(4)
    await expect.poll(() => given).toEqual(['catch-up'])
  })

  describe('what another node announces', () => {
    const itemsOf = (...userSeqs: number[]) => userSeqs.map((userSeq) => toLogItems(storedBatch(userSeq))[0]!)
    const word = (from: number, to: number, items?: readonly WholeItem[]): Announcement => ({
      type: 'events',
      userId,
      from,
      to,
      items,
      arrivedAtMs: 0,
    })
    const live = async () => {
      const node = createNode()
      const { member, given } = await createMember()
      await node.hubs.attach(userId, member, context)
      node.hubs.noteHead(userId, 0)
      return { ...node, given }
    }

    test.each<[string, ...Announcement[]]>([
      ['comes too early', word(4, 5, itemsOf(4, 5)), word(3, 4, itemsOf(3, 4))],
      ['begins before the head', word(1, 2, itemsOf(1, 2))],
      ['holds too little', word(2, 4, itemsOf(2, 4)), word(2, 3, [])],
      ['holds events that do not follow each other', word(2, 3, itemsOf(2, 2)), word(2, 3, itemsOf(3, 2))],
      ['names a head far away', word(2, Number.MAX_SAFE_INTEGER, itemsOf(2)), word(5, 5)],
    ])('BUS-6: events of a message that %s are not delivered, and the log is asked once', async (_, ...words) => {
      const { hear, given, reads, hubs } = await live()
      await hear(word(1, 1, itemsOf(1)))
      for (let i = 0; i < 50; i++) for (const one of words) await hear(one)
      await expect.poll(() => reads.length).toBe(1)
      // The database knows no more than this node: nobody reads a page for nothing.
      reads[0]?.(1)
      await hubs.close()
      expect(reads).toHaveLength(1)
      expect(given).toEqual(['events 1–1'])
    })

    test('BUS-6: events that continue the log are delivered, and a copy of them is not', async () => {
      const { hear, given, reads } = await live()
      await hear(word(1, 2, itemsOf(1, 2)))
      await hear(word(3, 3, itemsOf(3)))
      for (const copy of [word(1, 2, itemsOf(1, 2)), word(3, 3, itemsOf(3)), word(2, 3, itemsOf(2, 3))])
        await hear(copy)
      expect(given).toEqual(['events 1–2', 'events 3–3'])
      expect(reads).toEqual([])
    })

    test('BUS-6: after a backup was put back nothing is known to be the head, and the log is asked', async () => {
      const { hear, given, reads, hubs } = await live()
      await hear(word(1, 2, itemsOf(1, 2)))
      hubs.forgetHeads()
      await hear(word(3, 3, itemsOf(3)))
      await expect.poll(() => reads.length).toBe(1)
      reads[0]?.(2)
      await hubs.close()
      expect(given).toEqual(['events 1–2'])
    })

    test('BUS-6: words about the device log lead to one look at it, and the answer is what is told', async () => {
      const { hear, given, logReads } = await live()
      for (let i = 0; i < 100; i++) await hear({ type: 'device_log', userId, seq: 1000 + i })
      await expect.poll(() => logReads.length).toBe(1)
      expect(given).toEqual([])
      logReads[0]?.(7)
      await expect.poll(() => given).toEqual(['device_log 7'])
    })

    test('BUS-6: a head that one session learned is told to the others, so that no word before it is needed', async () => {
      const { hear, given, hubs } = await live()
      hubs.noteHead(userId, 2)
      await hear(word(1, 2, itemsOf(1, 2)))
      expect(given).toEqual(['catch-up'])
    })
  })

  test('P7: what a live receiver was handed is timed from its arrival, on its node and on the next', async () => {
    const exchange = createLocalExchange()
    const [here, there, idle] = [createNode(exchange), createNode(exchange), createNode(exchange)]
    for (const { hubs } of [here, there]) {
      await hubs.attach(userId, (await createMember()).member, context)
      hubs.noteHead(userId, 0)
    }
    here.hubs.announceStored(storedBatch(1))
    await Promise.resolve()
    const countOf = (node: typeof here, path: string) =>
      node.metrics.read('valise_end_to_end_duration_seconds', { path })
    expect([await countOf(here, 'local'), await countOf(here, 'remote')]).toEqual([1, 0])
    expect([await countOf(there, 'local'), await countOf(there, 'remote')]).toEqual([0, 1])
    for (const node of [here, there]) {
      expect(await node.metrics.render()).toMatch(/^valise_end_to_end_duration_seconds_sum\{path="\w+"\} 0\.04$/m)
    }
    // A second copy is handed to nobody, and nobody is connected to the third node.
    here.hubs.announceStored(storedBatch(1))
    await Promise.resolve()
    expect([await countOf(here, 'local'), await countOf(there, 'remote')]).toEqual([1, 1])
    expect(await idle.metrics.read('valise_end_to_end_duration_seconds')).toBe(0)
  })

  test('BUS-3: a sweep asked for while one reads the heads reads them once more', async () => {
    const { hubs, reads } = createNode()
    const { member, given } = await createMember()
    await hubs.attach(userId, member, context)
    const running = hubs.sweep()
    const asked = [hubs.sweep(), hubs.sweep()]
    expect(reads).toHaveLength(1)
    // These heads were read before the second one asked.
    reads[0]?.(3)
    await expect.poll(() => reads.length).toBe(2)
    reads[1]?.(5)
    await Promise.all([running, ...asked])
    expect(given).toContain('catch-up')
    expect(reads).toHaveLength(2)
    void hubs.sweep()
    expect(reads).toHaveLength(3)
  })

  test('BUS-3: a member that fails in a sweep keeps it from no other', async () => {
    const { hubs, reads, failures } = createNode()
    const [broken, sound] = [await createMember({ isBroken: true }), await createMember()]
    for (const { member } of [broken, sound]) await hubs.attach(userId, member, context)
    const other = await createMember()
    await hubs.attach(new Uint8Array(32).fill(8), other.member, context)
    const sweeping = hubs.sweep()
    reads[0]?.(9)
    await sweeping
    expect([sound.given[0], other.given[0]]).toEqual(['catch-up', 'catch-up'])
    expect(failures).toHaveLength(1)
  })

  test('RET-1: word that comes after a lifetime ended is not delivered; the log is asked what may be', async () => {
    let atMs = 60_000
    const node = createNode(createLocalExchange(), () => atMs)
    const { member, given } = await createMember()
    await node.hubs.attach(userId, member, { deviceHash: 'device' })
    const wire = new Uint8Array(194)
    wire[168] = 60
    const withLifetime = (userSeq: number): StoredBatch => {
      const batch = storedBatch(userSeq)
      return { ...batch, events: batch.events.map((stored) => ({ ...stored, event: { ...stored.event, wire } })) }
    }
    node.hubs.announceStored(withLifetime(1))
    expect(given).toEqual(['events 1–1'])
    atMs = 60_001
    node.hubs.announceStored(withLifetime(2))
    expect(given).toEqual(['events 1–1', 'catch-up'])
  })
})
