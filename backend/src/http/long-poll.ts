// Waits that a request of the public port holds open until there is an answer: bounded in time and in number, counted,
// and over as soon as the asker is gone.

import type { IncomingMessage } from 'node:http'

export const MAX_WAIT_S = 25
const STEP_MS = 500
/** Held open at once; above it a poll answers at once. */
const MAX_WAITING = 256

export interface LongPolls {
  /** What `read` finds, or undefined when it found nothing for so long, the asker left, or too many wait. */
  until<Found>(
    request: IncomingMessage,
    waitS: number,
    read: () => Promise<Found | undefined>,
  ): Promise<Found | undefined>
  readonly waiting: number
}

export function createLongPolls(): LongPolls {
  let waiting = 0
  return {
    until: async (request, waitS, read) => {
      const deadlineMs = performance.now() + waitS * 1000
      let isGone = false
      request.once('close', () => {
        isGone = true
      })
      for (;;) {
        const found = await read()
        if (found !== undefined) return found
        if (isGone || waiting >= MAX_WAITING || performance.now() + STEP_MS >= deadlineMs) return undefined
        waiting++
        await new Promise((resolve) => setTimeout(resolve, STEP_MS))
        waiting--
      }
    },
    get waiting() {
      return waiting
    },
  }
}

/** Seconds from `wait_s`, 0 without it; undefined for what is no such number. */
export function parseWait(url: URL): number | undefined {
  const text = url.searchParams.get('wait_s') ?? '0'
  return /^\d{1,3}$/.test(text) ? Math.min(Number(text), MAX_WAIT_S) : undefined
}
