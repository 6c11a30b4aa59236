// Everything both sides said in a handshake, each part with its length, in the order of docs/PROTOCOL.md A.
// th(x) is the hash after the part x was appended.

import { encodeUtf8 } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'

export interface Transcript {
  append(part: Uint8Array): void
  /** SHA-256 of all that was appended so far. */
  hash(): Uint8Array
}

const BEGINNING = encodeUtf8('valise handshake\0')
/** As many bytes as a handshake of suite 1 has, so that it moves once or not at all. */
const USUAL_BYTES = 1024

export function createTranscript(crypto: Crypto): Transcript {
  let bytes = new Uint8Array(USUAL_BYTES)
  let length = BEGINNING.length
  bytes.set(BEGINNING)

  const makeRoom = (end: number): void => {
    if (end <= bytes.length) return
    const larger = new Uint8Array(Math.max(end, 2 * bytes.length))
    larger.set(bytes)
    bytes = larger
  }

  return {
    append: (part) => {
      const end = length + 4 + part.length
      makeRoom(end)
      new DataView(bytes.buffer).setUint32(length, part.length)
      bytes.set(part, length + 4)
      length = end
    },
    hash: () => crypto.sha256(bytes.subarray(0, length)),
  }
}
