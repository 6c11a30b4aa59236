// A pairing's mailbox at the server, as a device uses it: every request may be repeated, so a lost answer, a restart of
// the server and a limit of its own are waited out, until the signal says that there is no more time.

import { decodeUtf8, fromHex, toBase64Url, toHex } from '@valise/protocol'
import { z } from 'zod'
import { SetupError } from '../account/setup-error.ts'
import type { Clock } from '../clock.ts'
import type { Http, HttpRequest, HttpResponse } from '../http.ts'
import { pause } from '../pause.ts'
import { boundWait, DEFAULT_WAIT_MS } from '../server-times.ts'
import type { PairingFailure } from './ceremony-state.ts'
import { MAILBOX_ID_BYTES, MAX_NAMEPLATE, MIN_NAMEPLATE } from './offer.ts'

/** The mailbox is closed to this device. */
export interface MailboxClosed {
  readonly type: 'closed'
  readonly failure: PairingFailure
}

export interface PairingMailbox {
  post(slot: number, body: Uint8Array): Promise<{ readonly type: 'stored' } | MailboxClosed>
  /** Waits until the other device has written. */
  take(slot: number): Promise<{ readonly type: 'message'; readonly body: Uint8Array } | MailboxClosed>
  /** One attempt; never rejects: what nobody ends ends by itself. */
  end(reason: 'failed' | 'ended'): Promise<void>
}

export interface PairingHttpParts {
  readonly http: Http
  readonly clock: Clock
  readonly httpUrl: string
  readonly seatKey: Uint8Array
  readonly signal: AbortSignal
}

const WAIT_S = 20
/** Between requests that the server answers with nothing, or not at all. */
const PAUSE_MS = 1000
/** Failures in a row before the server counts as unreachable; the pairing is kept and can go on. */
const MAX_FAILURES = 20
const MAX_LIMIT_PAUSE_MS = 10_000

const refusal = z.object({ code: z.string(), retry_after_ms: z.number().optional() })
const openedAnswer = z.object({
  nameplate: z.int().min(MIN_NAMEPLATE).max(MAX_NAMEPLATE),
  lifetime_ms: z.number().min(0).transform(boundWait),
})
const joinedAnswer = z.object({
  mailbox_id: z.string().transform((text, context) => {
    const id = fromHex(text)
    if (id?.length === MAILBOX_ID_BYTES) return id
    context.addIssue({ code: 'custom', message: 'expected 16 bytes' })
    return z.NEVER
  }),
  lifetime_ms: z.number().min(0).transform(boundWait),
})

const CLOSED_BY_CODE: ReadonlyMap<string, PairingFailure> = new Map([
  ['pairing_not_found', 'expired'],
  ['pairing_not_yours', 'other_ended'],
  ['pairing_ended', 'other_ended'],
  ['pairing_failed', 'other_failed'],
  ['pairing_evicted', 'evicted'],
  // Somebody else wrote where only this device may.
  ['pairing_slot_taken', 'message_altered'],
])

const refused = (text: string): SetupError => new SetupError('pairing_refused', text)

/** Opens a mailbox without a session. Rejects with a `SetupError`. */
export async function openPairingMailbox(parts: PairingHttpParts, mailboxId: Uint8Array) {
  const response = await persist(
    parts,
    { method: 'PUT', url: `${parts.httpUrl}/v1/pairings/${toHex(mailboxId)}` },
    'told',
  )
  const opened = response.status === 201 ? openedAnswer.safeParse(readJson(response.body)).data : undefined
  if (opened === undefined) throw refused(`The server opens no pairing (HTTP ${response.status}).`)
  return { nameplate: opened.nameplate, lifetimeMs: opened.lifetime_ms }
}

/** Takes the joiner's seat. Rejects with a `SetupError`. */
export async function joinPairingMailbox(parts: PairingHttpParts, target: Uint8Array | number) {
  const place = typeof target === 'number' ? String(target) : toHex(target)
  const response = await persist(parts, { method: 'POST', url: `${parts.httpUrl}/v1/pairings/${place}/join` }, 'told')
  const joined = response.status === 200 ? joinedAnswer.safeParse(readJson(response.body)).data : undefined
  if (joined !== undefined) return { mailboxId: joined.mailbox_id, lifetimeMs: joined.lifetime_ms }
  const why = REFUSALS.get(codeOf(response) ?? '')
  if (why === undefined) throw refused(`The server lets nobody join this pairing (HTTP ${response.status}).`)
  throw refused(`${why} Read the code that the other device shows now, and type that one.`)
}

