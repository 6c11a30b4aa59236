// An HTTP port that waits as long as a server asks it to: a request over the limit of this address (LIM-6) is sent again
// when its time has come, so that nobody above it has to know of limits. Any other 429 is the caller's.

import { decodeUtf8 } from '@valise/protocol'
import { z } from 'zod'
import type { Clock } from './clock.ts'
import type { Http } from './http.ts'

const rateLimited = z.object({ code: z.literal('rate_limited'), retry_after_ms: z.int().min(0) })

/** A server that asks for more is not waited for. */
const MAX_WAIT_MS = 60_000

export function createPatientHttp(http: Http, clock: Clock): Http {
  return async (request) => {
    for (;;) {
      const response = await http(request)
      const waitMs = response.status === 429 ? waitOf(response.body) : undefined
      if (waitMs === undefined || waitMs > MAX_WAIT_MS) return response
      await pause(clock, waitMs, request.signal)
    }
  }
}

function waitOf(body: Uint8Array): number | undefined {
  try {
    return rateLimited.safeParse(JSON.parse(decodeUtf8(body) ?? '')).data?.retry_after_ms
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
