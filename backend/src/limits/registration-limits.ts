// How many accounts an address, its networks and this node as a whole may register (LIM-27).

import { createNetworkBuckets } from './network-buckets.ts'
import { type BucketRule, createTokenBuckets } from './token-buckets.ts'

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

export function createRegistrationLimits({ rules, countLimited, now }: RegistrationLimitParts): RegistrationLimits {
  const node = rules.node && createTokenBuckets(rules.node, 1)
  const addresses = rules.address && createNetworkBuckets(rules.address, MAX_KEYS)

  return {
    refuseRegistration: (address) => {
      const nowMs = now()
      const nodeMs = node === undefined || node.available(NODE, nowMs) >= 1 ? 0 : node.waitMs(NODE, 1, nowMs)
      const waitMs = Math.max(nodeMs, addresses?.waitMs(address, 1, nowMs) ?? 0)
      if (waitMs > 0) {
        countLimited('registration', 1)
        return waitMs
      }
      node?.take(NODE, 1, nowMs)
      addresses?.take(address, 1, nowMs)
      return undefined
    },
  }
}
