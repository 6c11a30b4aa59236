// How fast this device may publish, as the server announced it (LIM-1): a bucket of its own, somewhat smaller than the
// server's, so that an honest client is slowed here and not by refusals there. Pure. What others of the user publish it
// cannot know: their common limit still ends in a refusal that says when to come again (LIM-3).

import type { Limits } from '@valise/protocol'

export type AnnouncedRates = Pick<
  Limits,
  'device_events_per_s' | 'device_events_burst' | 'user_events_per_s' | 'user_events_burst'
>

export interface Pace {
  /** The bucket stays as full as it is: a new session finds the server's where the last one left it. */
  announced(rates: AnnouncedRates): void
  /** Events that may be sent now, of so many that wait; 0 until it is worth a message. */
  room(wanted: number, nowMs: number): number
  /** Until there is room for some of them. */
  waitMs(wanted: number, nowMs: number): number
  take(count: number, nowMs: number): void
  /** The server refused for its rate: its bucket is empty, so this one is. */
  empty(nowMs: number): void
}

/** The rest is for messages that take longer on their way than those after them. */
const SHARE_OF_BURST = 0.9
/** While more waits, a message is worth sending with what so much time allows. */
const MESSAGE_MS = 50

export function createPace(): Pace {
  let rule: { readonly perSecond: number; readonly burst: number } | undefined
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
  const enough = (wanted: number): number => {
    if (rule === undefined) return 0
    const message = Math.max(1, Math.floor((rule.perSecond * MESSAGE_MS) / 1000))
    return Math.min(wanted, message, rule.burst)
  }

  return {
    announced: (rates) => {
      rule = slowerOf(
        toRule(rates.device_events_per_s, rates.device_events_burst),
        toRule(rates.user_events_per_s, rates.user_events_burst),
      )
    },
    room: (wanted, nowMs) => {
      const held = fill(nowMs)
      return held < enough(wanted) ? 0 : Math.floor(held)
    },
    waitMs: (wanted, nowMs) => {
      const missing = enough(wanted) - fill(nowMs)
      return rule === undefined || missing <= 0 ? 0 : Math.ceil((missing / rule.perSecond) * 1000)
    },
    take: (count, nowMs) => {
      tokens = fill(nowMs) - count
    },
    empty: (nowMs) => {
      if (fill(nowMs) > 0) tokens = 0
    },
  }
}

type Rule = { readonly perSecond: number; readonly burst: number } | undefined

/** 0 events a second: not limited. */
const toRule = (perSecond: number, burst: number): Rule =>
  perSecond === 0 ? undefined : { perSecond, burst: Math.max(1, Math.floor(burst * SHARE_OF_BURST)) }

function slowerOf(one: Rule, other: Rule): Rule {
  if (one === undefined || other === undefined) return one ?? other
  return { perSecond: Math.min(one.perSecond, other.perSecond), burst: Math.min(one.burst, other.burst) }
}
