// The text that a new device shows and a person carries to an existing one: where they meet, the secret they share, and
// the server they must both mean.

import { equalBytes, fromBase64Url, type ServerKeyPin, toBase64Url } from '@valise/protocol'

export const LINK_REQUEST_PREFIX = 'valise-link-1.'
const MAILBOX_ID_BYTES = 16
const SECRET_BYTES = 32
const SHORT_FINGERPRINT_BYTES = 16

export interface LinkRequest {
  readonly mailboxId: Uint8Array
  /** Shared by the two devices alone: whoever sees the text can take part. */
  readonly secret: Uint8Array
  /** The first half of the server's fingerprint. */
  readonly shortFingerprint: Uint8Array
}

export function createLinkRequest(
  random: { randomBytes(length: number): Uint8Array },
  serverFingerprint: Uint8Array,
): LinkRequest {
  return {
    mailboxId: random.randomBytes(MAILBOX_ID_BYTES),
    secret: random.randomBytes(SECRET_BYTES),
    shortFingerprint: serverFingerprint.slice(0, SHORT_FINGERPRINT_BYTES),
  }
}

export function formatLinkRequest({ mailboxId, secret, shortFingerprint }: LinkRequest): string {
  const bytes = new Uint8Array(MAILBOX_ID_BYTES + SECRET_BYTES + SHORT_FINGERPRINT_BYTES)
  bytes.set(mailboxId)
  bytes.set(secret, MAILBOX_ID_BYTES)
  bytes.set(shortFingerprint, MAILBOX_ID_BYTES + SECRET_BYTES)
  return LINK_REQUEST_PREFIX + toBase64Url(bytes)
}

/** `undefined` for anything else; forgives spaces around it. */
export function parseLinkRequest(text: string): LinkRequest | undefined {
  const trimmed = text.trim()
  const bytes = trimmed.startsWith(LINK_REQUEST_PREFIX)
    ? fromBase64Url(trimmed.slice(LINK_REQUEST_PREFIX.length))
    : undefined
  if (bytes?.length !== MAILBOX_ID_BYTES + SECRET_BYTES + SHORT_FINGERPRINT_BYTES) return undefined
  return {
    mailboxId: bytes.slice(0, MAILBOX_ID_BYTES),
    secret: bytes.slice(MAILBOX_ID_BYTES, MAILBOX_ID_BYTES + SECRET_BYTES),
    shortFingerprint: bytes.slice(MAILBOX_ID_BYTES + SECRET_BYTES),
  }
}

/** What the request was made for, among the keys that this device trusts or has trusted; the newest first. */
export const pinOfRequest = <Pin extends ServerKeyPin>(request: LinkRequest, pins: readonly Pin[]): Pin | undefined =>
  pins.find(({ fingerprint }) => equalBytes(request.shortFingerprint, fingerprint.subarray(0, SHORT_FINGERPRINT_BYTES)))
