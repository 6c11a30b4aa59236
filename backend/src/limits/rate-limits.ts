// What a device, a user and an address may ask of this node (LIM-1, LIM-2, LIM-6): how much of it passes now, and when the
// rest may come again. The gateway turns that into answers; nothing is dropped without one (LIM-3).

import { type BucketRule, createTokenBuckets, type TokenBuckets } from './token-buckets.ts'

export interface RateLimitRules {
  /** Events published; undefined: not limited. */
  readonly device: BucketRule | undefined
  readonly user: BucketRule | undefined
  /** Handshakes begun; undefined: not limited. */
  readonly address: BucketRule | undefined
  /** Requests for mailboxes, by address; undefined: not limited. */
  readonly mailbox: BucketRule | undefined
}

export type RateLimitScope = keyof RateLimitRules

export interface RateLimitParts {
  readonly rules: RateLimitRules
  countLimited(scope: RateLimitScope, count: number): void
  /** Milliseconds. */
  now(): number
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

export interface RateLimits {
  /** Takes what there is for `count` events of the session's device. */
  admitEvents(session: Publisher, count: number): Admission
  /** Takes for `count` events more than were admitted, also what is not there yet: those after them wait for it. */
  chargeEvents(session: Publisher, count: number): void
  /** When `count` events of the device would pass; takes nothing. */
  eventsRetryAfterMs(session: Publisher, count: number): number
  /** Undefined: it may begin; else the milliseconds until the address may try again. */
  refuseHandshake(address: string): number | undefined
  /** Likewise. */
  refuseMailboxRequest(address: string): number | undefined
}

/** About 150 bytes each. An address or a device that is forgotten had its last request longer ago than all these. */
const MAX_KEYS = 100_000

export function createRateLimits({ rules, countLimited, now }: RateLimitParts): RateLimits {
  const bucketsOf = (rule: BucketRule | undefined) =>
    rule === undefined ? undefined : createTokenBuckets(rule, MAX_KEYS)
  const devices = bucketsOf(rules.device)
  const users = bucketsOf(rules.user)
  const addresses = bucketsOf(rules.address)
  const mailboxes = bucketsOf(rules.mailbox)

  const retryAfterMs = (deviceKey: string, userKey: string, count: number): number =>
    Math.max(devices?.waitMs(deviceKey, count, now()) ?? 1, users?.waitMs(userKey, count, now()) ?? 1)

  const refuseOne = (buckets: TokenBuckets | undefined, scope: RateLimitScope, key: string): number | undefined => {
    const nowMs = now()
    if (buckets === undefined) return undefined
    if (buckets.available(key, nowMs) < 1) {
      countLimited(scope, 1)
      return buckets.waitMs(key, 1, nowMs)
    }
    buckets.take(key, 1, nowMs)
    return undefined
  }

  return {
    admitEvents: ({ deviceKey, userKey }, count) => {
      const nowMs = now()
      const ofDevice = Math.max(devices?.available(deviceKey, nowMs) ?? count, 0)
      const ofUser = Math.max(users?.available(userKey, nowMs) ?? count, 0)
      const admitted = Math.min(count, ofDevice, ofUser)
      if (admitted > 0) {
        devices?.take(deviceKey, admitted, nowMs)
        users?.take(userKey, admitted, nowMs)
      }
      const limited = count - admitted
      if (limited === 0) return { count, retryAfterMs: 0 }
      countLimited(ofDevice <= ofUser ? 'device' : 'user', limited)
      return { count: admitted, retryAfterMs: retryAfterMs(deviceKey, userKey, limited) }
    },
    chargeEvents: ({ deviceKey, userKey }, count) => {
      if (count === 0) return
      devices?.take(deviceKey, count, now())
      users?.take(userKey, count, now())
    },
    eventsRetryAfterMs: ({ deviceKey, userKey }, count) => retryAfterMs(deviceKey, userKey, count),
    refuseHandshake: (address) => refuseOne(addresses, 'address', address),
    refuseMailboxRequest: (address) => refuseOne(mailboxes, 'mailbox', address),
  }
}
