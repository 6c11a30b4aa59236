// The far side of the port to HTTP, as pairing uses it: mailboxes in memory with the rules of the real ones (PROTOCOL F),
// by a clock that the test moves. Tests see every request, and may answer it in the server's place.

import { equalBytes, fromHex } from '@valise/protocol'
import type { Clock } from '../../src/clock.ts'
import type { Http, HttpRequest, HttpResponse } from '../../src/http.ts'
import { createPulse } from '../../src/signal.ts'

const LIFETIME_MS = 600_000

interface Mailbox {
  readonly id: string
  readonly nameplate: number
  readonly displayer: string
  readonly expiresAtMs: number
  readonly slots: Map<number, Uint8Array>
  joiner: string | undefined
  ending: 'failed' | 'ended' | undefined
}

export interface PairingServer {
  readonly http: Http
  /** `METHOD path`, as they came. */
  readonly requests: readonly string[]
  /** By their hexadecimal id. */
  readonly mailboxes: ReadonlyMap<string, Mailbox>
  /** The only one. */
  mailbox(): Mailbox
  /** Answers in the server's place; throws what the client's HTTP does. `undefined` lets the request through. */
  intercept: (request: HttpRequest) => HttpResponse | undefined
}

export const answerOf = (status: number, body: unknown = ''): HttpResponse => ({
  status,
  body: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
})
export const refusal = (status: number, code: string): HttpResponse => answerOf(status, { code })

export function createPairingServer(clock: Clock): PairingServer {
  const mailboxes = new Map<string, Mailbox>()
  const requests: string[] = []
  const changed = createPulse()

  const open = (id: string, key: string): HttpResponse => {
    const before = mailboxes.get(id)
    if (before !== undefined && before.displayer !== key) return refusal(409, 'pairing_taken')
    const mailbox = before ?? {
      id,
      nameplate: 100_000_001 + mailboxes.size,
      displayer: key,
      expiresAtMs: clock.now() + LIFETIME_MS,
      slots: new Map(),
      joiner: undefined,
      ending: undefined,
    }
    mailboxes.set(id, mailbox)
    return answerOf(201, { nameplate: mailbox.nameplate, lifetime_ms: mailbox.expiresAtMs - clock.now() })
  }

  const join = (mailbox: Mailbox, key: string): HttpResponse => {
    if (mailbox.ending !== undefined) return refusal(410, `pairing_${mailbox.ending}`)
    mailbox.joiner ??= key
    if (mailbox.joiner !== key) return refusal(409, 'pairing_taken')
    return answerOf(200, { mailbox_id: mailbox.id, lifetime_ms: mailbox.expiresAtMs - clock.now() })
  }

  const post = (mailbox: Mailbox, slot: number, body: Uint8Array): HttpResponse => {
    const stored = mailbox.slots.get(slot)
    if (stored !== undefined && !equalBytes(stored, body)) return refusal(409, 'pairing_slot_taken')
    mailbox.slots.set(slot, body.slice())
    changed.fire()
    return answerOf(201)
  }

  const end = (mailbox: Mailbox, url: string): HttpResponse => {
    mailbox.ending = url.endsWith('reason=failed') ? 'failed' : 'ended'
    mailbox.slots.clear()
    changed.fire()
    return answerOf(204)
  }

  /** The answer that is there now; undefined while a reader is to wait. */
  const route = (request: HttpRequest): HttpResponse | undefined => {
    const { method, url, authorization: key = '', body = new Uint8Array(0) } = request
    const [, place = '', rest] = /\/v1\/pairings\/([0-9a-f]+)(?:\/(\w+))?/.exec(url) ?? []
    if (method === 'PUT' && rest === undefined) return open(place, key)
    const byNumber = [...mailboxes.values()].find(({ nameplate }) => String(nameplate) === place)
    const mailbox = fromHex(place)?.length === 16 ? mailboxes.get(place) : byNumber
    if (mailbox === undefined || mailbox.expiresAtMs <= clock.now()) return refusal(404, 'pairing_not_found')
    if (rest === 'join') return join(mailbox, key)
    if (key !== mailbox.displayer && key !== mailbox.joiner) return refusal(403, 'pairing_not_yours')
    if (mailbox.ending !== undefined) return refusal(410, `pairing_${mailbox.ending}`)
    if (method === 'DELETE') return end(mailbox, url)
    if (method === 'PUT') return post(mailbox, Number(rest), body)
    const stored = mailbox.slots.get(Number(rest))
    return stored && { status: 200, body: stored }
  }

  const server: PairingServer = {
    http: async (request) => {
      requests.push(`${request.method} ${new URL(request.url).pathname}`)
      for (;;) {
        const answer = server.intercept(request) ?? route(request)
        if (answer !== undefined) return answer
        await changed.next(request.signal)
      }
    },
    requests,
    mailboxes,
    mailbox: () => {
      const [only, ...others] = mailboxes.values()
      if (only === undefined || others.length > 0) throw new Error(`${mailboxes.size} mailboxes`)
      return only
    },
    intercept: () => undefined,
  }
  return server
}
