// The chain of a device's events (PROTOCOL E): one over all its streams. A link covers an event's bytes with their signature,
// so nobody can exchange a signature unnoticed, and a signature covers the chain before it, so the newest one proves all
// that the device wrote before. An event whose bytes are gone leaves its lifetime, flags and inner hash: the chain closes.

import { concatBytes, createByteWriter } from '../bytes.ts'
import type { Crypto, Signer } from '../crypto.ts'
import type { DeviceId, UserId } from '../ids.ts'
import { hashWithContext, signWithContext, verifyWithContext } from '../kdf.ts'
import type { ParsedEvent } from './event.ts'

/** chain_0 = hash("chain-0", user_id | device_id): the chain_prev of a device's first event. */
export const chainStart = (crypto: Crypto, userId: UserId, deviceId: DeviceId): Uint8Array =>
  hashWithContext(crypto, 'chain-0', concatBytes(userId, deviceId))

/** What the chain covers of an event. It stays when the bytes go, and says what they may be missing for. */
export interface EventLeaf {
  readonly ttlS: number
  /** The byte of flags. */
  readonly flags: number
  /** hash("event-inner", hash("event-body", H | LP(ct)) | signature). */
  readonly inner: Uint8Array
}

/** hash("event-body", H | LP(ct)): what the device signs. H names device_seq and chain_prev, so it proves one position. */
export const bodyHash = (crypto: Crypto, signedBytes: Uint8Array): Uint8Array =>
  hashWithContext(crypto, 'event-body', signedBytes)

export const innerHash = (crypto: Crypto, body: Uint8Array, signature: Uint8Array): Uint8Array =>
  hashWithContext(crypto, 'event-inner', concatBytes(body, signature))

/** hash("event", u32 ttl_s | u8 flags | inner). */
export const leafHash = (crypto: Crypto, { ttlS, flags, inner }: EventLeaf): Uint8Array =>
  hashWithContext(crypto, 'event', createByteWriter().u32(ttlS).u8(flags).bytes(inner).finish())

/** The leaf of an event whose bytes are there. */
export const leafOf = (
  crypto: Crypto,
  { ttlS, flags, signedBytes, signature }: Pick<ParsedEvent, 'ttlS' | 'flags' | 'signedBytes' | 'signature'>,
): EventLeaf => ({ ttlS, flags, inner: innerHash(crypto, bodyHash(crypto, signedBytes), signature) })

/** hash("chain", chain_prev | leaf). */
export function nextChain(crypto: Crypto, prev: Uint8Array, leaf: Uint8Array): Uint8Array {
  const link = new Uint8Array(64)
  link.set(prev)
  link.set(leaf, 32)
  return hashWithContext(crypto, 'chain', link)
}

/** The chain after an event that continues `prev`. */
export const chainAfter = (crypto: Crypto, prev: Uint8Array, leaf: EventLeaf): Uint8Array =>
  nextChain(crypto, prev, leafHash(crypto, leaf))

export const signEventBody = (signer: Signer, body: Uint8Array): Promise<Uint8Array> =>
  signWithContext(signer, 'event', body)

/** It proves this event at its place, and all that its device wrote before. */
export const verifyEventSignature = (
  crypto: Crypto,
  edPub: Uint8Array,
  { signedBytes, signature }: Pick<ParsedEvent, 'signedBytes' | 'signature'>,
): boolean => verifyWithContext(crypto, edPub, 'event', bodyHash(crypto, signedBytes), signature)
