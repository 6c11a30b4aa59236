// What the public port answers besides WebSocket: who this server is, and the mailboxes of linking devices (PROTOCOL F).
// A mailbox holds sealed bytes between two devices that know its id; the server can read none of it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { fromHex, toBase64Url } from '@valise/protocol'
import type { RegistrationMode } from '../devices/registration.ts'
import { parseAfter } from '../keys/server-keys.ts'
import { type Microseconds, ROUTE_COSTS, type Route } from '../limits/costs.ts'
import { answer, refuse, refuseLimited } from './answer.ts'
import { BODY_TIMEOUT_MS, readBody } from './body.ts'
import { type LongPolls, MAX_WAIT_S, parseWait } from './long-poll.ts'
import type { PairingRoute } from './pairing.ts'

export interface Mailboxes {
  post(mailboxId: Uint8Array, slot: number, body: Uint8Array): Promise<'stored' | 'taken' | 'full'>
  read(mailboxId: Uint8Array, slot: number): Promise<Uint8Array | undefined>
}

export interface PublicHttpParts {
  /** The key that is proved now, and the next one's hash. */
  identity(): { readonly publicKey: Uint8Array; readonly fingerprint: Uint8Array; readonly nextFingerprint: Uint8Array }
  /** One page of the changes of key after this one. */
  keyChangesAfter(fingerprint: Uint8Array): Promise<readonly Uint8Array[]>
  readonly registration: RegistrationMode
  readonly mailboxes: Mailboxes
  /** Answers what is about pairing; false for all else. */
  readonly routePairing: PairingRoute
  readonly polls: LongPolls
  /** What the request's limits are counted by. */
  addressOf(request: IncomingMessage): string
  /** Runs what asks the database when it is this address's turn (LIM-11). */
  takeTurn<T>(address: string, work: () => Promise<T>): Promise<T>
  /** Charges the requester; milliseconds until it may ask again, undefined: now (LIM-10). */
  refuseWork(request: IncomingMessage, cost: Microseconds): number | undefined
  /** Names a request in its answer (X-Request-Id) and, should it fail, in the log. */
  newRequestId(): string
  onFailure(error: unknown, requestId: string): void
}

export const MAX_MAILBOX_BODY_BYTES = 8192

const NOWHERE = new URL('http://valise.invalid')

type RouteHandler = (request: IncomingMessage, response: ServerResponse, url: URL) => Promise<void>

const MAILBOX_PATH = /^\/v1\/mailboxes\/([0-9a-f]{32})\/([0-7])$/

export function createPublicHttp(parts: PublicHttpParts) {
  const inTurn = <T>(request: IncomingMessage, work: () => Promise<T>): Promise<T> =>
    parts.takeTurn(parts.addressOf(request), work)

  const putMailbox = async (request: IncomingMessage, response: ServerResponse, id: Uint8Array, slot: number) => {
    const body = await readBody(request, MAX_MAILBOX_BODY_BYTES)
    if (body === 'gone') return
    // What else the peer sends of this request is not read.
    if (body === 'late' || body === 'too_long') response.setHeader('Connection', 'close')
    if (body === 'late') return refuse(response, 'mailbox_message_late', `all of it within ${BODY_TIMEOUT_MS} ms`)
    if (body === 'too_long' || body.length === 0) {
      return refuse(response, 'mailbox_message_size', `1 to ${MAX_MAILBOX_BODY_BYTES} bytes`)
    }
    switch (await inTurn(request, () => parts.mailboxes.post(id, slot, body))) {
      case 'stored':
        return answer(response, 201, undefined)
      case 'taken':
        return refuse(response, 'mailbox_slot_taken', 'an empty slot')
      case 'full':
        return refuse(response, 'mailboxes_full', 'try again in ten minutes')
    }
  }

  const getMailbox = async (
    request: IncomingMessage,
    response: ServerResponse,
    id: Uint8Array,
    slot: number,
    waitS: number,
  ) => {
    const body = await parts.polls.until(request, waitS, () => inTurn(request, () => parts.mailboxes.read(id, slot)))
    if (body !== undefined) return answer(response, 200, body)
    refuse(response, 'mailbox_slot_empty', 'a message from the other device')
  }

  const routeMailbox: RouteHandler = async (request, response, url) => {
    const [, idText = '', slotText = ''] = MAILBOX_PATH.exec(url.pathname) ?? []
    const id = fromHex(idText)
    if (id === undefined || idText === '') return refuseUnknown(response)
    const slot = Number(slotText)
    if (request.method === 'PUT') return putMailbox(request, response, id, slot)
    if (request.method !== 'GET') return refuse(response, 'method_not_allowed', 'GET or PUT')
    const waitS = parseWait(url)
    if (waitS === undefined) return refuse(response, 'invalid_wait', `wait_s from 0 to ${MAX_WAIT_S}`)
    return getMailbox(request, response, id, slot, waitS)
  }

  const routePairing: RouteHandler = async (request, response, url) => {
    if (!(await parts.routePairing(request, response, url))) refuseUnknown(response)
  }

  const handlers: Readonly<Record<Route, RouteHandler>> = {
    identity: async (_request, response) => {
      const { publicKey, fingerprint, nextFingerprint } = parts.identity()
      answer(response, 200, {
        server_id: toBase64Url(publicKey),
        fingerprint: toBase64Url(fingerprint),
        next_fingerprint: toBase64Url(nextFingerprint),
        registration: parts.registration,
      })
    },
    key_changes: async (request, response, url) => {
      const after = parseAfter(url)
      if (after === undefined) return refuse(response, 'invalid_after', 'after=<fingerprint, base64url of 32 bytes>')
      answer(response, 200, { changes: (await inTurn(request, () => parts.keyChangesAfter(after))).map(toBase64Url) })
    },
    pairing_page: routePairing,
    pairing: routePairing,
    mailbox: routeMailbox,
    unknown: async (_request, response) => refuseUnknown(response),
  }

  const route = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = parseTarget(request.url)
    const name = url === undefined ? 'unknown' : nameRoute(request.method, url.pathname)
    const retryAfterMs = parts.refuseWork(request, ROUTE_COSTS[name])
    if (retryAfterMs !== undefined) {
      // Its body is not read.
      response.setHeader('Connection', 'close')
      return refuseLimited(response, retryAfterMs)
    }
    await handlers[name](request, response, url ?? NOWHERE)
  }

  return (request: IncomingMessage, response: ServerResponse): void => {
    const requestId = parts.newRequestId()
    response.setHeader('X-Request-Id', requestId)
    route(request, response).catch((error: unknown) => {
      parts.onFailure(error, requestId)
      refuse(response, 'unavailable', 'try again')
    })
  }
}

/** Each has a cost (LIM-10), and no request is handled without a name. */
function nameRoute(method: string | undefined, pathname: string): Route {
  if (method === 'GET' && pathname === '/.well-known/valise') return 'identity'
  if (method === 'GET' && pathname === '/.well-known/valise/keys') return 'key_changes'
  if (pathname === '/p') return 'pairing_page'
  if (pathname.startsWith('/v1/pairings/')) return 'pairing'
  return MAILBOX_PATH.test(pathname) ? 'mailbox' : 'unknown'
}

const refuseUnknown = (response: ServerResponse): void =>
  refuse(response, 'not_found', 'a WebSocket, /.well-known/valise or /v1/mailboxes/<32 hex>/<0-7>')

/** `undefined` for a request target that is no path, as `//`. */
function parseTarget(target = '/'): URL | undefined {
  return URL.canParse(target, NOWHERE.href) ? new URL(target, NOWHERE) : undefined
}
