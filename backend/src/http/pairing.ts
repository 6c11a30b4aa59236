// The routes of pairing on the public port (PROTOCOL F): open a mailbox, take the joiner's seat, post and wait for
// messages, end it. Each but opening and joining needs the key of a seat, and nothing a peer sent is echoed.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { fromBase64Url, fromHex, type HttpErrorCode, toHex } from '@valise/protocol'
import type { Absence, Pairings, Seat } from '../devices/pairing.ts'
import { answer, refuse, refuseLimited } from './answer.ts'
import { BODY_TIMEOUT_MS, readBody } from './body.ts'
import { type LongPolls, MAX_WAIT_S, parseWait } from './long-poll.ts'

export interface PairingRouteParts {
  readonly pairings: Pairings
  readonly polls: LongPolls
  /** What the request's limits are counted by. */
  addressOf(request: IncomingMessage): string
  /** Runs what asks the database when it is this address's turn (LIM-11). */
  takeTurn<T>(address: string, work: () => Promise<T>): Promise<T>
}

/** Resolves to false when the request is about something else. */
export type PairingRoute = (request: IncomingMessage, response: ServerResponse, url: URL) => Promise<boolean>

const MAX_BODY_BYTES = 8192
const SEAT_KEY_BYTES = 16

const MAILBOX_PATH = /^\/v1\/pairings\/([0-9a-f]{32})(?:\/([0-7]))?$/
const JOIN_PATH = /^\/v1\/pairings\/(?:([0-9a-f]{32})|([1-9]\d{8}))\/join$/

/** A phone's camera opens the address of a QR in a browser, which knows nothing of pairing. */
const PAGE = `This address pairs a device. On the device, with the whole address in quotes:

  npx valise pair 'ADDRESS'
`

const ABSENCES = {
  not_found: { code: 'pairing_not_found', expected: 'a pairing that is neither over nor too old' },
  no_seat: { code: 'pairing_not_yours', expected: 'the key of a seat, as Authorization: Bearer KEY' },
  ended: { code: 'pairing_ended', expected: 'a new pairing: the other device ended this one' },
  failed: { code: 'pairing_failed', expected: 'a new pairing: this one failed and is destroyed' },
  evicted: { code: 'pairing_evicted', expected: 'a new pairing: the server had no place left and ended this one' },
} as const satisfies Record<Absence, { code: HttpErrorCode; expected: string }>

