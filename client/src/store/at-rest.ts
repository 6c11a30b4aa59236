// Seals what must not lie open on a disk: plaintext that waits to be sent, private keys, epoch secrets.
// XChaCha20-Poly1305 with a random nonce; the record's key in the store is authenticated, so records cannot be swapped.

import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { concatBytes, encodeUtf8 } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'

export const STORAGE_KEY_BYTES = 32
const NONCE_BYTES = 24

export interface AtRestSealer {
  seal(key: string, plaintext: Uint8Array): Uint8Array
  /** Throws the alarm `store_damaged` when the record is not what was sealed under this key. */
  open(key: string, sealed: Uint8Array): Uint8Array
}

export function createAtRestSealer(
  storageKey: Uint8Array,
  random: { randomBytes(length: number): Uint8Array },
): AtRestSealer {
  if (storageKey.length !== STORAGE_KEY_BYTES) throw new RangeError('a storage key has 32 bytes')
  return {
    seal: (key, plaintext) => {
      const nonce = random.randomBytes(NONCE_BYTES)
      return concatBytes(nonce, xchacha20poly1305(storageKey, nonce, encodeUtf8(key)).encrypt(plaintext))
    },
    open: (key, sealed) => {
      try {
        const nonce = sealed.subarray(0, NONCE_BYTES)
        return xchacha20poly1305(storageKey, nonce, encodeUtf8(key)).decrypt(sealed.subarray(NONCE_BYTES))
      } catch (error) {
        throw new AlarmError('store_damaged', { record: key }, { cause: error })
      }
    },
  }
}
