// How often an address may ask for mailboxes (LIM-6): a mailbox's id is the only thing that keeps it, and each request
// costs the database a look. Above that: 429 with the time to come again, before anything is read.

import type { IncomingMessage, RequestListener } from 'node:http'

export interface MailboxLimitParts {
  readonly handler: RequestListener
  /** Milliseconds until the requester may ask again; undefined: now. */
  refuse(request: IncomingMessage): number | undefined
}

/** What needs no database stands outside. */
const LIMITED_PREFIX = '/v1/'

export function limitMailboxRequests({ handler, refuse }: MailboxLimitParts): RequestListener {
  return (request, response) => {
    const retryAfterMs = request.url?.startsWith(LIMITED_PREFIX) ? refuse(request) : undefined
    if (retryAfterMs === undefined) return handler(request, response)
    response.writeHead(429, {
      'Content-Type': 'application/json',
      'Cache-Control': 'no-store',
      'Access-Control-Allow-Origin': '*',
      'Retry-After': Math.ceil(retryAfterMs / 1000),
      // Its body is not read.
      Connection: 'close',
    })
    response.end(`${JSON.stringify({ code: 'rate_limited', retry_after_ms: retryAfterMs })}\n`)
  }
}
