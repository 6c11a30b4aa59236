// The server's identity key: the fingerprint that clients pin, and the signed chain by which a pin follows
// when the server changes its key.

import { concatBytes, createByteWriter, equalBytes } from '../bytes.ts'
import type { Crypto, Signer } from '../crypto.ts'
import { signWithContext, verifyWithContext } from '../kdf.ts'
import { isAcceptableKey } from '../small-order.ts'

/** SHA-256 of the public key, 32 bytes. */
export function serverFingerprint(crypto: Crypto, publicKey: Uint8Array): Uint8Array {
  return crypto.sha256(publicKey)
}

/** One change of key, signed by the key that goes. */
export interface ServerKeyChange {
  readonly oldPublicKey: Uint8Array
  readonly newPublicKey: Uint8Array
  /** Unix milliseconds from which the new key counts. */
  readonly notBeforeMs: number
  readonly signature: Uint8Array
}

/** A chain this long would mean a change of key a day for a year: no client walks further. */
const MAX_KEY_CHANGES = 366

const signedPart = (newPublicKey: Uint8Array, notBeforeMs: number): Uint8Array =>
  concatBytes(newPublicKey, createByteWriter().u64(notBeforeMs).finish())

export async function signServerKeyChange(
  oldSigner: Signer,
  newPublicKey: Uint8Array,
  notBeforeMs: number,
): Promise<ServerKeyChange> {
  const signature = await signWithContext(oldSigner, 'server-key', signedPart(newPublicKey, notBeforeMs))
  return { oldPublicKey: oldSigner.publicKey, newPublicKey, notBeforeMs, signature }
}

function isValidChange(crypto: Crypto, change: ServerKeyChange): boolean {
  if (!Number.isSafeInteger(change.notBeforeMs) || change.notBeforeMs < 0) return false
  if (!isAcceptableKey(change.newPublicKey)) return false
  const message = signedPart(change.newPublicKey, change.notBeforeMs)
  return verifyWithContext(crypto, change.oldPublicKey, 'server-key', message, change.signature)
}

/**
 * The key that a client with this pin should trust at `nowMs`: it follows the changes from the pinned key, each signed
 * by the one before, up to the first that does not count yet. `undefined` when the pin is not in the chain, or any
 * link behind it is broken.
 */
export function verifyServerKeyChain(
  crypto: Crypto,
  pinnedFingerprint: Uint8Array,
  chain: readonly ServerKeyChange[],
  nowMs: number,
): Uint8Array | undefined {
  if (chain.length > MAX_KEY_CHANGES) return undefined
  const isPinned = (publicKey: Uint8Array): boolean =>
    equalBytes(serverFingerprint(crypto, publicKey), pinnedFingerprint)
  const start = chain.findIndex((change) => isPinned(change.oldPublicKey))
  const newest = chain.at(-1)?.newPublicKey
  if (start === -1) return newest !== undefined && isPinned(newest) ? newest : undefined
  let signedKey = chain[start]?.oldPublicKey
  let trustedKey = signedKey
  let isDue = true
  for (const change of chain.slice(start)) {
    if (signedKey === undefined || !equalBytes(change.oldPublicKey, signedKey)) return undefined
    if (!isValidChange(crypto, change)) return undefined
    signedKey = change.newPublicKey
    isDue &&= change.notBeforeMs <= nowMs
    if (isDue) trustedKey = signedKey
  }
  return trustedKey
}
