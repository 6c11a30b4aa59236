// The HTTP port over the platform's fetch, with a bound on time and on the bytes of an answer.

import { systemClock } from '../clock.ts'
import { ConnectError } from '../connect-problem.ts'
import type { Http } from '../http.ts'
import { createPatientHttp } from '../patient-http.ts'
import { findConnectProblem } from './find-connect-problem.ts'

const MAX_RESPONSE_BYTES = 64 * 1024
/** Longer than the server holds a waiting GET (20 s). */
const TIMEOUT_MS = 30_000

const fetchOnce: Http = async ({ method, url, authorization, body, signal }) => {
  const timeout = AbortSignal.timeout(TIMEOUT_MS)
  const response = await fetch(url, {
    method,
    redirect: 'error',
    ...(authorization === undefined ? {} : { headers: { authorization } }),
    signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    ...(body === undefined ? {} : { body: Buffer.from(body) }),
  }).catch((error: unknown) => {
    const problem = findConnectProblem(error)
    throw problem === undefined ? error : new ConnectError(problem, { cause: error })
  })
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.length
    if (length > MAX_RESPONSE_BYTES) throw new Error('the answer is larger than expected')
    chunks.push(chunk)
  }
  return { status: response.status, body: new Uint8Array(Buffer.concat(chunks)) }
}

export const fetchHttp: Http = createPatientHttp(fetchOnce, systemClock)
