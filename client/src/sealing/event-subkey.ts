// The key of one event alone: XChaCha20-Poly1305 is ChaCha20-Poly1305 under HChaCha20(K, nonce[0..16]) with the rest of the
// nonce (draft-irtf-cfrg-xchacha-03 §2.3). It opens the event it belongs to and no other, so it can be handed out with it.

import { hchacha } from '@noble/ciphers/chacha.js'
import { encodeUtf8, type ParsedEvent } from '@valise/protocol'
import { openSubkeyBytes } from './content-cipher.ts'
import { unpad } from './padding.ts'

/** "expand 32-byte k", as little-endian words. */
const SIGMA = encodeUtf8('expand 32-byte k')
const SUBKEY_NONCE_BYTES = 16

const toWords = (bytes: Uint8Array): Uint32Array => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Uint32Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i, true))
}

export function eventSubkey(contentKey: Uint8Array, event: ParsedEvent): Uint8Array {
  const words = new Uint32Array(8)
  hchacha(toWords(SIGMA), toWords(contentKey), toWords(event.nonce.subarray(0, SUBKEY_NONCE_BYTES)), words)
  const subkey = new Uint8Array(32)
  const view = new DataView(subkey.buffer)
  words.forEach((word, i) => {
    view.setUint32(4 * i, word, true)
  })
  return subkey
}

/** As `openEvent` does with the key of the epoch; never throws. */
export function openEventWithSubkey(subkey: Uint8Array, event: ParsedEvent): Uint8Array | undefined {
  const nonce = new Uint8Array(12)
  nonce.set(event.nonce.subarray(SUBKEY_NONCE_BYTES), 4)
  const padded = openSubkeyBytes(subkey, nonce, event.headerBytes, event.ciphertext)
  const data = padded === undefined ? undefined : unpad(padded)
  return data !== undefined && event.isTombstone === (data.length === 0) ? data : undefined
}
