// Which sealed events are on their way and what to do next: a pure state machine. Each event sent is answered on its own;
// after a refusal nothing new goes out until every answer is in, then one repair is made and sending goes on.

import type { ErrorCode } from '@valise/protocol'
import type { Waiting } from './pace.ts'
import { meaningOf } from './refusals.ts'

export interface WindowItem {
  readonly deviceSeq: number
  readonly bytes: number
}

/** What must happen to the sealed events before sending goes on. */
export type Repair =
  /** Its state of the device log is too old, or none that the server has: seal this one and all later ones again. */
  | { readonly type: 'seal_again'; readonly deviceSeq: number; readonly code: 'stale_epoch' | 'log_seq_ahead' }
  /** Refused for good: put a tombstone in its place and seal all later ones again. */
  | { readonly type: 'bury'; readonly deviceSeq: number; readonly code: ErrorCode }
  | { readonly type: 'send_again'; readonly deviceSeq: number }

export type WindowStep =
  /** Contiguous, by device_seq. */
  | { readonly type: 'send'; readonly deviceSeqs: readonly number[] }
  | { readonly type: 'seal'; readonly maxEvents: number; readonly maxBytes: number }
  | { readonly type: 'repair'; readonly repair: Exclude<Repair, { type: 'send_again' }> }
  | { readonly type: 'wait'; readonly untilMs: number }
  | { readonly type: 'idle' }

export interface WindowLimits {
  readonly maxEvents: number
  readonly maxBytes: number
  /** Events and bytes of one publish message. */
  readonly maxMessageEvents: number
  readonly maxMessageBytes: number
}

export interface SendWindow {
  /** Sealed and stored, in order after those before. */
  add(items: readonly WindowItem[]): void
  /** Items from a device_seq on were sealed again. */
  replace(items: readonly WindowItem[]): void
  /** A session began: everything is to be sent again. */
  connected(limits: Pick<WindowLimits, 'maxMessageEvents' | 'maxMessageBytes'>): void
  disconnected(): void
  receipt(deviceSeq: number): void
  refused(deviceSeq: number, code: ErrorCode, details: { expected: number | undefined; retryAtMs: number }): void
  /** Nothing unanswered was stored, or it will be found stored: send it again, later. */
  unavailable(retryAtMs: number): void
  /** The caller carries the step out before it asks again. At most `allowance` events of `maxBytes` together may be sent. */
  next(nowMs: number, allowance: number, maxBytes?: number): WindowStep
  readonly inFlight: number
  /** Sealed, and on its way to nobody. */
  readonly waiting: Waiting
  readonly count: number
}

type Item = WindowItem & { isSent: boolean }

const FRUITLESS_PAUSE_MS = 1000

