// How much of a node's time a session, a user and an address may use (LIM-10). Whatever a peer asks for is charged to all
// three before it is done; what they cannot pay yet is owed, and the peer is not read until it is paid.

import type { Microseconds } from './costs.ts'
import { createNetworkBuckets } from './network-buckets.ts'
import { type BucketRule, createTokenBuckets, type TokenBuckets } from './token-buckets.ts'

export interface WorkRules {
  /** In microseconds; undefined: not limited. */
  readonly session: BucketRule | undefined
  readonly user: BucketRule | undefined
  readonly address: BucketRule | undefined
  /** Of all together. Beyond it those rest that have used more than a little of late. */
  readonly node: BucketRule | undefined
}

export interface WorkBudgetParts {
  readonly rules: WorkRules
  /** Work that was charged. */
  observe(cost: Microseconds): void
  /** A socket rests, or a request was refused, for what one of these owes. */
  countLimited(scope: keyof WorkRules): void
  /** Milliseconds. */
  now(): number
}

/** Who pays. */
export interface Payer {
  /** Unlike that of any other session of this process. */
  readonly sessionKey: string
  /** The user, or a device that may not spend its user's budget. */
  readonly userKey: string
  readonly address: string
}

export interface WorkBudgets {
  /** Milliseconds until what is owed now is paid; 0 while nothing is. */
  charge(payer: Payer, cost: Microseconds): number
  /** For a request without a session: undefined when it may go on, else when to come again. Then it costs nothing. */
  refuseRequest(address: string, cost: Microseconds): number | undefined
}

const MAX_KEYS = 100_000
/** What is owed longer stays owed, and the next message waits for it again. */
const MAX_REST_MS = 10_000
const BURST_S = 4
/** What a device asks for when it connects. */
const LITTLE: Microseconds = 15_000
const NODE = 'node'
/** Saved up by the node as a whole: the longest that everybody else may have to wait at once. */
const NODE_BURST: Microseconds = 50_000
const MICROSECONDS_PER_PERCENT = 10_000

/** `percent` of one core, saved up for a few seconds at most; 0: not limited. */
export const workRule = (percent: number): BucketRule | undefined =>
  percent === 0
    ? undefined
    : { perSecond: percent * MICROSECONDS_PER_PERCENT, burst: percent * MICROSECONDS_PER_PERCENT * BURST_S }

/** `percent` of one core for all sessions together. */
export const nodeWorkRule = (percent: number): BucketRule | undefined =>
  percent === 0 ? undefined : { perSecond: percent * MICROSECONDS_PER_PERCENT, burst: NODE_BURST }

export function createWorkBudgets({ rules, observe, countLimited, now }: WorkBudgetParts): WorkBudgets {
  const bucketsOf = (rule: BucketRule | undefined) => rule && createTokenBuckets(rule, MAX_KEYS)
  const node = bucketsOf(rules.node)
  const sessions = bucketsOf(rules.session)
  const users = bucketsOf(rules.user)
  const addresses = rules.address && createNetworkBuckets(rules.address, MAX_KEYS)

  const take = (buckets: TokenBuckets | undefined, key: string, cost: Microseconds, nowMs: number): number => {
    if (buckets === undefined) return 0
    buckets.take(key, cost, nowMs)
    return buckets.available(key, nowMs) >= 0 ? 0 : buckets.waitMs(key, 0, nowMs)
  }

  const takeOfAddress = (address: string, cost: Microseconds, nowMs: number): number => {
    addresses?.take(address, cost, nowMs)
    return addresses?.waitMs(address, 0, nowMs) ?? 0
  }

  /** A session that asks for little never waits for those that ask for much. */
  const hasUsedMuch = (sessionKey: string, nowMs: number): boolean =>
    sessions !== undefined && sessions.available(sessionKey, nowMs) < (rules.session?.burst ?? 0) - LITTLE

  return {
    charge: ({ sessionKey, userKey, address }, cost) => {
      const nowMs = now()
      observe(cost)
      const waits = {
        session: take(sessions, sessionKey, cost, nowMs),
        user: take(users, userKey, cost, nowMs),
        address: takeOfAddress(address, cost, nowMs),
      }
      const nodeMs = take(node, NODE, cost, nowMs)
      const restMs = Math.max(waits.session, waits.user, waits.address, hasUsedMuch(sessionKey, nowMs) ? nodeMs : 0)
      if (restMs === 0) return 0
      countLimited(scopeOf(waits, restMs))
      return Math.min(restMs, MAX_REST_MS)
    },
    refuseRequest: (address, cost) => {
      const nowMs = now()
      const owedMs = addresses?.waitMs(address, 0, nowMs) ?? 0
      if (owedMs > 0) {
        countLimited('address')
        return owedMs
      }
      observe(cost)
      addresses?.take(address, cost, nowMs)
      return undefined
    },
  }
}

function scopeOf(waits: Readonly<Record<'session' | 'user' | 'address', number>>, restMs: number): keyof WorkRules {
  if (restMs === waits.session) return 'session'
  if (restMs === waits.user) return 'user'
  return restMs === waits.address ? 'address' : 'node'
}
