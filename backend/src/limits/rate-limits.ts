// What a device, a user and an address may ask of this node (LIM-1, LIM-2, LIM-6, LIM-25, LIM-26): how much of it passes
// now, and when the rest may come again. The gateway turns that into answers; nothing is dropped without one (LIM-3).

import { type AppendLimits, type AppendRules, createAppendLimits } from './append-limits.ts'
import { createNetworkBuckets, type NetworkBuckets } from './network-buckets.ts'
import { createPublishLimits, type PublishLimits, type PublishRules, type PublishScope } from './publish-limits.ts'
import type { BucketRule } from './token-buckets.ts'

export interface RateLimitRules extends PublishRules, AppendRules {
  /** Handshakes begun; undefined: not limited. */
  readonly address: BucketRule | undefined
  /** Requests for mailboxes, by address; undefined: not limited. */
  readonly mailbox: BucketRule | undefined
}

export type RateLimitScope = PublishScope | 'append' | 'address' | 'mailbox'

export interface RateLimitParts {
  readonly rules: RateLimitRules
  countLimited(scope: RateLimitScope, count: number): void
  /** Milliseconds. */
  now(): number
}

export interface RateLimits extends PublishLimits, AppendLimits {
  /** Undefined: it may begin; else the milliseconds until the address may try again. */
  refuseHandshake(address: string): number | undefined
  /** Likewise. */
  refuseMailboxRequest(address: string): number | undefined
}

/** About 150 bytes each. An address or a device that is forgotten had its last request longer ago than all these. */
const MAX_KEYS = 100_000

export function createRateLimits({ rules, countLimited, now }: RateLimitParts): RateLimits {
  const bucketsOf = (rule: BucketRule | undefined) => rule && createNetworkBuckets(rule, MAX_KEYS)
  const addresses = bucketsOf(rules.address)
  const mailboxes = bucketsOf(rules.mailbox)

  const refuseOne = (
    buckets: NetworkBuckets | undefined,
    scope: RateLimitScope,
    address: string,
  ): number | undefined => {
    const nowMs = now()
    const waitMs = buckets?.waitMs(address, 1, nowMs) ?? 0
    if (waitMs > 0) {
      countLimited(scope, 1)
      return waitMs
    }
    buckets?.take(address, 1, nowMs)
    return undefined
  }

  return {
    ...createPublishLimits({ rules, countLimited, now, maxKeys: MAX_KEYS }),
    ...createAppendLimits({ rules, countLimited, now, maxKeys: MAX_KEYS }),
    refuseHandshake: (address) => refuseOne(addresses, 'address', address),
    refuseMailboxRequest: (address) => refuseOne(mailboxes, 'mailbox', address),
  }
}