export function createSendWindow(limits: WindowLimits): SendWindow {
  let items: Item[] = []
  let isConnected = false
  let repair: Repair | undefined
  let retryAtMs: number | undefined
  /** Sendings anew since the last receipt: a server that never takes them is not asked without pause. */
  let fruitless = 0
  /** The server had no storage: one event asks whether it has again, and the others stay here until it has a receipt. */
  let isProbing = false
  let { maxMessageEvents, maxMessageBytes } = limits

  const find = (deviceSeq: number): Item | undefined => items.find((item) => item.deviceSeq === deviceSeq)
  const inFlight = (): number => items.reduce((count, item) => count + (item.isSent ? 1 : 0), 0)
  const isStronger = (next: Repair): boolean => {
    if (repair === undefined || next.deviceSeq < repair.deviceSeq) return true
    return next.deviceSeq === repair.deviceSeq && repair.type === 'send_again'
  }
  const propose = (next: Repair): void => {
    if (isStronger(next)) repair = next
  }

  const nextMessage = (allowance: number, allowedBytes: number): number[] => {
    const maxEvents = Math.min(maxMessageEvents, allowance)
    const deviceSeqs: number[] = []
    let bytes = 0
    for (const item of items) {
      if (item.isSent) continue
      if (deviceSeqs.length >= maxEvents) break
      if (bytes + item.bytes > allowedBytes) break
      if (deviceSeqs.length > 0 && bytes + item.bytes > maxMessageBytes) break
      deviceSeqs.push(item.deviceSeq)
      bytes += item.bytes
      item.isSent = true
    }
    return deviceSeqs
  }

  const roomToSeal = (): { maxEvents: number; maxBytes: number } | undefined => {
    const bytes = items.reduce((sum, item) => sum + item.bytes, 0)
    const maxEvents = limits.maxEvents - items.length
    const maxBytes = limits.maxBytes - bytes
    return maxEvents > 0 && maxBytes > 0 ? { maxEvents, maxBytes } : undefined
  }

  return {
    add: (added) => {
      items.push(...added.map((item) => ({ ...item, isSent: false })))
    },
    replace: (replaced) => {
      const from = replaced[0]?.deviceSeq ?? Number.POSITIVE_INFINITY
      items = items.filter((item) => item.deviceSeq < from)
      items.push(...replaced.map((item) => ({ ...item, isSent: false })))
      repair = undefined
    },
    connected: (announced) => {
      ;({ maxMessageEvents, maxMessageBytes } = announced)
      isConnected = true
      repair = undefined
      retryAtMs = undefined
      isProbing = false
      for (const item of items) item.isSent = false
    },
    disconnected: () => {
      isConnected = false
    },
    receipt: (deviceSeq) => {
      fruitless = 0
      isProbing = false
      items = items.filter((item) => item.deviceSeq !== deviceSeq)
    },
    refused: (claimedSeq, code, details) => {
      // The server could not read which event it refuses: the first that has no answer.
      const deviceSeq = claimedSeq === 0 ? (items.find((item) => item.isSent)?.deviceSeq ?? 0) : claimedSeq
      const item = find(deviceSeq)
      // An answer to an earlier sending of what was given up on since.
      if (item === undefined || !item.isSent) return
      item.isSent = false
      const meaning = meaningOf(code)
      if (meaning === 'for_good') propose({ type: 'bury', deviceSeq, code })
      else if (code === 'stale_epoch' || code === 'log_seq_ahead') propose({ type: 'seal_again', deviceSeq, code })
      else if (meaning === 'later') {
        retryAtMs = Math.max(retryAtMs ?? 0, details.retryAtMs)
        isProbing = code === 'storage_low'
      } else if (meaning === 'suspended') isConnected = false
      else propose({ type: 'send_again', deviceSeq: details.expected ?? deviceSeq })
    },
    unavailable: (atMs) => {
      retryAtMs = Math.max(retryAtMs ?? 0, atMs)
      for (const item of items) item.isSent = false
    },
    next: (nowMs, allowance, maxBytes = Number.POSITIVE_INFINITY) => {
      if (!isConnected) return { type: 'idle' }
      if (retryAtMs !== undefined) {
        if (nowMs < retryAtMs) return { type: 'wait', untilMs: retryAtMs }
        if (inFlight() > 0) return { type: 'idle' }
        retryAtMs = undefined
      }
      if (repair !== undefined) {
        if (inFlight() > 0) return { type: 'idle' }
        if (repair.type !== 'send_again') return { type: 'repair', repair }
        repair = undefined
        fruitless += 1
        if (fruitless > 1) {
          retryAtMs = nowMs + FRUITLESS_PAUSE_MS
          return { type: 'wait', untilMs: retryAtMs }
        }
      }
      if (isProbing && inFlight() > 0) return { type: 'idle' }
      const deviceSeqs = nextMessage(isProbing ? Math.min(1, allowance) : allowance, maxBytes)
      if (deviceSeqs.length > 0) return { type: 'send', deviceSeqs }
      const room = roomToSeal()
      return room === undefined ? { type: 'idle' } : { type: 'seal', ...room }
    },
    get inFlight() {
      return inFlight()
    },
    get waiting() {
      const unsent = items.filter((item) => !item.isSent)
      const bytes = unsent.reduce((sum, item) => sum + item.bytes, 0)
      return { events: unsent.length, bytes, firstBytes: unsent[0]?.bytes ?? 0 }
    },
    get count() {
      return items.length
    },
  }
}
