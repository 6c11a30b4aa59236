// Token buckets of addresses and of the networks around them. One customer may hold a network of addresses, so each network
// has a bucket too, as many times as large as its weight says.

import { networksOf } from './client-address.ts'
import { type BucketRule, createTokenBuckets, type TokenBuckets } from './token-buckets.ts'

export interface NetworkBuckets {
  /** Takes from the address and its networks; what is not there is owed. */
  take(address: string, count: number, nowMs: number): void
  /** Milliseconds until `count` are there for the address and its networks; 0 when they are there now. */
  waitMs(address: string, count: number, nowMs: number): number
}

interface Bucket {
  readonly buckets: TokenBuckets
  readonly key: string
}

export function createNetworkBuckets(rule: BucketRule, maxKeys: number): NetworkBuckets {
  /** The weights are few. */
  const bucketsByWeight = new Map<number, TokenBuckets>()

  const bucketsOf = (weight: number): TokenBuckets => {
    const known = bucketsByWeight.get(weight)
    if (known !== undefined) return known
    const made = createTokenBuckets({ perSecond: rule.perSecond * weight, burst: rule.burst * weight }, maxKeys)
    bucketsByWeight.set(weight, made)
    return made
  }

  const pathOf = (address: string): Bucket[] =>
    networksOf(address).map(({ key, weight }) => ({ buckets: bucketsOf(weight), key }))

  return {
    take: (address, count, nowMs) => {
      for (const { buckets, key } of pathOf(address)) buckets.take(key, count, nowMs)
    },
    waitMs: (address, count, nowMs) => {
      const short = pathOf(address).filter(({ buckets, key }) => buckets.available(key, nowMs) < count)
      return short.length === 0 ? 0 : Math.max(...short.map(({ buckets, key }) => buckets.waitMs(key, count, nowMs)))
    },
  }
}
