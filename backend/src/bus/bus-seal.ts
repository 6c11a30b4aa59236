// The seal of a message on the bus: the number of a key, and a MAC over channel and message (version, kind, origin and
// body, as announcement-codec.ts writes them). Who can publish in Redis but has no key can say nothing here.

import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import { MAX_MESSAGE_BYTES } from './announcement-codec.ts'

export interface BusKeys {
  /** What this node seals with now. */
  current(): { readonly number: number; readonly key: KeyObject }
  /** Undefined for a number that is not valid now. */
  find(number: number): KeyObject | undefined
  /** A message names a number that is not valid here: another node may know a newer one. */
  noteUnknown(): void
}

const NUMBER_BYTES = 4
const MAC_BYTES = 32
const SEAL_BYTES = NUMBER_BYTES + MAC_BYTES

/** `numbered` is the message with the number of the key behind it. The length keeps channel and message apart. */
function macOf(key: KeyObject, channel: string, numbered: Uint8Array): Buffer {
  const length = Buffer.allocUnsafe(4)
  length.writeUInt32BE(Buffer.byteLength(channel))
  return createHmac('sha256', key).update(length).update(channel).update(numbered).digest()
}

export function sealForBus(keys: BusKeys, channel: string, message: Uint8Array): Buffer {
  const { number, key } = keys.current()
  const sealed = Buffer.allocUnsafe(message.length + SEAL_BYTES)
  sealed.set(message)
  const end = sealed.writeUInt32BE(number, message.length)
  sealed.set(macOf(key, channel, sealed.subarray(0, end)), end)
  return sealed
}

/** The message, a view into `sealed`; undefined when no valid key made this seal for this channel. */
export function openFromBus(keys: BusKeys, channel: string, sealed: Uint8Array): Uint8Array | undefined {
  const messageBytes = sealed.length - SEAL_BYTES
  if (messageBytes < 0 || messageBytes > MAX_MESSAGE_BYTES) return undefined
  const end = messageBytes + NUMBER_BYTES
  const number = new DataView(sealed.buffer, sealed.byteOffset + messageBytes, NUMBER_BYTES).getUint32(0)
  const key = keys.find(number)
  if (key === undefined) {
    keys.noteUnknown()
    return undefined
  }
  const isOurs = timingSafeEqual(macOf(key, channel, sealed.subarray(0, end)), sealed.subarray(end))
  return isOurs ? sealed.subarray(0, messageBytes) : undefined
}
