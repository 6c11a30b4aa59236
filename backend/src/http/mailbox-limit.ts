// How often an address may ask for mailboxes (LIM-6): a mailbox's id is the only thing that keeps it, and each request
// costs the database a look. Above that the answer says when to come again, before anything is read.

import type { IncomingMessage, RequestListener } from 'node:http'
import { refuseLimited } from './answer.ts'

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
    // Its body is not read.
    response.setHeader('Connection', 'close')
    refuseLimited(response, retryAfterMs)
  }
}
