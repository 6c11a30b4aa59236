// One connection's way through the log, stepped by hand: pages are read when the test says so.

import { describe, expect, it } from 'vitest'
import type { LogItem } from '../src/db/queries/events.ts'
import { createDelivery, type LiveBatch, type Page } from '../src/log/delivery.ts'

const OWN = new Uint8Array(16).fill(1)
const OTHER = new Uint8Array(16).fill(2)

const item = (userSeq: number, deviceId = OTHER): LogItem => ({
  userSeq,
  streamSeq: userSeq,
  storedAtMs: 0,
  deviceId,
  deviceSeq: userSeq,
  leaf: new Uint8Array(32),
  wire: new Uint8Array(1),
})

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

function batch(from: number, to: number, deviceId = OTHER): LiveBatch {
  const items = range(from, to).map((userSeq) => item(userSeq, deviceId))
  return { from, to, items, encode: () => new Uint8Array(0) }
}

/** A log of `OTHER`'s events up to `head`, read one page at a time when `step` is called. */
function createScene(options: { head: number; pageSize?: number; allowance?: number }) {
  const sent: number[] = []
  const throughs: number[] = []
  const caughtUp: number[] = []
  const told: { from: number; to: number; after: number }[] = []
  const behind: boolean[] = []
  const reads: { after: number; resolve: (page: Page) => void; reject: (error: Error) => void; max: number }[] = []
  const failures: unknown[] = []
  const bounds = { head: options.head, allowance: options.allowance ?? 10_000, prunedThrough: 0 }
  return {
    bounds,
    sent,
    throughs,
    caughtUp,
    told,
    behind,
    reads,
    failures,
    delivery: createDelivery({
      deviceId: OWN,
      readPage: (after, max) => new Promise((resolve, reject) => reads.push({ after, resolve, reject, max })),
      isEmptied: async () => false,
      allowance: () => bounds.allowance,
      send: (items, through) => {
        sent.push(...items.map((sentItem) => sentItem.userSeq))
        throughs.push(through)
      },
      sendEncoded: (live) => {
        sent.push(...live.items.map((sentItem) => sentItem.userSeq))
        throughs.push(live.to)
      },
      sendCaughtUp: (userSeq) => caughtUp.push(userSeq),
      sendPruned: (from, to) => told.push({ from, to, after: sent.length }),
      onBehind: (isBehind) => behind.push(isBehind),
      onCatchUp: () => undefined,
      onFailure: (error) => failures.push(error),
    }),
    /** Answers the oldest read from the log. */
    step: async () => {
      const read = reads.shift()
      if (read === undefined) throw new Error('nothing is being read')
      const last = Math.min(bounds.head, read.after + Math.min(read.max, options.pageSize ?? 100))
      const items = range(read.after + 1, last).map((userSeq) => item(userSeq))
      read.resolve({ items, through: last, prunedThrough: bounds.prunedThrough })
      await settle()
    },
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('ORD-5: every connection receives events in user_seq order, each once, never its own', () => {
  it('ORD-5: replays in pages, says caught_up once, then goes live', async () => {
    const scene = createScene({ head: 25, pageSize: 10 })
    scene.delivery.start(0, 25)
    await scene.step()
    await scene.step()
    expect(scene.caughtUp).toEqual([])
    await scene.step()
    expect(scene.sent).toEqual(range(1, 25))
    expect(scene.throughs).toEqual([10, 20, 25])
    expect(scene.caughtUp).toEqual([25])
    scene.delivery.offer(batch(26, 28))
    expect(scene.sent).toEqual(range(1, 28))
    expect(scene.reads).toEqual([])
  })

  it('ORD-5: a doubled, late or overlapping announcement is cut to what continues the cursor', async () => {
    const scene = createScene({ head: 3 })
    scene.delivery.start(0, 3)
    await scene.step()
    scene.delivery.offer(batch(4, 6))
    scene.delivery.offer(batch(4, 6))
    scene.delivery.offer(batch(2, 3))
    scene.delivery.offer(batch(5, 9))
    expect(scene.sent).toEqual(range(1, 9))
  })

  it('ORD-5: a gap is never delivered over: the missing range is read from the log first', async () => {
    const scene = createScene({ head: 3 })
    scene.delivery.start(0, 3)
    await scene.step()
    scene.bounds.head = 8
    scene.delivery.offer(batch(7, 8))
    expect(scene.sent).toEqual(range(1, 3))
    await scene.step()
    expect(scene.sent).toEqual(range(1, 8))
    scene.delivery.offer(batch(4, 6))
    expect(scene.sent).toEqual(range(1, 8))
    expect(scene.delivery.state()).toBe('live')
  })

  it('ORD-5: what is committed while a page is being read is not lost', async () => {
    const scene = createScene({ head: 5 })
    scene.delivery.start(0, 5)
    scene.delivery.offer(batch(6, 7))
    await scene.step()
    scene.bounds.head = 7
    await scene.step()
    expect(scene.sent).toEqual(range(1, 7))
    expect(scene.caughtUp).toEqual([7])
  })

  it('ORD-5: a head heard of without its events is fetched', async () => {
    const scene = createScene({ head: 2 })
    scene.delivery.start(0, 2)
    await scene.step()
    scene.bounds.head = 4
    scene.delivery.noteHead(4)
    await scene.step()
    expect(scene.sent).toEqual(range(1, 4))
  })

  it('ORD-5: own events are skipped, move the cursor, and are told after 256 in silence', async () => {
    const scene = createScene({ head: 0 })
    scene.delivery.start(0, 0)
    await scene.step()
    scene.delivery.offer(batch(1, 200, OWN))
    expect(scene.throughs).toEqual([])
    scene.delivery.offer(batch(201, 300, OWN))
    expect(scene.sent).toEqual([])
    expect(scene.throughs).toEqual([300])
    const mixed = { ...batch(301, 302), items: [item(301, OWN), item(302)] }
    scene.delivery.offer(mixed)
    expect(scene.sent).toEqual([302])
  })

  it('ORD-5: starting anew drops the page that was being read', async () => {
    const scene = createScene({ head: 5 })
    scene.delivery.start(0, 5)
    scene.delivery.start(3, 5)
    await scene.step()
    await scene.step()
    expect(scene.sent).toEqual([4, 5])
  })
})

describe('P5: nothing is kept in memory for a connection that takes no more', () => {
  it('P5: a full socket stops live delivery; when it drains, the log is read from the cursor', async () => {
    const scene = createScene({ head: 1 })
    scene.delivery.start(0, 1)
    await scene.step()
    scene.bounds.allowance = 0
    scene.bounds.head = 50
    scene.delivery.offer(batch(2, 30))
    scene.delivery.offer(batch(31, 50))
    expect(scene.behind).toEqual([true])
    expect(scene.reads).toEqual([])
    scene.bounds.allowance = 10_000
    scene.delivery.resume()
    await scene.step()
    expect(scene.sent).toEqual(range(1, 50))
    expect(scene.behind).toEqual([true, false])
  })

  it('P5: no more is sent than allowed, also when the allowance shrinks while a page is read', async () => {
    const scene = createScene({ head: 20, allowance: 8 })
    scene.delivery.start(0, 20)
    expect(scene.reads[0]?.max).toBe(8)
    scene.bounds.allowance = 5
    await scene.step()
    expect(scene.sent).toEqual(range(1, 5))
    await scene.step()
    expect(scene.sent).toEqual(range(1, 10))
  })

  it('P5: a failed read is reported and tried again when resumed', async () => {
    const scene = createScene({ head: 2 })
    scene.delivery.start(0, 2)
    scene.reads.shift()?.reject(new Error('out of reach'))
    await settle()
    expect(scene.failures).toHaveLength(1)
    scene.delivery.resume()
    await scene.step()
    expect(scene.sent).toEqual([1, 2])
  })

  it('P5: nothing is sent once closed', async () => {
    const scene = createScene({ head: 2 })
    scene.delivery.start(0, 2)
    scene.delivery.close()
    await scene.step()
    scene.delivery.offer(batch(1, 2))
    expect(scene.sent).toEqual([])
  })
})

describe('RET-3: who missed what was pruned is told', () => {
  it('RET-3: before the first page that it concerns, once, and again only when more went meanwhile', async () => {
    const scene = createScene({ head: 30, pageSize: 10 })
    scene.bounds.prunedThrough = 12
    scene.delivery.start(3, 30)
    await scene.step()
    expect(scene.told).toEqual([{ from: 13, to: 30, after: 0 }])
    await scene.step()
    expect(scene.told.length).toBe(1)
    scene.bounds.prunedThrough = 25
    await scene.step()
    expect(scene.told[1]).toEqual({ from: 26, to: 30, after: 20 })
    expect(scene.sent).toEqual(range(4, 30))
    scene.delivery.start(0, 30)
    await scene.step()
    expect(scene.told.length).toBe(2)
  })

  it('RET-3: who had all of it is told nothing', async () => {
    const scene = createScene({ head: 30 })
    scene.bounds.prunedThrough = 12
    scene.delivery.start(12, 30)
    await scene.step()
    expect([scene.told, scene.sent]).toEqual([[], range(13, 30)])
  })

  it('RET-3: of events pruned before a connection that is behind could take them it is told, too', async () => {
    const scene = createScene({ head: 5 })
    scene.delivery.start(0, 5)
    await scene.step()
    scene.bounds.allowance = 0
    scene.bounds.head = 9
    scene.delivery.offer(batch(6, 9))
    scene.bounds.prunedThrough = 7
    scene.bounds.allowance = 100
    scene.delivery.resume()
    await scene.step()
    expect(scene.told).toEqual([{ from: 8, to: 9, after: 5 }])
    expect(scene.sent).toEqual(range(1, 9))
  })
})
