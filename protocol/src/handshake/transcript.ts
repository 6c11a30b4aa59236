// Everything both sides said in a handshake, each part with its length, in the order of docs/PROTOCOL.md A.
// th(x) is the hash after the part x was appended.

import { concatBytes, encodeUtf8, prefixBytes } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'

export interface Transcript {
  append(part: Uint8Array): void
  /** SHA-256 of all that was appended so far. */
  hash(): Uint8Array
}

export function createTranscript(crypto: Crypto): Transcript {
  let bytes = encodeUtf8('valise handshake\0')
  return {
    append: (part) => {
      bytes = concatBytes(bytes, prefixBytes(part))
    },
    hash: () => crypto.sha256(bytes),
  }
}
