// A mailbox at the server through which two devices exchange sealed messages, one a slot. Each slot has a key of its own,
// used for one message, so its nonce is fixed. The server can read nothing and can only withhold.

import { type Crypto, createByteWriter, encodeUtf8, kdf, toHex } from '@valise/protocol'
import { SetupError } from '../account/setup-error.ts'
import type { Http, HttpResponse } from '../http.ts'
import type { LinkRequest } from './request.ts'

/** Even slots are written by the new device, odd ones by the existing one. */
export type Slot = 0 | 1 | 2 | 3

export interface Mailbox {
  /** Rejects with a `SetupError`. */
  post(slot: Slot, message: Uint8Array): Promise<void>
  /** Waits until the other device has written, the deadline passes or the signal aborts. */
  take(slot: Slot): Promise<Uint8Array>
}

export interface MailboxParts {
  readonly crypto: Crypto
  readonly http: Http
  readonly httpUrl: string
  readonly request: LinkRequest
  readonly signal: AbortSignal
}

const NONCE = new Uint8Array(12)
const WAIT_S = 20
/** Tries in a row that fail before the server counts as unreachable. */
const MAX_FAILURES = 5

export function createMailbox({ crypto, http, httpUrl, request, signal }: MailboxParts): Mailbox {
  const { mailboxId, secret } = request
  const urlOf = (slot: Slot): string => `${httpUrl}/v1/mailboxes/${toHex(mailboxId)}/${slot}`
  const contextOf = (slot: Slot): Uint8Array => createByteWriter().bytes(mailboxId).u8(slot).finish()
  const aeadOf = (slot: Slot) => {
    const label = slot % 2 === 0 ? 'link n2e' : 'link e2n'
    return crypto.createAead(kdf(crypto, secret, label, contextOf(slot)))
  }
  const associatedData = (slot: Slot): Uint8Array =>
    createByteWriter().bytes(encodeUtf8('valise link\0')).bytes(contextOf(slot)).finish()

  const ask = async (send: () => Promise<HttpResponse>): Promise<HttpResponse> => {
    for (let failures = 1; ; failures++) {
      try {
        return await send()
      } catch (error) {
        if (signal.aborted) throw toAborted(signal)
        if (failures >= MAX_FAILURES) {
          throw new SetupError('server_unreachable', 'The server cannot be reached.', { cause: error })
        }
      }
    }
  }

  return {
    post: async (slot, message) => {
      const body = aeadOf(slot).seal(NONCE, associatedData(slot), message)
      const { status } = await ask(() => http({ method: 'PUT', url: urlOf(slot), body, signal }))
      if (status === 201) return
      if (status === 409) throw new SetupError('link_failed', 'Another device has answered this request already.')
      if (status === 429) throw new SetupError('link_failed', 'The server has too many open requests; try again later.')
      throw new SetupError('link_failed', `The server did not take a message of the linking (HTTP ${status}).`)
    },
    take: async (slot) => {
      for (;;) {
        const url = `${urlOf(slot)}?wait_s=${WAIT_S}`
        const { status, body } = await ask(() => http({ method: 'GET', url, signal }))
        if (status === 200) {
          const message = aeadOf(slot).open(NONCE, associatedData(slot), body)
          if (message !== undefined) return message
          throw new SetupError('link_failed', 'A message of the linking was changed on its way; start again.')
        }
        if (status !== 404) throw new SetupError('link_failed', `The server broke off the linking (HTTP ${status}).`)
        if (signal.aborted) throw toAborted(signal)
      }
    },
  }
}

const toAborted = (signal: AbortSignal): SetupError =>
  signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
    ? new SetupError('link_timeout', 'The other device did not answer in time; start again.')
    : new SetupError('aborted', 'Given up.')
