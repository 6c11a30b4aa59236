// How the public port answers: never cached. A refusal carries a code of the registry and what was expected. Which
// web pages may read an answer is decided before (origin-gate.ts).

import type { ServerResponse } from 'node:http'
import { HTTP_ERRORS, type HttpErrorCode } from '@valise/protocol'

export function answer(response: ServerResponse, status: number, body: Uint8Array | object | undefined): void {
  if (response.writableEnded) return
  response.statusCode = status
  response.setHeader('Cache-Control', 'no-store')
  response.setHeader('X-Content-Type-Options', 'nosniff')
  if (body instanceof Uint8Array) {
    response.setHeader('Content-Type', 'application/octet-stream')
    response.end(body)
    return
  }
  response.setHeader('Content-Type', 'application/json')
  response.end(body === undefined ? undefined : `${JSON.stringify(body)}\n`)
}

export const refuse = (response: ServerResponse, code: HttpErrorCode, expected: string): void =>
  answer(response, HTTP_ERRORS[code].status, { code, expected })

/** Too much was asked: says when to come again. */
export function refuseLimited(response: ServerResponse, retryAfterMs: number): void {
  response.setHeader('Retry-After', Math.ceil(retryAfterMs / 1000))
  answer(response, HTTP_ERRORS.rate_limited.status, { code: 'rate_limited', retry_after_ms: retryAfterMs })
}
