// Buckets against a clock that the test moves.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createRateLimits, type RateLimitRules, type RateLimitScope } from '../src/limits/rate-limits.ts'
import { createTokenBuckets } from '../src/limits/token-buckets.ts'

describe('token buckets', () => {
  test('LIM-1: a bucket begins full, empties, and fills at its rate up to its burst', () => {
    const buckets = createTokenBuckets({ perSecond: 10, burst: 5 }, 100)
    expect(buckets.available('a', 0)).toBe(5)
    buckets.take('a', 5, 0)
    expect([0, 99, 100, 250, 10_000].map((nowMs) => buckets.available('a', nowMs))).toEqual([0, 0, 1, 2, 5])
    expect(buckets.available('b', 0)).toBe(5)
  })

  test('LIM-3: the wait that is told is just long enough, and never longer than a full bucket takes', () => {
    const buckets = createTokenBuckets({ perSecond: 10, burst: 5 }, 100)
    buckets.take('a', 5, 0)
    expect([1, 3, 5, 500].map((count) => buckets.waitMs('a', count, 0))).toEqual([100, 300, 500, 500])
    expect(buckets.available('a', buckets.waitMs('a', 3, 0))).toBe(3)
  })

  test('P5: the number of keys is bounded, and the one touched longest ago goes first', () => {
    const buckets = createTokenBuckets({ perSecond: 1, burst: 10 }, 3)
    for (const key of ['a', 'b', 'c', 'a', 'd']) buckets.take(key, 4, 0)
    expect(buckets.keyCount).toBe(3)
    expect(['a', 'b', 'c', 'd'].map((key) => buckets.available(key, 0))).toEqual([2, 10, 6, 6])
    for (let i = 0; i < 1000; i++) buckets.take(`key ${i}`, 1, i)
    expect(buckets.keyCount).toBe(3)
  })

  test('LIM-1: a clock that goes back gives nothing away', () => {
    const buckets = createTokenBuckets({ perSecond: 10, burst: 5 }, 100)
    buckets.take('a', 5, 1000)
    expect(buckets.available('a', 0)).toBe(0)
  })

  test('LIM-1: whatever is asked for and when, no more passes than burst and rate allow', () => {
    const requests = fc.array(fc.tuple(fc.nat({ max: 400 }), fc.nat({ max: 50 })), { minLength: 1, maxLength: 200 })
    fc.assert(
      fc.property(requests, (steps) => {
        const buckets = createTokenBuckets({ perSecond: 30, burst: 20 }, 10)
        let nowMs = 0
        let passed = 0
        for (const [pauseMs, count] of steps) {
          nowMs += pauseMs
          const admitted = Math.min(count, buckets.available('a', nowMs))
          buckets.take('a', admitted, nowMs)
          passed += admitted
          expect(passed).toBeLessThanOrEqual(20 + (nowMs / 1000) * 30 + 1e-6)
        }
      }),
    )
  })
})

const NO_RULES: RateLimitRules = {
  device: undefined,
  user: undefined,
  deviceBytes: undefined,
  userBytes: undefined,
  deviceAppends: undefined,
  userAppends: undefined,
  address: undefined,
  mailbox: undefined,
}
const sizesOf = (count: number, bytes = 100): number[] => Array.from({ length: count }, () => bytes)

function createScene(rules: Partial<RateLimitRules>) {
  const limited: [RateLimitScope, number][] = []
  const clock = { nowMs: 0 }
  const limits = createRateLimits({
    rules: { ...NO_RULES, ...rules },
    countLimited: (scope, count) => limited.push([scope, count]),
    now: () => clock.nowMs,
  })
  return { limits, limited, clock }
}

