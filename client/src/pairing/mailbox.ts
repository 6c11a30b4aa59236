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
import { MAILBOX_ID_BYTES } from './offer.ts'

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
  nameplate: z.int().min(1).max(999_999),
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
  switch (codeOf(response)) {
    case 'pairing_not_found':
      throw refused('No pairing waits under this code: it was mistyped, has been shown for too long, or is over.')
    case 'pairing_taken':
      throw refused(
        'Another device has joined this pairing already. Begin a new one on the device that shows the code.',
      )
    case 'pairing_failed':
      throw refused(
        'This pairing has failed before and is destroyed. Begin a new one on the device that shows the code.',
      )
    case 'pairing_ended':
      throw refused('This pairing is over. Begin a new one on the device that shows the code.')
    default:
      throw refused(`The server lets nobody join this pairing (HTTP ${response.status}).`)
  }
}

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
