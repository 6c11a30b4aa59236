// How often a device may act on a server's word at once, by a handover or by coming back without a wait: a server that
// asks for it after every greeting gets one in half a minute, and after that the back-off of every lost session.

import type { Clock } from '../clock.ts'

export interface EagerLimit {
  /** Milliseconds until the next is allowed; 0: now. */
  waitMs(): number
  spend(): void
}

const EVERY_MS = 30_000
/** Devices that were all asked at once do not all come back at once. */
const SPREAD_MS = 10_000

export interface EagerLimitParts {
  readonly clock: Clock
  /** Uniform in [0, 1). */
  readonly random: () => number
}

export function createEagerLimit({ clock, random }: EagerLimitParts): EagerLimit {
  let last: { readonly atMs: number; readonly untilMs: number } | undefined
  return {
    waitMs: () => {
      const nowMs = clock.now()
      // A clock that was put back must not hold the device back for as long.
      if (last === undefined || nowMs < last.atMs) return 0
      return Math.max(0, last.untilMs - nowMs)
    },
    spend: () => {
      const atMs = clock.now()
      last = { atMs, untilMs: atMs + EVERY_MS + Math.floor(random() * SPREAD_MS) }
    },
  }
}
