// One direction of a session: its keys, its implicit counter and its phase. Frames are sealed and opened in
// strict order; the counter is never sent, so a lost, doubled or moved frame does not open.

import type { Crypto } from '../crypto.ts'
import { deriveTrafficKeys, eraseSecrets } from '../handshake/key-schedule.ts'
import { FRAME_HEADER_BYTES, FRAME_KINDS, type FrameKind, frameHeader, toFrameKind } from './frame.ts'

export interface OpenedFrame {
  readonly kind: FrameKind
  readonly payload: Uint8Array
}

export interface Direction {
  /** Rotations so far. A method: a getter would give each of many thousand directions a hidden class of its own. */
  phase(): number
  seal(kind: FrameKind, payload: Uint8Array): Uint8Array
  /** `undefined` for anything but the next frame of this phase. The payload shares no memory with `frame`. */
  open(frame: Uint8Array): OpenedFrame | undefined
  /** Enters the next phase: new keys, counter from 0. Overwrites `trafficSecret`. */
  advance(trafficSecret: Uint8Array): void
}

// Where kind and payload of small frames are put together, and the nonce; a cipher has read them when it returns, so all
// channels share them. Larger frames are rare enough for memory of their own.
const STAGING_BYTES = 4096
const staging = new Uint8Array(STAGING_BYTES)
const nonce = new Uint8Array(12)
const nonceView = new DataView(nonce.buffer)

/** Overwrites `trafficSecret`. */
export function createDirection(crypto: Crypto, trafficSecret: Uint8Array): Direction {
  let phase = -1
  let seq = 0
  let header: Uint8Array
  let aead: ReturnType<Crypto['createAead']>
  let iv: Uint8Array

  const advance = (secret: Uint8Array): void => {
    const keys = deriveTrafficKeys(crypto, secret)
    eraseSecrets(secret)
    aead = keys.aead
    iv = keys.iv
    seq = 0
    phase += 1
    header = frameHeader(phase)
  }

  /** iv XOR (0^4 ‖ u64 seq). */
  const nextNonce = (): Uint8Array => {
    nonce.set(iv)
    nonceView.setUint32(4, nonceView.getUint32(4) ^ Math.floor(seq / 2 ** 32))
    nonceView.setUint32(8, nonceView.getUint32(8) ^ (seq >>> 0))
    seq += 1
    return nonce
  }

  advance(trafficSecret)
  return {
    phase: () => phase,
    seal: (kind, payload) => {
      const length = 1 + payload.length
      const plaintext = length <= STAGING_BYTES ? staging.subarray(0, length) : new Uint8Array(length)
      plaintext[0] = FRAME_KINDS[kind]
      plaintext.set(payload, 1)
      const frame = aead.seal(nextNonce(), header, plaintext, FRAME_HEADER_BYTES)
      frame.set(header)
      return frame
    },
    open: (frame) => {
      if (frame[0] !== header[0] || frame[1] !== header[1]) return undefined
      const plaintext = aead.open(nextNonce(), header, frame.subarray(FRAME_HEADER_BYTES))
      if (plaintext === undefined) return undefined
      const kind = toFrameKind(plaintext[0] ?? -1)
      return kind && { kind, payload: plaintext.subarray(1) }
    },
    advance,
  }
}
