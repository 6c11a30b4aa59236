// How often a device, and all devices of its user together, may append to the device log on this node (LIM-26). An append
// costs one, and one more for each 32 KiB, whether the log takes it or not. What takes power from a device has a bucket of
// its own, kept by the device alone: another device of the user, a thief's perhaps, cannot empty it.

import type { Publisher } from './publish-limits.ts'
import { type BucketRule, createTokenBuckets } from './token-buckets.ts'

export interface AppendRules {
  /** Of one device, once for ordinary entries and once more for saving ones; undefined: not limited. */
  readonly deviceAppends: BucketRule | undefined
  /** Ordinary entries of all devices of a user; undefined: not limited. */
  readonly userAppends: BucketRule | undefined
}

export interface Append {
  readonly bytes: number
  /** Revokes, suspends, cancels or recovers: by what the entry says of itself, before anything is verified. */
  readonly isSaving: boolean
}

export interface AppendLimitParts {
  readonly rules: AppendRules
  countLimited(scope: 'append', count: number): void
  /** Milliseconds. */
  now(): number
  readonly maxKeys: number
}

export interface AppendLimits {
  /** Undefined: it may pass, and is charged; else the milliseconds until it may come again. */
  refuseAppend(session: Publisher, append: Append): number | undefined
}

/** The boxes of a revocation in an account of 50 devices take 60 KiB. */
const BYTES_OF_APPEND = 32 * 1024

export function createAppendLimits({ rules, countLimited, now, maxKeys }: AppendLimitParts): AppendLimits {
  const bucketsOf = (rule: BucketRule | undefined) =>
    rule === undefined ? undefined : createTokenBuckets(rule, maxKeys)
  const ordinary = bucketsOf(rules.deviceAppends)
  const saving = bucketsOf(rules.deviceAppends)
  const users = bucketsOf(rules.userAppends)

  return {
    refuseAppend: ({ deviceKey, userKey }, { bytes, isSaving }) => {
      const nowMs = now()
      const cost = 1 + Math.floor(bytes / BYTES_OF_APPEND)
      const limits = isSaving
        ? [{ buckets: saving, key: deviceKey }]
        : [
            { buckets: ordinary, key: deviceKey },
            { buckets: users, key: userKey },
          ]
      const isOver = limits.some(({ buckets, key }) => buckets !== undefined && buckets.available(key, nowMs) < 1)
      if (!isOver) {
        for (const { buckets, key } of limits) buckets?.take(key, cost, nowMs)
        return undefined
      }
      countLimited('append', 1)
      return Math.max(...limits.map(({ buckets, key }) => buckets?.waitMs(key, 1, nowMs) ?? 1))
    },
  }
}
