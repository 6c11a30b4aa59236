// How much a device, and all devices of its user together, may publish on this node (LIM-1, LIM-25): events a second, and
// bytes a second beside them, because one event may be a hundred bytes or a quarter of a megabyte.

import { type BucketRule, createTokenBuckets, type TokenBuckets } from './token-buckets.ts'

export interface PublishRules {
  /** Events published; undefined: not limited. */
  readonly device: BucketRule | undefined
  readonly user: BucketRule | undefined
  /** Their bytes; likewise. */
  readonly deviceBytes: BucketRule | undefined
  readonly userBytes: BucketRule | undefined
}

export type PublishScope = 'device' | 'user' | 'device_bytes' | 'user_bytes'

export interface PublishLimitParts {
  readonly rules: PublishRules
  countLimited(scope: PublishScope, count: number): void
  /** Milliseconds. */
  now(): number
  readonly maxKeys: number
}

/** The device and user that events are counted for, as map keys. */
export interface Publisher {
  readonly deviceKey: string
  readonly userKey: string
}

/** The first `count` may pass; those after them may come again in `retryAfterMs`. */
export interface Admission {
  readonly count: number
  readonly retryAfterMs: number
}

export interface PublishLimits {
  /** Takes what there is for events of these sizes, in bytes and in this order, of the session's device. */
  admitEvents(session: Publisher, sizes: readonly number[]): Admission
  /** Takes for `count` events more than were admitted, also what is not there yet: those after them wait for it. */
  chargeEvents(session: Publisher, count: number): void
  /** When events of these sizes would pass; takes nothing. */
  eventsRetryAfterMs(session: Publisher, sizes: readonly number[]): number
}

/** One of the four limits, for one session. */
interface Limit {
  readonly scope: PublishScope
  readonly buckets: TokenBuckets
  readonly burst: number
  readonly key: string
  costOf(size: number): number
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)
const one = (): number => 1
const itself = (size: number): number => size

export function createPublishLimits({ rules, countLimited, now, maxKeys }: PublishLimitParts): PublishLimits {
  const kinds = [
    { scope: 'device', rule: rules.device, costOf: one },
    { scope: 'user', rule: rules.user, costOf: one },
    { scope: 'device_bytes', rule: rules.deviceBytes, costOf: itself },
    { scope: 'user_bytes', rule: rules.userBytes, costOf: itself },
  ] as const
  const limits = kinds.flatMap(({ scope, rule, costOf }) =>
    rule === undefined ? [] : [{ scope, buckets: createTokenBuckets(rule, maxKeys), burst: rule.burst, costOf }],
  )

  const limitsOf = ({ deviceKey, userKey }: Publisher): Limit[] =>
    limits.map((limit) => ({ ...limit, key: limit.scope.startsWith('device') ? deviceKey : userKey }))

  const retryAfterMs = (ofSession: readonly Limit[], sizes: readonly number[], nowMs: number): number =>
    Math.max(1, ...ofSession.map(({ buckets, key, costOf }) => buckets.waitMs(key, sum(sizes.map(costOf)), nowMs)))

  return {
    admitEvents: (session, sizes) => {
      const nowMs = now()
      const ofSession = limitsOf(session)
      let count = sizes.length
      let narrowest: PublishScope | undefined
      for (const limit of ofSession) {
        const passing = countPassing(limit, sizes, nowMs)
        if (passing >= count) continue
        count = passing
        narrowest = limit.scope
      }
      const admitted = sizes.slice(0, count)
      if (count > 0)
        for (const { buckets, key, costOf } of ofSession) buckets.take(key, sum(admitted.map(costOf)), nowMs)
      if (narrowest === undefined) return { count, retryAfterMs: 0 }
      countLimited(narrowest, sizes.length - count)
      return { count, retryAfterMs: retryAfterMs(ofSession, sizes.slice(count), nowMs) }
    },
    chargeEvents: (session, count) => {
      if (count === 0) return
      for (const { buckets, key, costOf } of limitsOf(session)) if (costOf === one) buckets.take(key, count, now())
    },
    eventsRetryAfterMs: (session, sizes) => retryAfterMs(limitsOf(session), sizes, now()),
  }
}

/** An event that is larger than a full bucket passes when the bucket is full, and owes the rest. */
function countPassing({ buckets, key, burst, costOf }: Limit, sizes: readonly number[], nowMs: number): number {
  let left = buckets.available(key, nowMs)
  let count = 0
  for (const size of sizes) {
    const cost = costOf(size)
    if (left < Math.min(cost, burst)) break
    left -= cost
    count++
  }
  return count
}
