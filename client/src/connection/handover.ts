// When a session that is to end is replaced by a new one first (SES-2, SES-5): once, at a moment of its own, so that
// sessions that began together do not change together; and again while an attempt fails and the old session lasts.

import type { Clock } from '../clock.ts'
import { boundSessionEnd } from '../server-times.ts'
import type { EagerLimit } from './eager-limit.ts'

export interface HandoverParts {
  readonly clock: Clock
  /** Uniform in [0, 1). */
  readonly random: () => number
  readonly limit: Pick<EagerLimit, 'waitMs'>
  /** Tries to replace the session; resolves when the attempt is over, whatever came of it. */
  attempt(): Promise<void>
}

export interface Handover {
  /** The session ends in so many milliseconds: it is replaced at a moment in the first half of them. */
  before(remainingMs: number): void
  /** Of several moments the first counts. */
  after(delayMs: number): void
  /** The session is replaced or gone. */
  cancel(): void
}

const RETRY_MS = 30_000

export function createHandover({ clock, random, limit, attempt }: HandoverParts): Handover {
  let planned: { readonly atMs: number; cancel(): void } | undefined
  /** Counts sessions, so that an attempt of one does not plan for the next. */
  let generation = 0

  const after = (wantedMs: number): void => {
    const delayMs = Math.max(wantedMs, limit.waitMs())
    const atMs = clock.now() + delayMs
    if (planned !== undefined && planned.atMs <= atMs) return
    planned?.cancel()
    const plannedIn = generation
    const cancel = clock.after(delayMs, () => {
      planned = undefined
      const retry = (): void => {
        if (generation === plannedIn) after(RETRY_MS * (0.5 + random()))
      }
      attempt().then(retry, retry)
    })
    planned = { atMs, cancel }
  }

  return {
    before: (remainingMs) => after(Math.floor((random() * boundSessionEnd(remainingMs)) / 2)),
    after,
    cancel: () => {
      generation += 1
      planned?.cancel()
      planned = undefined
    },
  }
}