describe('rate limits', () => {
  const first = { deviceKey: 'first', userKey: 'user' }
  const second = { deviceKey: 'second', userKey: 'user' }

  test('LIM-1: a device has its own limit, and all devices of a user share one', () => {
    const { limits, limited, clock } = createScene({
      device: { perSecond: 10, burst: 6 },
      user: { perSecond: 20, burst: 8 },
    })
    expect(limits.admitEvents(first, sizesOf(10))).toEqual({ count: 6, retryAfterMs: 400 })
    expect(limits.admitEvents(second, sizesOf(3))).toEqual({ count: 2, retryAfterMs: 50 })
    expect(limited).toEqual([
      ['device', 4],
      ['user', 1],
    ])
    clock.nowMs = 400
    expect(limits.admitEvents(first, sizesOf(4))).toEqual({ count: 4, retryAfterMs: 0 })
  })

  test('LIM-25: bytes count beside events, and the narrower limit says how many pass and when the rest does', () => {
    const { limits, limited } = createScene({
      device: { perSecond: 10, burst: 6 },
      deviceBytes: { perSecond: 1000, burst: 5000 },
      userBytes: { perSecond: 1000, burst: 7000 },
    })
    expect(limits.admitEvents(first, [2000, 2000, 500, 2000, 100])).toEqual({ count: 3, retryAfterMs: 1600 })
    // In order: a smaller event that follows does not go before one that waits.
    expect(limits.admitEvents(second, [2000, 501])).toEqual({ count: 1, retryAfterMs: 1 })
    expect(limits.admitEvents(second, sizesOf(6, 100)).count).toBe(5)
    expect(limited).toEqual([
      ['device_bytes', 2],
      ['user_bytes', 1],
      ['device', 1],
    ])
  })

  test('LIM-25: an event that is larger than the burst passes a full bucket, and what follows waits for it', () => {
    const { limits, clock } = createScene({ deviceBytes: { perSecond: 1000, burst: 1000 } })
    expect(limits.admitEvents(first, [3000, 100])).toEqual({ count: 1, retryAfterMs: 2100 })
    clock.nowMs = 2100
    expect(limits.admitEvents(first, [100]).count).toBe(1)
  })

  test('LIM-26: appends are counted by device and user, a large one as several', () => {
    const { limits, limited, clock } = createScene({
      deviceAppends: { perSecond: 1, burst: 4 },
      userAppends: { perSecond: 1, burst: 6 },
    })
    const small = { bytes: 1000, isSaving: false }
    const large = { bytes: 64 * 1024, isSaving: false }
    expect([limits.refuseAppend(first, large), limits.refuseAppend(first, small)]).toEqual([undefined, undefined])
    expect(limits.refuseAppend(first, small)).toBe(1000)
    // The user has two left.
    expect([1, 2, 3].map(() => limits.refuseAppend(second, small))).toEqual([undefined, undefined, 1000])
    clock.nowMs = 1000
    expect(limits.refuseAppend(second, small)).toBeUndefined()
    expect(limited).toEqual([
      ['append', 1],
      ['append', 1],
    ])
  })

  test('LIM-26: no device can use up what another needs to revoke, suspend, cancel or recover, nor its own ordinary entries', () => {
    const { limits } = createScene({
      deviceAppends: { perSecond: 1, burst: 3 },
      userAppends: { perSecond: 1, burst: 3 },
    })
    const append = (isSaving: boolean) => ({ bytes: 100, isSaving })
    for (let i = 0; i < 20; i++) limits.refuseAppend(first, append(i % 2 === 0))
    expect(limits.refuseAppend(first, append(true))).toBeGreaterThan(0)
    expect(limits.refuseAppend(second, append(false))).toBeGreaterThan(0)
    expect([1, 2, 3].map(() => limits.refuseAppend(second, append(true)))).toEqual([undefined, undefined, undefined])
  })

  test('LIM-2: an address that shakes hands too often is told when one more will pass', () => {
    const { limits, limited, clock } = createScene({ address: { perSecond: 1, burst: 2 } })
    expect([limits.refuseHandshake('a'), limits.refuseHandshake('a')]).toEqual([undefined, undefined])
    expect(limits.refuseHandshake('a')).toBe(1000)
    expect(limits.refuseHandshake('b')).toBeUndefined()
    clock.nowMs = 1000
    expect(limits.refuseHandshake('a')).toBeUndefined()
    expect(limited).toEqual([['address', 1]])
  })

  test('LIM-1: without rules everything passes', () => {
    const { limits } = createScene({})
    expect(limits.admitEvents(first, sizesOf(100_000))).toEqual({ count: 100_000, retryAfterMs: 0 })
    expect(limits.refuseAppend(first, { bytes: 1_000_000, isSaving: false })).toBeUndefined()
    expect(limits.refuseHandshake('a')).toBeUndefined()
  })
})
