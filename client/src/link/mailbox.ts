// A mailbox at the server through which two devices exchange sealed messages, one a slot. Each slot has a key of its own,
// used for one message, so its nonce is fixed. The server can read nothing and can only withhold. A
// restart of it is waited out.

import { type Crypto, createByteWriter, encodeUtf8, equalBytes, kdf, toHex } from '@valise/protocol'
import { SetupError } from '../account/setup-error.ts'
import type { Clock } from '../clock.ts'
import type { Http, HttpRequest, HttpResponse } from '../http.ts'
import { pause } from '../pause.ts'
import type { LinkRequest } from './request.ts'

/** Even slots are written by the new device, odd ones by the existing one. */
export type Slot = 0 | 1 | 2 | 3

export interface Mailbox {
  /** Rejects with a `SetupError`. */
  post(slot: Slot, message: Uint8Array): Promise<void>
  /**
   * Waits until the other device has written, the deadline passes or the signal aborts. `onSilence` is told once when
   * nothing has come for some seconds.
   */
  take(slot: Slot, onSilence?: () => void): Promise<Uint8Array>
}

export interface MailboxParts {
  readonly crypto: Crypto
  readonly http: Http
  readonly clock: Clock
  readonly httpUrl: string
  readonly request: LinkRequest
  readonly signal: AbortSignal
}

const NONCE = new Uint8Array(12)
const WAIT_S = 20
/** More than a device that is there needs for its next message. */
const SILENCE_S = 5
/** Between requests that the server answers with nothing, or not at all. */
const PAUSE_MS = 1000
/** Failures in a row, so about a minute, before the server counts as unreachable. */
const MAX_FAILURES = 60

export function createMailbox({ crypto, http, clock, httpUrl, request, signal }: MailboxParts): Mailbox {
  const { mailboxId, secret } = request
  const urlOf = (slot: Slot): string => `${httpUrl}/v1/mailboxes/${toHex(mailboxId)}/${slot}`
  const contextOf = (slot: Slot): Uint8Array => createByteWriter().bytes(mailboxId).u8(slot).finish()
  const aeadOf = (slot: Slot) => {
    const label = slot % 2 === 0 ? 'link n2e' : 'link e2n'
    return crypto.createAead(kdf(crypto, secret, label, contextOf(slot)))
  }
  const associatedData = (slot: Slot): Uint8Array =>
    createByteWriter().bytes(encodeUtf8('valise link\0')).bytes(contextOf(slot)).finish()

  const rest = (): Promise<void> =>
    pause(clock, signal, PAUSE_MS).catch(() => {
      throw toAborted(signal)
    })

  /** The answer, after as many tries as it takes within bounds, and how many tries came to nothing. */
  const ask = async (sent: Omit<HttpRequest, 'signal'>): Promise<HttpResponse & { readonly failures: number }> => {
    for (let failures = 0; ; failures++) {
      let cause: unknown
      try {
        const response = await http({ ...sent, signal })
        const isTooOften = response.status === 429 && sent.method === 'GET'
        if (response.status < 500 && !isTooOften) return { ...response, failures }
      } catch (error) {
        if (signal.aborted) throw toAborted(signal)
        cause = error
      }
      if (failures + 1 >= MAX_FAILURES) {
        throw new SetupError('server_unreachable', 'The server cannot be reached.', { cause })
      }
      await rest()
    }
  }

  return {
    post: async (slot, message) => {
      const body = aeadOf(slot).seal(NONCE, associatedData(slot), message)
      const { status, failures } = await ask({ method: 'PUT', url: urlOf(slot), body })
      if (status === 201) return
      // The server may have stored it, and its answer was lost.
      if (status === 409 && failures > 0) {
        const stored = await ask({ method: 'GET', url: urlOf(slot) })
        if (stored.status === 200 && equalBytes(stored.body, body)) return
      }
      if (status === 409) throw new SetupError('link_failed', 'Another device has answered this request already.')
      if (status === 429) throw new SetupError('link_failed', 'The server has too many open requests; try again later.')
      throw new SetupError('link_failed', `The server did not take a message of the linking (HTTP ${status}).`)
    },
    take: async (slot, onSilence) => {
      for (let waitS = onSilence === undefined ? WAIT_S : SILENCE_S; ; waitS = WAIT_S) {
        const { status, body } = await ask({ method: 'GET', url: `${urlOf(slot)}?wait_s=${waitS}` })
        if (status === 200) {
          const message = aeadOf(slot).open(NONCE, associatedData(slot), body)
          if (message !== undefined) return message
          throw new SetupError('link_failed', 'A message of the linking was changed on its way; start again.')
        }
        if (status !== 404) throw new SetupError('link_failed', `The server broke off the linking (HTTP ${status}).`)
        if (waitS === SILENCE_S) onSilence?.()
        else await rest()
      }
    },
  }
}

const toAborted = (signal: AbortSignal): SetupError =>
  signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
    ? new SetupError('link_timeout', 'The other device did not answer in time; start again.')
    : new SetupError('aborted', 'Given up.')
