// How the public port answers: never cached, open to pages of other origins, and for whoever asks amiss a code and what
// was expected.

import type { ServerResponse } from 'node:http'

export function answer(response: ServerResponse, status: number, body: Uint8Array | object | undefined): void {
  if (response.writableEnded) return
  response.statusCode = status
  response.setHeader('Cache-Control', 'no-store')
  response.setHeader('X-Content-Type-Options', 'nosniff')
  // Nothing here depends on cookies, and a page that links a device runs on another origin.
  response.setHeader('Access-Control-Allow-Origin', '*')
  if (body instanceof Uint8Array) {
    response.setHeader('Content-Type', 'application/octet-stream')
    response.end(body)
    return
  }
  response.setHeader('Content-Type', 'application/json')
  response.end(body === undefined ? undefined : `${JSON.stringify(body)}\n`)
}

export const refuse = (response: ServerResponse, status: number, code: string, expected: string): void =>
  answer(response, status, { code, expected })
