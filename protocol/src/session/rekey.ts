// A rotation of the session's keys in band: its two messages, and the secrets that follow from them. A new
// key agreement is mixed with the old master secret, so a passive reader who learns either has nothing.

import { concatBytes, createByteReader, createByteWriter, encodeUtf8, prefixBytes } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import {
  deriveRotatedMasterSecret,
  deriveTrafficSecrets,
  eraseSecrets,
  type TrafficSecrets,
} from '../handshake/key-schedule.ts'

const NONCE_BYTES = 32
const ROTATION_LABEL = encodeUtf8('valise rekey\0')

/** rekey_init and rekey_resp are of one form: key share, nonce, and an ML-KEM part that is empty in suite 1. */
export function encodeRekey(crypto: Crypto, keyShare: Uint8Array): Uint8Array {
  return createByteWriter().bytes(keyShare).bytes(crypto.randomBytes(NONCE_BYTES)).prefixed(new Uint8Array(0)).finish()
}

/** The key share, or `undefined` unless the message has exactly that form. */
export function parseRekey(bytes: Uint8Array): Uint8Array | undefined {
  const reader = createByteReader(bytes)
  const keyShare = reader.bytes(32)
  reader.bytes(NONCE_BYTES)
  reader.prefixed(0)
  return reader.finish() ? keyShare : undefined
}

/** What the next rotation starts from. */
export interface RotationBase {
  readonly masterSecret: Uint8Array
  readonly transcriptHash: Uint8Array
}

export interface RotatedSecrets extends TrafficSecrets {
  readonly base: RotationBase
}

/** Overwrites the old master secret and the shared secret. */
export function rotateSecrets(
  crypto: Crypto,
  base: RotationBase,
  init: Uint8Array,
  response: Uint8Array,
  sharedSecret: Uint8Array,
): RotatedSecrets {
  const transcriptHash = crypto.sha256(
    concatBytes(ROTATION_LABEL, base.transcriptHash, prefixBytes(init), prefixBytes(response)),
  )
  const masterSecret = deriveRotatedMasterSecret(crypto, base.masterSecret, sharedSecret)
  eraseSecrets(base.masterSecret, sharedSecret)
  return { base: { masterSecret, transcriptHash }, ...deriveTrafficSecrets(crypto, masterSecret, transcriptHash) }
}
