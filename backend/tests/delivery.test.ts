// One connection's way through the log: replay, live, catch-up.

import { describe, expect, it } from 'vitest'
import { batch, createDeliveryScene, item, OWN, range, settle } from './support/delivery-scene.ts'

describe('ORD-5: every connection receives events in user_seq order, each once, never its own', () => {
  it('ORD-5: replays in pages, says caught_up once, then goes live', async () => {
    const scene = createDeliveryScene({ head: 25, pageSize: 10 })
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
    const scene = createDeliveryScene({ head: 3 })
    scene.delivery.start(0, 3)
    await scene.step()
    scene.delivery.offer(batch(4, 6))
    scene.delivery.offer(batch(4, 6))
    scene.delivery.offer(batch(2, 3))
    scene.delivery.offer(batch(5, 9))
    expect(scene.sent).toEqual(range(1, 9))
  })

  it('ORD-5: a gap is never delivered over: the missing range is read from the log first', async () => {
    const scene = createDeliveryScene({ head: 3 })
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
    scene.bounds.head = 10
    scene.delivery.offer(batch(10, 10))
    expect(scene.sent).toEqual(range(1, 8))
    await scene.step()
    expect(scene.sent).toEqual(range(1, 10))
    expect(scene.caughtUp).toEqual([3])
  })

  it('ORD-5: what is committed while a page is being read is not lost', async () => {
    const scene = createDeliveryScene({ head: 5 })
    scene.delivery.start(0, 5)
    scene.delivery.offer(batch(6, 7))
    await scene.step()
    scene.bounds.head = 7
    await scene.step()
    expect(scene.sent).toEqual(range(1, 7))
    expect(scene.caughtUp).toEqual([7])
  })

  it('ORD-5: of a head heard of while a page is being read the events are fetched too', async () => {
    const scene = createDeliveryScene({ head: 5 })
    scene.delivery.start(0, 5)
    scene.delivery.noteHead(7)
    await scene.step()
    scene.bounds.head = 7
    await scene.step()
    expect(scene.sent).toEqual(range(1, 7))
  })

  it('ORD-5: what was heard of before the start is fetched, however old the head that the start was told', async () => {
    const scene = createDeliveryScene({ head: 7, pageSize: 5 })
    scene.delivery.offer(batch(6, 7))
    scene.delivery.start(0, 5)
    await scene.step()
    expect(scene.caughtUp).toEqual([])
    await scene.step()
    expect(scene.sent).toEqual(range(1, 7))
  })

  it('ORD-5: a log that ends before the head that was known is not read for ever', async () => {
    const scene = createDeliveryScene({ head: 2 })
    scene.delivery.start(0, 9)
    await scene.step()
    await scene.step()
    expect(scene.delivery.state()).toBe('live')
    expect(scene.reads).toEqual([])
    scene.delivery.noteHead(2)
    expect(scene.reads).toEqual([])
  })

  it('P6: of an account that is gone nobody is told to have caught up', async () => {
    const scene = createDeliveryScene({ head: 0 })
    scene.bounds.isEmptied = true
    scene.delivery.start(0, 3)
    await scene.step()
    expect(scene.delivery.state()).toBe('closed')
    expect(scene.caughtUp).toEqual([])
  })

  it('ORD-5: a head heard of without its events is fetched', async () => {
    const scene = createDeliveryScene({ head: 2 })
    scene.delivery.start(0, 2)
    await scene.step()
    scene.bounds.head = 4
    scene.delivery.noteHead(4)
    await scene.step()
    expect(scene.sent).toEqual(range(1, 4))
  })

  it('ORD-5: own events are skipped, move the cursor, and are told after 256 in silence', async () => {
    const scene = createDeliveryScene({ head: 0 })
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
    scene.delivery.offer(batch(303, 500))
    scene.delivery.offer(batch(501, 700, OWN))
    expect(scene.throughs).toEqual([300, 302, 500])
  })

  it('ORD-5: the silence is counted from the cursor that the connection begins with', async () => {
    const scene = createDeliveryScene({ head: 1000 })
    scene.delivery.start(1000, 1000)
    await scene.step()
    scene.delivery.offer(batch(1001, 1100, OWN))
    expect(scene.throughs).toEqual([])
  })

  it('ORD-5: starting anew drops the page that was being read', async () => {
    const scene = createDeliveryScene({ head: 5 })
    scene.delivery.start(0, 5)
    scene.delivery.start(3, 5)
    await scene.step()
    await scene.step()
    expect(scene.sent).toEqual([4, 5])
  })
})

describe('P5: nothing is kept in memory for a connection that takes no more', () => {
  it('P5: a full socket stops live delivery; when it drains, the log is read from the cursor', async () => {
    const scene = createDeliveryScene({ head: 1 })
    scene.delivery.start(0, 1)
    await scene.step()
    scene.bounds.head = 50
    scene.bounds.allowance = 4
    scene.delivery.offer(batch(2, 5))
    expect(scene.sent).toEqual(range(1, 5))
    scene.bounds.allowance = 0
    scene.delivery.offer(batch(6, 30))
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
    const scene = createDeliveryScene({ head: 20, allowance: 8 })
    scene.delivery.start(0, 20)
    expect(scene.reads[0]?.max).toBe(8)
    scene.bounds.allowance = 5
    await scene.step()
    expect(scene.sent).toEqual(range(1, 5))
    await scene.step()
    expect(scene.sent).toEqual(range(1, 10))
  })

  it('P5: a failed read is reported and tried again when resumed', async () => {
    const scene = createDeliveryScene({ head: 2 })
    scene.delivery.start(0, 2)
    scene.reads.shift()?.reject(new Error('out of reach'))
    await settle()
    expect(scene.failures).toHaveLength(1)
    scene.delivery.resume()
    await scene.step()
    expect(scene.sent).toEqual([1, 2])
  })

  it('P5: nothing is sent once closed', async () => {
    const scene = createDeliveryScene({ head: 2 })
    scene.delivery.start(0, 2)
    scene.delivery.close()
    await scene.step()
    scene.delivery.offer(batch(1, 2))
    scene.delivery.start(0, 2)
    expect(scene.delivery.state()).toBe('closed')
    expect(scene.reads).toEqual([])
    expect(scene.sent).toEqual([])
  })
})

describe('RET-3: who missed what was pruned is told', () => {
  it('RET-3: before the first page that it concerns, once, and again only when more went meanwhile', async () => {
    const scene = createDeliveryScene({ head: 30, pageSize: 10 })
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
    const scene = createDeliveryScene({ head: 30 })
    scene.bounds.prunedThrough = 12
    scene.delivery.start(12, 30)
    await scene.step()
    expect([scene.told, scene.sent]).toEqual([[], range(13, 30)])
  })

  it('RET-3: of events pruned before a connection that is behind could take them it is told, too', async () => {
    const scene = createDeliveryScene({ head: 5 })
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
