// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), the cipher of event contents and of the links between epochs.
// Key 32 bytes, nonce 24 bytes, the 16-byte tag at the end of the ciphertext.

import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'

const KEY_BYTES = 32
const TAG_BYTES = 16
export const CONTENT_NONCE_BYTES = 24

export const sealContentBytes = (
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array => xchacha20poly1305(key, nonce, associatedData).encrypt(plaintext)

/** `undefined` when the tag does not match or a length is not that of the cipher; never throws. */
export function openContentBytes(
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  ciphertext: Uint8Array,
): Uint8Array | undefined {
  if (key.length !== KEY_BYTES || nonce.length !== CONTENT_NONCE_BYTES || ciphertext.length < TAG_BYTES)
    return undefined
  try {
    return xchacha20poly1305(key, nonce, associatedData).decrypt(ciphertext)
  } catch {
    return undefined
  }
}
