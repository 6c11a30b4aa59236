// The HTTP port over Node's own client, with a bound on time and on the bytes of an answer. It follows no redirect and
// goes through the proxy that the environment names.

import { Agent as PlainAgent, type RequestOptions, request as requestPlain } from 'node:http'
import { request as requestTls, Agent as TlsAgent } from 'node:https'
import { systemClock } from '../clock.ts'
import { ConnectError } from '../connect-problem.ts'
import type { Http, HttpResponse } from '../http.ts'
import { createPatientHttp } from '../patient-http.ts'
import { findConnectProblem } from './find-connect-problem.ts'
import { proxyAgentFor } from './proxy.ts'

const MAX_RESPONSE_BYTES = 64 * 1024
/** Longer than the server holds a waiting GET (20 s). */
const TIMEOUT_MS = 30_000
const PROXY_AUTHENTICATION_REQUIRED = 407

// A connection each: one that was kept may have been closed meanwhile.
const plainAgent = new PlainAgent({ keepAlive: false })
const tlsAgent = new TlsAgent({ keepAlive: false })

const requestOnce: Http = async ({ method, url, authorization, body, signal }) => {
  const timeout = AbortSignal.timeout(TIMEOUT_MS)
  const isTls = url.startsWith('https:')
  const proxy = proxyAgentFor(url)
  const options: RequestOptions = {
    method,
    agent: proxy ?? (isTls ? tlsAgent : plainAgent),
    headers: authorization === undefined ? {} : { authorization },
    signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
  }
  try {
    return await exchange(isTls, url, options, body)
  } catch (error) {
    if (error instanceof ConnectError) throw error
    const problem = findConnectProblem(error, { isProxied: proxy !== undefined })
    throw problem === undefined ? error : new ConnectError(problem, { cause: error })
  }
}

function exchange(isTls: boolean, url: string, options: RequestOptions, body?: Uint8Array): Promise<HttpResponse> {
  return new Promise((resolve, reject) => {
    const request = (isTls ? requestTls : requestPlain)(url, options, (response) => {
      const status = response.statusCode ?? 0
      if (status >= 300 && status < 400) return void request.destroy(new ConnectError('redirect'))
      if (status === PROXY_AUTHENTICATION_REQUIRED) return void request.destroy(new ConnectError('proxy_refused'))
      const chunks: Buffer[] = []
      let length = 0
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        length += chunk.length
        if (length > MAX_RESPONSE_BYTES) request.destroy(new Error('the answer is larger than expected'))
      })
      response.on('error', reject)
      response.on('end', () => resolve({ status, body: new Uint8Array(Buffer.concat(chunks)) }))
    })
    request.on('error', reject)
    request.end(body)
  })
}

export const nodeHttp: Http = createPatientHttp(requestOnce, systemClock)
