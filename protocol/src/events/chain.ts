// The chain of a device's events (PROTOCOL E): one over all its streams, so that a signature over its newest link covers
// everything the device wrote before. An expired event leaves its 32-byte leaf, and the chain still closes.

import { concatBytes } from '../bytes.ts'
import type { Crypto, Signer } from '../crypto.ts'
import type { DeviceId, UserId } from '../ids.ts'
import { hashWithContext, signWithContext, verifyWithContext } from '../kdf.ts'

/** chain_0 = hash("chain-0", user_id | device_id): the chain_prev of a device's first event. */
export const chainStart = (crypto: Crypto, userId: UserId, deviceId: DeviceId): Uint8Array =>
  hashWithContext(crypto, 'chain-0', concatBytes(userId, deviceId))

/** hash("event", H | LP(ct)), of the event's bytes without their signature. */
export const leafHash = (crypto: Crypto, wireWithoutSignature: Uint8Array): Uint8Array =>
  hashWithContext(crypto, 'event', wireWithoutSignature)

/** hash("chain", chain_prev | leaf). */
export function nextChain(crypto: Crypto, prev: Uint8Array, leaf: Uint8Array): Uint8Array {
  const link = new Uint8Array(64)
  link.set(prev)
  link.set(leaf, 32)
  return hashWithContext(crypto, 'chain', link)
}

export const signChain = (signer: Signer, chain: Uint8Array): Promise<Uint8Array> =>
  signWithContext(signer, 'event', chain)

/** A receiver that applies a batch verifies the last signature of each device in it: it covers those before. */
export const verifyChainSignature = (
  crypto: Crypto,
  edPub: Uint8Array,
  chain: Uint8Array,
  signature: Uint8Array,
): boolean => verifyWithContext(crypto, edPub, 'event', chain, signature)
