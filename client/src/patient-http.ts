// An HTTP port that waits as long as a server asks it to: a request over the limit of this address (LIM-6) is sent again
// when its time has come, so that nobody above it has to know of limits. Any other 429 is the caller's, and so is the
// answer of a server that asks for more and more time.

import { decodeUtf8 } from '@valise/protocol'
import { z } from 'zod'
import type { Clock } from './clock.ts'
import type { Http } from './http.ts'
import { boundWait } from './server-times.ts'

const rateLimited = z.object({ code: z.literal('rate_limited'), retry_after_ms: z.int().min(0) })

/** A server that asks for more, at once or in all, is not waited for. */
const MAX_WAIT_MS = 60_000

export function createPatientHttp(http: Http, clock: Clock): Http {
  return async (request) => {
    for (let waitedMs = 0; ; ) {
      const response = await http(request)
      const waitMs = response.status === 429 ? waitOf(response.body) : undefined
      if (waitMs === undefined || waitedMs + waitMs > MAX_WAIT_MS) return response
      waitedMs += waitMs
      await pause(clock, waitMs, request.signal)
    }
  }
}

function waitOf(body: Uint8Array): number | undefined {
  try {
    const limited = rateLimited.safeParse(JSON.parse(decodeUtf8(body) ?? '')).data
    return limited && boundWait(limited.retry_after_ms)
  } catch {
    return undefined
  }
}

/** Rejects with the signal's reason when it aborts first. */
function pause(clock: Clock, waitMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void): void => {
      cancel()
      signal?.removeEventListener('abort', onAbort)
      done()
    }
    const onAbort = (): void => settle(() => reject(signal?.reason))
    const cancel = clock.after(waitMs, () => settle(resolve))
    if (signal?.aborted === true) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
