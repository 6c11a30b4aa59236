// One entry of the device log as bytes (PROTOCOL C): the signed body, its signature, the proofs of possession, and the
// hashes made of it. Only the outer layout is parsed here: the payload is read after the signature holds.

import { createByteReader, createByteWriter } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import { type DeviceId, noUserId, toDeviceId, toUserId, type UserId } from '../ids.ts'
import { hashWithContext } from '../kdf.ts'
import { MAX_DEVICE_LOG_ENTRY_BYTES } from '../limits.ts'

const BODY_VERSION = 1
const SIGNATURE_BYTES = 64

/** What stands in every body, whatever the operation. */
export interface EntryHeader {
  /** Zero in genesis, whose hash makes the user id. */
  readonly userId: UserId
  /** 0 in genesis, then 1, 2, 3 … */
  readonly seq: number
  /** The hash of the entry before; zero in genesis. */
  readonly prev: Uint8Array
  /** Unix milliseconds by the signer's clock; no rule hangs on it. */
  readonly timeMs: number
  readonly signer: DeviceId
  readonly opCode: number
}

export interface SignedEntry {
  readonly header: EntryHeader
  readonly payload: Uint8Array
  /** The bytes the signature covers. */
  readonly body: Uint8Array
  readonly signature: Uint8Array
  /** One signature, or empty. */
  readonly proof: Uint8Array
}

export function encodeEntryBody(header: EntryHeader, payload: Uint8Array): Uint8Array {
  return createByteWriter()
    .u8(BODY_VERSION)
    .bytes(header.userId)
    .u64(header.seq)
    .bytes(header.prev)
    .u64(header.timeMs)
    .bytes(header.signer)
    .u8(header.opCode)
    .prefixed(payload)
    .finish()
}

export function encodeEntry(body: Uint8Array, signature: Uint8Array, proof: Uint8Array): Uint8Array {
  return createByteWriter().prefixed(body).bytes(signature).prefixed(proof).finish()
}

/** Strict: `undefined` for an unknown version, a wrong length anywhere, or more than `MAX_DEVICE_LOG_ENTRY_BYTES`. */
export function parseSignedEntry(entry: Uint8Array): SignedEntry | undefined {
  if (entry.length > MAX_DEVICE_LOG_ENTRY_BYTES) return undefined
  const outer = createByteReader(entry)
  const body = outer.prefixed(MAX_DEVICE_LOG_ENTRY_BYTES)
  const signature = outer.bytes(SIGNATURE_BYTES)
  const proof = outer.prefixed(SIGNATURE_BYTES)
  if (!outer.finish() || (proof.length !== 0 && proof.length !== SIGNATURE_BYTES)) return undefined

  const inner = createByteReader(body)
  const version = inner.u8()
  const userId = toUserId(inner.bytes(32)) ?? noUserId()
  const seq = inner.u64()
  const prev = inner.bytes(32)
  const timeMs = inner.u64()
  const signer = toDeviceId(inner.bytes(16))
  const opCode = inner.u8()
  const payload = inner.prefixed(MAX_DEVICE_LOG_ENTRY_BYTES)
  if (!inner.finish() || version !== BODY_VERSION || signer === undefined) return undefined
  return { header: { userId, seq, prev, timeMs, signer, opCode }, payload, body, signature, proof }
}

/** hash("log-entry", entry): the head of the log after this entry, and `prev` of the next. */
export const entryHash = (crypto: Crypto, entry: Uint8Array): Uint8Array => hashWithContext(crypto, 'log-entry', entry)

/** hash("user-id", genesis entry). */
export const userIdOf = (crypto: Crypto, genesisEntry: Uint8Array): UserId =>
  toUserId(hashWithContext(crypto, 'user-id', genesisEntry)) ?? noUserId()

/** hash("box", box), of the box sealed to a device and of the link between epochs alike. */
export const boxHash = (crypto: Crypto, box: Uint8Array): Uint8Array => hashWithContext(crypto, 'box', box)
