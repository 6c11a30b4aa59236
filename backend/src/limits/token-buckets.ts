// Token buckets by key: each fills at a rate up to its burst, and every request takes tokens out of it. Pure; the
// number of keys is bounded (P5): beyond it the bucket that was touched longest ago is forgotten, which forgives it.

export interface BucketRule {
  readonly perSecond: number
  /** What a full bucket holds; at least 1. */
  readonly burst: number
}

export interface TokenBuckets {
  /** Whole tokens that are there now; negative while more is owed than there is. */
  available(key: string, nowMs: number): number
  /** Takes tokens; what is not there is owed. */
  take(key: string, count: number, nowMs: number): void
  /** Gives back what was taken. */
  putBack(key: string, count: number, nowMs: number): void
  /** Milliseconds, at least 1, until `count` tokens are there; a full bucket when it holds fewer. */
  waitMs(key: string, count: number, nowMs: number): number
  readonly keyCount: number
}

interface Bucket {
  tokens: number
  /** When `tokens` was right. */
  atMs: number
}

export function createTokenBuckets(rule: BucketRule, maxKeys: number): TokenBuckets {
  /** In the order they were touched, the longest ago first. */
  const bucketByKey = new Map<string, Bucket>()

  const tokensOf = (bucket: Bucket | undefined, nowMs: number): number => {
    if (bucket === undefined) return rule.burst
    // A clock that went back fills nothing and empties nothing.
    const elapsedS = Math.max(0, nowMs - bucket.atMs) / 1000
    return Math.min(rule.burst, bucket.tokens + elapsedS * rule.perSecond)
  }

  const take = (key: string, count: number, nowMs: number): void => {
    const tokens = tokensOf(bucketByKey.get(key), nowMs) - count
    bucketByKey.delete(key)
    bucketByKey.set(key, { tokens, atMs: nowMs })
    if (bucketByKey.size <= maxKeys) return
    const [oldest] = bucketByKey.keys()
    if (oldest !== undefined) bucketByKey.delete(oldest)
  }

  return {
    available: (key, nowMs) => Math.floor(tokensOf(bucketByKey.get(key), nowMs)),
    take,
    putBack: (key, count, nowMs) => take(key, -count, nowMs),
    waitMs: (key, count, nowMs) => {
      const missing = Math.min(count, rule.burst) - tokensOf(bucketByKey.get(key), nowMs)
      return Math.max(1, Math.ceil((missing / rule.perSecond) * 1000))
    },
    get keyCount() {
      return bucketByKey.size
    },
  }
}
