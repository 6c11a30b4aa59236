// One connection's way through the log (ORD-5): replay after its cursor, then live, then catch-up whenever it falls
// behind. It holds a position and no events: what cannot be sent now is read from the log later (DESIGN 5.6, 5.7).
// A pure core but for the page reader it is given.

import { equalBytes } from '@valise/protocol'
import type { LogItem, WholeItem } from '../db/queries/events.ts'

/** Consecutive events of one user, `from` to `to`, as one transaction stored them. */
export interface LiveBatch {
  readonly from: number
  readonly to: number
  readonly items: readonly WholeItem[]
  /** The whole batch as an encoded `events` message, made once for all connections that take it unfiltered. */
  encode(): Uint8Array
}

/** When a page was read, and where the log ended then, both of its snapshot. */
export interface PageMoment {
  /** Unix milliseconds, by the database's clock. */
  readonly atMs: number
  /** The user's newest user_seq. */
  readonly head: number
}

export interface Page extends PageMoment {
  /** Events of other devices, in user_seq order. */
  readonly items: readonly LogItem[]
  /** The user_seq up to which the page is complete; the cursor itself when the log ends there. */
  readonly through: number
  /** Up to here the bytes of events are gone by retention or quota: what is told before such a page is sent. */
  readonly prunedThrough: number
}

export interface DeliveryParts {
  readonly deviceId: Uint8Array
  readPage(afterUserSeq: number, maxEvents: number): Promise<Page>
  /** Asked when the log ends before a head that was known. True: the account is gone, and its session is being closed. */
  isEmptied(): Promise<boolean>
  /** Events that may be sent now: 0 while the socket's buffer is full or the session keys are used up. */
  allowance(): number
  /** `page` when the items were read from the log. */
  send(items: readonly LogItem[], through: number, page?: PageMoment): void
  sendEncoded(batch: LiveBatch): void
  sendCaughtUp(userSeq: number): void
  /** The log holds the bytes of `from` to `to` only; of what lies before, its leaves follow. */
  sendPruned(from: number, to: number): void
  /** Live delivery stopped because the connection takes no more, or goes on again. */
  onBehind(isBehind: boolean): void
  onCatchUp(): void
  onFailure(error: unknown): void
}

export interface Delivery {
  state(): DeliveryState['type']
  /** Begins, or begins anew, after `cursor`. `head` was read after the user's channel was heard: later ones are told. */
  start(cursor: number, head: number): void
  /** True when events of it were handed to the socket at once. */
  offer(batch: LiveBatch): boolean
  /** Somebody knows of a head: what lies before it and after the cursor is fetched. */
  noteHead(head: number): void
  /** The allowance may have grown, or the log may be readable again. */
  resume(): void
  close(): void
}

type DeliveryState =
  | { readonly type: 'idle' }
  | { readonly type: 'catching_up'; readonly cursor: number; readonly isReplay: boolean; readonly isBehind: boolean }
  | { readonly type: 'live'; readonly cursor: number }
  | { readonly type: 'closed' }

/** Own events move the cursor silently; so often the receiver is told, lest a later resume reads them all again. */
const SILENT_ADVANCE = 256

export function createDelivery(parts: DeliveryParts): Delivery {
  let state: DeliveryState = { type: 'idle' }
  let knownHead = 0
  let isReading = false
  /** Counts starts, so that a page read for an earlier cursor is dropped. */
  let generation = 0
  let lastThrough = 0
  let toldPruned = 0

  const isForeign = (item: LogItem): boolean => !equalBytes(item.deviceId, parts.deviceId)

  const deliver = (items: readonly LogItem[], through: number, page?: PageMoment): void => {
    if (items.length === 0 && through - lastThrough < SILENT_ADVANCE) return
    lastThrough = through
    parts.send(items, through, page)
  }

  const setState = (next: DeliveryState): void => {
    const wasBehind = state.type === 'catching_up' && state.isBehind
    state = next
    const isBehind = state.type === 'catching_up' && state.isBehind
    if (wasBehind !== isBehind) parts.onBehind(isBehind)
  }

  const catchUp = async (): Promise<void> => {
    if (isReading) return
    isReading = true
    try {
      while (state.type === 'catching_up') {
        const allowance = parts.allowance()
        if (allowance === 0) return
        const startedIn = generation
        const page = await parts.readPage(state.cursor, allowance)
        if (startedIn !== generation || state.type !== 'catching_up') continue
        if (page.through === state.cursor && state.cursor < knownHead) {
          // Rows go only with their account: nothing is complete up to here, and nobody shall be told that it is.
          const isEmptied = await parts.isEmptied()
          if (isEmptied) return close()
          if (startedIn !== generation || state.type !== 'catching_up') continue
        }
        applyPage(page, state.cursor, state.isReplay)
      }
    } catch (error) {
      parts.onFailure(error)
    } finally {
      isReading = false
    }
  }

  const tellPruned = (page: Page, cursor: number): void => {
    if (page.prunedThrough <= Math.max(cursor, toldPruned)) return
    toldPruned = page.prunedThrough
    parts.sendPruned(toldPruned + 1, Math.max(knownHead, page.through, toldPruned))
  }

  const applyPage = (page: Page, cursor: number, isReplay: boolean): void => {
    tellPruned(page, cursor)
    const allowance = parts.allowance()
    const isCut = page.items.length > allowance
    const items = isCut ? page.items.slice(0, allowance) : page.items
    const through = isCut ? (items.at(-1)?.userSeq ?? cursor) : page.through
    deliver(items, through, page)
    const isAtEnd = page.through === cursor || through >= knownHead
    if (!isAtEnd) return setState({ type: 'catching_up', cursor: through, isReplay, isBehind: !isReplay })
    if (isReplay) parts.sendCaughtUp(through)
    setState({ type: 'live', cursor: through })
  }

  const fallBehind = (cursor: number, isBehind: boolean): void => {
    parts.onCatchUp()
    setState({ type: 'catching_up', cursor, isReplay: false, isBehind })
    void catchUp()
  }

  const close = (): void => {
    generation++
    setState({ type: 'closed' })
  }

  return {
    state: () => state.type,
    start: (cursor, head) => {
      if (state.type === 'closed') return
      generation++
      knownHead = Math.max(knownHead, head)
      lastThrough = cursor
      setState({ type: 'catching_up', cursor, isReplay: true, isBehind: false })
      void catchUp()
    },
    offer: (batch) => {
      knownHead = Math.max(knownHead, batch.to)
      if (state.type !== 'live' || batch.to <= state.cursor) return false
      const { cursor } = state
      if (batch.from > cursor + 1) {
        fallBehind(cursor, false)
        return false
      }
      const items = batch.items.filter((item) => item.userSeq > cursor && isForeign(item))
      if (items.length > parts.allowance()) {
        fallBehind(cursor, true)
        return false
      }
      setState({ type: 'live', cursor: batch.to })
      if (items.length < batch.items.length) {
        deliver(items, batch.to)
        return items.length > 0
      }
      lastThrough = batch.to
      parts.sendEncoded(batch)
      return true
    },
    noteHead: (head) => {
      knownHead = Math.max(knownHead, head)
      if (state.type === 'live' && head > state.cursor) fallBehind(state.cursor, false)
    },
    resume: () => {
      if (state.type === 'catching_up') void catchUp()
    },
    close,
  }
}
