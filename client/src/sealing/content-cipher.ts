// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), the cipher of event contents and of the links between epochs.
// Key 32 bytes, nonce 24 bytes, the 16-byte tag at the end of the ciphertext.

import { chacha20poly1305, xchacha20poly1305 } from '@noble/ciphers/chacha.js'

const KEY_BYTES = 32
const TAG_BYTES = 16
const SUBKEY_NONCE_BYTES = 12
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

/** ChaCha20-Poly1305 (RFC 8439): what is left of the cipher once a nonce has made a subkey. Otherwise as above. */
export function openSubkeyBytes(
  subkey: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  ciphertext: Uint8Array,
): Uint8Array | undefined {
  if (subkey.length !== KEY_BYTES || nonce.length !== SUBKEY_NONCE_BYTES || ciphertext.length < TAG_BYTES)
    return undefined
  try {
    return chacha20poly1305(subkey, nonce, associatedData).decrypt(ciphertext)
  } catch {
    return undefined
  }
}
