// The secret ES_n of a key epoch and what is derived from it (PROTOCOL D): its commitment, the key of its events, the ids
// of streams, and the links that open older epochs.

import {
  type Crypto,
  createByteWriter,
  encodeUtf8,
  kdf,
  noUserId,
  type StreamId,
  toStreamId,
  type UserId,
} from '@valise/protocol'
import { CONTENT_NONCE_BYTES, openContentBytes, sealContentBytes } from './content-cipher.ts'

export const EPOCH_SECRET_BYTES = 32

/** user_id | u32 n. */
const epochContext = (userId: UserId, n: number): Uint8Array => createByteWriter().bytes(userId).u32(n).finish()

export const createEpochSecret = (crypto: Crypto): Uint8Array => crypto.randomBytes(EPOCH_SECRET_BYTES)

/** Epoch 1 is committed to in genesis, whose hash makes the user id: there the user id is zero. */
export const epochCommit = (crypto: Crypto, userId: UserId, n: number, secret: Uint8Array): Uint8Array =>
  kdf(crypto, secret, 'epoch commit', epochContext(n === 1 ? noUserId() : userId, n))

/** K_evt(n). */
export const eventKey = (crypto: Crypto, userId: UserId, n: number, secret: Uint8Array): Uint8Array =>
  kdf(crypto, secret, 'event', epochContext(userId, n))

/** The same for all epochs: made of ES_1. The server sees it, never the name. */
export function streamIdOf(crypto: Crypto, userId: UserId, firstSecret: Uint8Array, name: string): StreamId {
  const mac = crypto.hmacSha256(kdf(crypto, firstSecret, 'stream', userId), encodeUtf8(name))
  const id = toStreamId(mac.slice(0, 16))
  if (id === undefined) throw new Error('HMAC-SHA256 gave fewer than 16 bytes')
  return id
}

/** The key is used for this one message only, so the nonce may be fixed. */
const LINK_NONCE = new Uint8Array(CONTENT_NONCE_BYTES)

/** From the epoch `n` to the older epoch `prevN`. */
export interface LinkPlace {
  readonly userId: UserId
  readonly n: number
  readonly prevN: number
}

const linkContext = ({ userId, n, prevN }: LinkPlace): Uint8Array =>
  createByteWriter().bytes(userId).u32(n).u32(prevN).finish()

/** The secret of an older epoch under that of `n`, so that a device that opens epoch n reads the history. */
export function sealLink(crypto: Crypto, place: LinkPlace, secret: Uint8Array, olderSecret: Uint8Array): Uint8Array {
  const context = linkContext(place)
  return sealContentBytes(kdf(crypto, secret, 'prev', context), LINK_NONCE, context, olderSecret)
}

/** `undefined` when it does not open or holds no secret. */
export function openLink(
  crypto: Crypto,
  place: LinkPlace,
  secret: Uint8Array,
  box: Uint8Array,
): Uint8Array | undefined {
  const context = linkContext(place)
  const opened = openContentBytes(kdf(crypto, secret, 'prev', context), LINK_NONCE, context, box)
  return opened?.length === EPOCH_SECRET_BYTES ? opened : undefined
}
