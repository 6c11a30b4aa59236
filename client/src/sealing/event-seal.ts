// Seals and opens events (PROTOCOL E): padding, cipher, leaf, chain and signature. What stands inside is `content.ts`;
// whether an event continues a chain and who may have signed it is checked by the receiver, not here.

import {
  assembleEvent,
  bodyHash,
  type Crypto,
  chainAfter,
  EVENT_NONCE_BYTES,
  type EventHeader,
  type EventLeaf,
  encodeEventHeader,
  encodeSignedBytes,
  flagsOf,
  innerHash,
  type ParsedEvent,
  type Signer,
  signEventBody,
} from '@valise/protocol'
import { openContentBytes, sealContentBytes } from './content-cipher.ts'
import { pad, unpad } from './padding.ts'

export interface SealedEvent {
  /** What is sent, and sent again unchanged after a reconnect. */
  readonly wire: Uint8Array
  readonly leaf: EventLeaf
  /** The chain after this event: `chainPrev` of the device's next one. */
  readonly chain: Uint8Array
}

/** `contentKey` is `eventKey` of the epoch that the header names; `data` is empty exactly in a tombstone. */
export async function sealEvent(
  crypto: Crypto,
  signer: Signer,
  contentKey: Uint8Array,
  header: Omit<EventHeader, 'nonce'>,
  data: Uint8Array,
): Promise<SealedEvent> {
  if (header.isTombstone !== (data.length === 0)) throw new RangeError('expected data, or a tombstone without any')
  const nonce = crypto.randomBytes(EVENT_NONCE_BYTES)
  const headerBytes = encodeEventHeader({ ...header, nonce })
  const ciphertext = sealContentBytes(contentKey, nonce, headerBytes, pad(data))
  const body = bodyHash(crypto, encodeSignedBytes(headerBytes, ciphertext))
  const signature = await signEventBody(signer, body)
  const leaf = { ttlS: header.ttlS, flags: flagsOf(header), inner: innerHash(crypto, body, signature) }
  const wire = assembleEvent(headerBytes, ciphertext, signature)
  return { wire, leaf, chain: chainAfter(crypto, header.chainPrev, leaf) }
}

/** The data, empty for a tombstone; `undefined` when the event does not open or its padding is not exact. */
export function openEvent(contentKey: Uint8Array, event: ParsedEvent): Uint8Array | undefined {
  const padded = openContentBytes(contentKey, event.nonce, event.headerBytes, event.ciphertext)
  const data = padded && unpad(padded)
  return data !== undefined && event.isTombstone === (data.length === 0) ? data : undefined
}