/** Why nobody can join. The device that shows the code shows a new one by itself, or is asked for one. */
const REFUSALS: ReadonlyMap<string, string> = new Map([
  ['pairing_not_found', 'No pairing waits under this code: it was mistyped, is too old, or was replaced by a new one.'],
  ['pairing_taken', 'Another device has joined with this code already. If it is not yours, somebody guessed the code.'],
  ['pairing_failed', 'This code is used up: a device joined with it and did not know all of its digits.'],
  ['pairing_ended', 'This code is not good any more: the device that showed it has ended the pairing.'],
  ['pairing_evicted', 'This code is not good any more: the server had no place left and ended the pairing.'],
])

export function createPairingMailbox(parts: PairingHttpParts, mailboxId: Uint8Array): PairingMailbox {
  const url = `${parts.httpUrl}/v1/pairings/${toHex(mailboxId)}`
  const closedBy = (response: HttpResponse): MailboxClosed => ({
    type: 'closed',
    failure: CLOSED_BY_CODE.get(codeOf(response) ?? '') ?? 'other_ended',
  })
  return {
    post: async (slot, body) => {
      const response = await persist(parts, { method: 'PUT', url: `${url}/${slot}`, body }, 'waited_out')
      return response.status === 201 ? { type: 'stored' } : closedBy(response)
    },
    take: async (slot) => {
      for (;;) {
        const response = await persist(parts, { method: 'GET', url: `${url}/${slot}?wait_s=${WAIT_S}` }, 'waited_out')
        if (response.status === 200) return { type: 'message', body: response.body }
        if (codeOf(response) !== 'pairing_slot_empty') return closedBy(response)
        await pause(parts.clock, parts.signal, PAUSE_MS)
      }
    },
    end: async (reason) => {
      const { http, signal: _, ...rest } = parts
      await http(toRequest(rest, { method: 'DELETE', url: `${url}?reason=${reason}` })).catch(() => {})
    },
  }
}

const toRequest = ({ seatKey }: Pick<PairingHttpParts, 'seatKey'>, request: HttpRequest): HttpRequest => ({
  ...request,
  authorization: `Bearer ${toBase64Url(seatKey)}`,
})

/** The answer, after as many tries as it takes within bounds. */
async function persist(
  parts: PairingHttpParts,
  request: HttpRequest,
  limit: 'told' | 'waited_out',
): Promise<HttpResponse> {
  for (let failures = 1; ; failures++) {
    let cause: unknown
    try {
      const response = await parts.http({ ...toRequest(parts, request), signal: parts.signal })
      if (response.status < 500 && response.status !== 429) return response
      if (response.status === 429) {
        if (limit === 'told') throw pairingLimited(retryAfterMs(response))
        // Only how often it is asked is limited, not what for; and a server that says so is there.
        failures = 0
        await pause(parts.clock, parts.signal, Math.min(retryAfterMs(response), MAX_LIMIT_PAUSE_MS))
        continue
      }
    } catch (error) {
      if (parts.signal.aborted) throw parts.signal.reason
      if (error instanceof SetupError) throw error
      cause = error
    }
    if (failures >= MAX_FAILURES) {
      throw new SetupError('server_unreachable', 'The server cannot be reached.', { cause })
    }
    await pause(parts.clock, parts.signal, PAUSE_MS)
  }
}

/** A pairing is not worth waiting for a limit: a person is told when to come again. */
export function pairingLimited(retryAfterMs: number): SetupError {
  const minutes = Math.ceil(retryAfterMs / 60_000)
  return new SetupError(
    'pairing_limited',
    `Too many pairings, or too many tries; the server takes the next one in ${minutes} ${minutes === 1 ? 'minute' : 'minutes'}.`,
  )
}

const retryAfterMs = ({ body }: HttpResponse): number =>
  boundWait(refusal.safeParse(readJson(body)).data?.retry_after_ms ?? DEFAULT_WAIT_MS)

const codeOf = ({ body }: HttpResponse): string | undefined => refusal.safeParse(readJson(body)).data?.code

function readJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(decodeUtf8(body) ?? '')
  } catch {
    return undefined
  }
}
