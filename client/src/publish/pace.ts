// How fast this device may publish, as the server announced it (LIM-1, LIM-25): buckets of its own for events and for bytes,
// somewhat smaller than the server's, so that an honest client is slowed here and not by refusals there. Pure. What others of
// the user publish it cannot know: their common limit still ends in a refusal that says when to come again (LIM-3).

import type { Limits } from '@valise/protocol'

export type AnnouncedRates = Pick<
  Limits,
  | 'device_events_per_s'
  | 'device_events_burst'
  | 'user_events_per_s'
  | 'user_events_burst'
  | 'device_bytes_per_s'
  | 'device_bytes_burst'
  | 'user_bytes_per_s'
  | 'user_bytes_burst'
>

/** Events that wait to be sent, in their order. */
export interface Waiting {
  readonly events: number
  readonly bytes: number
  /** Of the first of them. */
  readonly firstBytes: number
}

export interface Sendable {
  readonly events: number
  readonly bytes: number
}

export interface Pace {
  /** The buckets stay as full as they are: a new session finds the server's where the last one left them. */
  announced(rates: AnnouncedRates): void
  /** What may be sent now, of what waits; nothing until it is worth a message. */
  room(waiting: Waiting, nowMs: number): Sendable
  /** Until there is room for some of them. */
  waitMs(waiting: Waiting, nowMs: number): number
  take(sent: Sendable, nowMs: number): void
  /** The server refused for its rate: its bucket is empty, so these are. */
  empty(nowMs: number): void
}

/** The rest is for messages that take longer on their way than those after them. */
const SHARE_OF_BURST = 0.9
/** While more waits, a message is worth sending with what so much time allows. */
const MESSAGE_MS = 50

const NOTHING: Sendable = { events: 0, bytes: 0 }

export function createPace(): Pace {
  const events = createBucket()
  const bytes = createBucket()
  return {
    announced: (rates) => {
      events.announced(
        toRule(rates.device_events_per_s, rates.device_events_burst),
        toRule(rates.user_events_per_s, rates.user_events_burst),
      )
      bytes.announced(
        toRule(rates.device_bytes_per_s, rates.device_bytes_burst),
        toRule(rates.user_bytes_per_s, rates.user_bytes_burst),
      )
    },
    room: (waiting, nowMs) => {
      const room = {
        events: events.room(waiting.events, 1, nowMs),
        bytes: bytes.room(waiting.bytes, waiting.firstBytes, nowMs),
      }
      return room.events > 0 && room.bytes > 0 ? room : NOTHING
    },
    waitMs: (waiting, nowMs) =>
      Math.max(events.waitMs(waiting.events, 1, nowMs), bytes.waitMs(waiting.bytes, waiting.firstBytes, nowMs)),
    take: (sent, nowMs) => {
      events.take(sent.events, nowMs)
      bytes.take(sent.bytes, nowMs)
    },
    empty: (nowMs) => {
      events.empty(nowMs)
      bytes.empty(nowMs)
    },
  }
}

type Rule = { readonly perSecond: number; readonly burst: number } | undefined

/** `first`: what the first event takes of it; it passes a full bucket even when it is larger, and owes the rest. */
function createBucket() {
  let rule: Rule
  let tokens: number | undefined
  let atMs = 0

  const fill = (nowMs: number): number => {
    if (rule === undefined) return Number.POSITIVE_INFINITY
    // A clock that went back fills nothing and empties nothing.
    const elapsedS = Math.max(0, nowMs - atMs) / 1000
    tokens = Math.min(rule.burst, (tokens ?? rule.burst) + elapsedS * rule.perSecond)
    atMs = nowMs
    return tokens
  }
  const enough = (wanted: number, first: number): number => {
    if (rule === undefined) return 0
    const message = Math.max(first, Math.floor((rule.perSecond * MESSAGE_MS) / 1000))
    return Math.min(wanted, message, rule.burst)
  }

  return {
    announced: (device: Rule, user: Rule): void => {
      rule = slowerOf(device, user)
    },
    room: (wanted: number, first: number, nowMs: number): number => {
      const held = fill(nowMs)
      return held < enough(wanted, first) ? 0 : Math.max(Math.floor(held), first)
    },
    waitMs: (wanted: number, first: number, nowMs: number): number => {
      const missing = enough(wanted, first) - fill(nowMs)
      return rule === undefined || missing <= 0 ? 0 : Math.ceil((missing / rule.perSecond) * 1000)
    },
    take: (count: number, nowMs: number): void => {
      tokens = fill(nowMs) - count
    },
    empty: (nowMs: number): void => {
      if (fill(nowMs) > 0) tokens = 0
    },
  }
}

const toRule = (perSecond: number, burst: number): Rule =>
  perSecond === 0 ? undefined : { perSecond, burst: Math.max(1, Math.floor(burst * SHARE_OF_BURST)) }

function slowerOf(one: Rule, other: Rule): Rule {
  if (one === undefined || other === undefined) return one ?? other
  return { perSecond: Math.min(one.perSecond, other.perSecond), burst: Math.min(one.burst, other.burst) }
}
