// One connection's way through the log, stepped by hand: pages are read when the test says so.

import type { WholeItem } from '../../src/db/queries/events.ts'
import { createDelivery, type LiveBatch, type Page } from '../../src/log/delivery.ts'

export const OWN = new Uint8Array(16).fill(1)
const OTHER = new Uint8Array(16).fill(2)

export const item = (userSeq: number, deviceId = OTHER): WholeItem => ({
  userSeq,
  streamSeq: userSeq,
  storedAtMs: 0,
  deviceId,
  deviceSeq: userSeq,
  wire: new Uint8Array(1),
})

export const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

export function batch(from: number, to: number, deviceId = OTHER): LiveBatch {
  const items = range(from, to).map((userSeq) => item(userSeq, deviceId))
  return { from, to, items, encode: () => new Uint8Array(0) }
}

/** A log of `OTHER`'s events up to `head`, read one page at a time when `step` is called. */
export function createDeliveryScene(options: { head: number; pageSize?: number; allowance?: number }) {
  const sent: number[] = []
  const throughs: number[] = []
  const caughtUp: number[] = []
  const told: { from: number; to: number; after: number }[] = []
  const behind: boolean[] = []
  const reads: { after: number; resolve: (page: Page) => void; reject: (error: Error) => void; max: number }[] = []
  const failures: unknown[] = []
  const bounds = { head: options.head, allowance: options.allowance ?? 10_000, prunedThrough: 0, isEmptied: false }
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
      isEmptied: async () => bounds.isEmptied,
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
      read.resolve({ items, through: last, prunedThrough: bounds.prunedThrough, atMs: 1, head: bounds.head })
      await settle()
    },
  }
}

export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