export function createPairingRoute({ pairings, polls, addressOf, takeTurn }: PairingRouteParts): PairingRoute {
  const inTurn = <T>(request: IncomingMessage, work: () => Promise<T>): Promise<T> => takeTurn(addressOf(request), work)

  const refuseAbsence = (response: ServerResponse, absence: Absence): void => {
    const { code, expected } = ABSENCES[absence]
    refuse(response, code, expected)
  }

  const open = async (request: IncomingMessage, response: ServerResponse, seat: Seat) => {
    const opener = { type: 'address' as const, address: addressOf(request) }
    const opened = await inTurn(request, () => pairings.open(opener, seat))
    switch (opened.type) {
      case 'opened':
        return answer(response, 201, { nameplate: opened.nameplate, lifetime_ms: opened.lifetimeMs })
      case 'taken':
        return refuse(response, 'pairing_taken', 'a new random id')
      case 'limited':
        return refuseLimited(response, opened.retryAfterMs)
    }
  }

  const join = async (
    request: IncomingMessage,
    response: ServerResponse,
    target: Uint8Array | number,
    key: Uint8Array,
  ) => {
    const joined = await inTurn(request, () => pairings.join(target, key, addressOf(request)))
    switch (joined.type) {
      case 'joined':
        return answer(response, 200, { mailbox_id: toHex(joined.mailboxId), lifetime_ms: joined.lifetimeMs })
      case 'taken':
        return refuse(response, 'pairing_taken', 'a pairing that no other device has joined')
      case 'limited':
        return refuseLimited(response, joined.retryAfterMs)
      case 'not_found':
      case 'ended':
      case 'failed':
      case 'evicted':
        return refuseAbsence(response, joined.type)
    }
  }

  const post = async (request: IncomingMessage, response: ServerResponse, seat: Seat, slot: number) => {
    const body = await readBody(request, MAX_BODY_BYTES)
    if (body === 'gone') return
    // What else the peer sends of this request is not read.
    if (body === 'late' || body === 'too_long') response.setHeader('Connection', 'close')
    if (body === 'late') return refuse(response, 'pairing_message_late', `all of it within ${BODY_TIMEOUT_MS} ms`)
    if (body === 'too_long' || body.length === 0) {
      return refuse(response, 'pairing_message_size', `1 to ${MAX_BODY_BYTES} bytes`)
    }
    const posted = await inTurn(request, () => pairings.post(seat, slot, body))
    switch (posted.type) {
      case 'stored':
        return answer(response, 201, undefined)
      case 'slot_taken':
        return refuse(response, 'pairing_slot_taken', 'an empty slot')
      default:
        return refuseAbsence(response, posted.type)
    }
  }

  const read = async (request: IncomingMessage, response: ServerResponse, seat: Seat, slot: number, waitS: number) => {
    const found = await polls.until(request, waitS, async () => {
      const outcome = await inTurn(request, () => pairings.read(seat, slot))
      return outcome.type === 'empty' ? undefined : outcome
    })
    if (found === undefined) return refuse(response, 'pairing_slot_empty', 'a message from the other device')
    if (found.type === 'message') return answer(response, 200, found.body)
    if (found.type !== 'empty') refuseAbsence(response, found.type)
  }

  const end = async (request: IncomingMessage, response: ServerResponse, seat: Seat, reason: string | null) => {
    if (reason !== 'failed' && reason !== 'ended') {
      return refuse(response, 'invalid_reason', 'reason=failed or reason=ended')
    }
    const outcome = await inTurn(request, () => pairings.end(seat, reason))
    if (outcome === 'done') return answer(response, 204, undefined)
    refuseAbsence(response, outcome)
  }

  const route: PairingRoute = async (request, response, url) => {
    const { pathname } = url
    if (pathname === '/p' && request.method === 'GET') {
      response.setHeader('Cache-Control', 'no-store')
      response.setHeader('Content-Type', 'text/plain; charset=utf-8')
      response.end(PAGE)
      return true
    }
    const joinPath = JOIN_PATH.exec(pathname)
    const mailboxPath = MAILBOX_PATH.exec(pathname)
    if (joinPath === null && mailboxPath === null) return false
    const seatKey = seatKeyOf(request)
    if (seatKey === undefined) {
      refuseAbsence(response, 'no_seat')
      return true
    }
    if (joinPath !== null) {
      const target = joinPath[1] === undefined ? Number(joinPath[2]) : fromHex(joinPath[1])
      if (request.method !== 'POST' || target === undefined) refuse(response, 'method_not_allowed', 'POST')
      else await join(request, response, target, seatKey)
      return true
    }
    const mailboxId = fromHex(mailboxPath?.[1] ?? '')
    if (mailboxId === undefined) return false
    await routeMailbox(request, response, url, { mailboxId, seatKey }, mailboxPath?.[2])
    return true
  }

  const routeMailbox = async (
    request: IncomingMessage,
    response: ServerResponse,
    url: URL,
    seat: Seat,
    slotText: string | undefined,
  ): Promise<void> => {
    const { method } = request
    if (slotText === undefined) {
      if (method === 'PUT') return open(request, response, seat)
      if (method === 'DELETE') return end(request, response, seat, url.searchParams.get('reason'))
      return refuse(response, 'method_not_allowed', 'PUT or DELETE')
    }
    const slot = Number(slotText)
    if (method === 'PUT') return post(request, response, seat, slot)
    if (method !== 'GET') return refuse(response, 'method_not_allowed', 'GET or PUT')
    const waitS = parseWait(url)
    if (waitS === undefined) return refuse(response, 'invalid_wait', `wait_s from 0 to ${MAX_WAIT_S}`)
    return read(request, response, seat, slot, waitS)
  }

  return route
}

function seatKeyOf(request: IncomingMessage): Uint8Array | undefined {
  const [, text] = /^Bearer ([A-Za-z0-9_-]{22})$/.exec(request.headers.authorization ?? '') ?? []
  const key = text === undefined ? undefined : fromBase64Url(text)
  return key?.length === SEAT_KEY_BYTES ? key : undefined
}
