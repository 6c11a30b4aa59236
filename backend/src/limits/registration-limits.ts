// How many accounts an address, its networks and this node as a whole may register (LIM-27). One customer may hold a network
// of addresses, so each network has a bucket too, as many times as large as its weight says.

import { networksOf } from './client-address.ts'
import { type BucketRule, createTokenBuckets, type TokenBuckets } from './token-buckets.ts'

export interface RegistrationRules {
  /** Of one address; undefined: not limited. */
  readonly address: BucketRule | undefined
  /** Of all addresses together; undefined: not limited. */
  readonly node: BucketRule | undefined
}

export interface RegistrationLimitParts {
  readonly rules: RegistrationRules
  countLimited(scope: 'registration', count: number): void
  /** Milliseconds. */
  now(): number
}

export interface RegistrationLimits {
  /** Undefined: it may register, and is charged; else the milliseconds until it may try again. */
  refuseRegistration(address: string): number | undefined
}

const MAX_KEYS = 100_000
const NODE = 'node'

interface Limit {
  readonly buckets: TokenBuckets
  readonly key: string
}

export function createRegistrationLimits({ rules, countLimited, now }: RegistrationLimitParts): RegistrationLimits {
  const node = rules.node === undefined ? undefined : createTokenBuckets(rules.node, MAX_KEYS)
  /** The weights are few. */
  const bucketsByWeight = new Map<number, TokenBuckets>()

  const bucketsOf = (rule: BucketRule, weight: number): TokenBuckets => {
    const known = bucketsByWeight.get(weight)
    if (known !== undefined) return known
    const made = createTokenBuckets({ perSecond: rule.perSecond * weight, burst: rule.burst * weight }, MAX_KEYS)
    bucketsByWeight.set(weight, made)
    return made
  }

  const limitsOf = (address: string): Limit[] => {
    const rule = rules.address
    const ofAddress =
      rule === undefined
        ? []
        : networksOf(address).map(({ key, weight }): Limit => ({ buckets: bucketsOf(rule, weight), key }))
    return node === undefined ? ofAddress : [...ofAddress, { buckets: node, key: NODE }]
  }

  return {
    refuseRegistration: (address) => {
      const nowMs = now()
      const limits = limitsOf(address)
      const over = limits.filter(({ buckets, key }) => buckets.available(key, nowMs) < 1)
      if (over.length > 0) {
        countLimited('registration', 1)
        return Math.max(...over.map(({ buckets, key }) => buckets.waitMs(key, 1, nowMs)))
      }
      for (const { buckets, key } of limits) buckets.take(key, 1, nowMs)
      return undefined
    },
  }
}
