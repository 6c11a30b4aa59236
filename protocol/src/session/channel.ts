// A session after its handshake: seals what goes out, opens what comes in, and carries rotations of the keys.
// Frames must be sent in the order in which they were sealed. A failure is final: the caller closes.

import { isAllZero } from '../bytes.ts'
import type { Crypto, KeyAgreement } from '../crypto.ts'
import { eraseSecrets, type SessionSecrets } from '../handshake/key-schedule.ts'
import { createDirection, type OpenedFrame } from './direction.ts'
import { encodeRekey, parseRekey, type RotatedSecrets, type RotationBase, rotateSecrets } from './rekey.ts'

export type ReceivedFrame =
  | { type: 'application'; payload: Uint8Array }
  | { type: 'rekey_hint' }
  /** `replies` must be sent before anything sealed later; `isComplete` when both directions have the new keys. */
  | { type: 'rekey'; replies: Uint8Array[]; isComplete: boolean }
  | { type: 'close_notify' }
  | { type: 'failed' }

export interface SessionChannel {
  /** Rotations of the sending direction so far. */
  phase(): number
  /** From `startRekey` (client) or a received rekey_init (server) until both directions have the new keys. */
  isRekeying(): boolean
  /** A frame of application data: the payload and 19 bytes. */
  seal(payload: Uint8Array): Uint8Array
  sealCloseNotify(): Uint8Array
  /** Server only: asks the client to rotate. */
  sealRekeyHint(): Uint8Array
  /** Client only; throws while a rotation is outstanding. */
  startRekey(): Uint8Array
  /** Never throws on a peer's bytes; after `failed` or `close_notify` every frame is `failed`. */
  receive(frame: Uint8Array): ReceivedFrame
  /** Overwrites what is left of the secrets; nothing is received afterwards. */
  close(): void
}

export interface SessionChannelParts {
  readonly crypto: Crypto
  readonly role: 'client' | 'server'
  /** Given away: the channel overwrites them, so they make one channel only. */
  readonly secrets: SessionSecrets
}

type Rotation =
  | { type: 'none' }
  /** Client: rekey_init is out. */
  | { type: 'awaiting_response'; agreement: KeyAgreement; init: Uint8Array }
  /** Server: rekey_resp is out; the client's next phase waits for rekey_done. */
  | { type: 'awaiting_done'; receivingSecret: Uint8Array }

const NOTHING = new Uint8Array(0)
const failure: ReceivedFrame = { type: 'failed' }

export function createSessionChannel({ crypto, role, secrets }: SessionChannelParts): SessionChannel {
  if (isAllZero(secrets.masterSecret)) throw new Error('these secrets made a channel already')
  const isClient = role === 'client'
  const sending = createDirection(crypto, isClient ? secrets.clientTraffic : secrets.serverTraffic)
  const receiving = createDirection(crypto, isClient ? secrets.serverTraffic : secrets.clientTraffic)
  let base: RotationBase = { masterSecret: secrets.masterSecret.slice(), transcriptHash: secrets.transcriptHash }
  eraseSecrets(secrets.masterSecret)
  let rotation: Rotation = { type: 'none' }
  let isOpen = true

  const close = (): void => {
    isOpen = false
    eraseSecrets(base.masterSecret)
    if (rotation.type === 'awaiting_done') eraseSecrets(rotation.receivingSecret)
    rotation = { type: 'none' }
  }

  const rotate = (
    agreement: KeyAgreement,
    peerMessage: Uint8Array,
    messages: { init: Uint8Array; response: Uint8Array },
  ): RotatedSecrets | undefined => {
    const peerKeyShare = parseRekey(peerMessage)
    const sharedSecret = peerKeyShare && agreement.agree(peerKeyShare)
    if (sharedSecret === undefined) return undefined
    const rotated = rotateSecrets(crypto, base, messages.init, messages.response, sharedSecret)
    base = rotated.base
    return rotated
  }

  const receiveInit = (init: Uint8Array): ReceivedFrame | undefined => {
    if (rotation.type !== 'none') return undefined
    const agreement = crypto.createKeyAgreement()
    const response = encodeRekey(crypto, agreement.publicKey)
    const rotated = rotate(agreement, init, { init, response })
    if (rotated === undefined) return undefined
    // The response is this direction's last frame under the old keys.
    const reply = sending.seal('rekey_resp', response)
    sending.advance(rotated.serverTraffic)
    rotation = { type: 'awaiting_done', receivingSecret: rotated.clientTraffic }
    return { type: 'rekey', replies: [reply], isComplete: false }
  }

  const receiveDone = (payload: Uint8Array): ReceivedFrame | undefined => {
    if (rotation.type !== 'awaiting_done' || payload.length !== 0) return undefined
    receiving.advance(rotation.receivingSecret)
    rotation = { type: 'none' }
    return { type: 'rekey', replies: [], isComplete: true }
  }

  const receiveResponse = (response: Uint8Array): ReceivedFrame | undefined => {
    if (rotation.type !== 'awaiting_response') return undefined
    const { agreement, init } = rotation
    const rotated = rotate(agreement, response, { init, response })
    if (rotated === undefined) return undefined
    receiving.advance(rotated.serverTraffic)
    const reply = sending.seal('rekey_done', NOTHING)
    sending.advance(rotated.clientTraffic)
    rotation = { type: 'none' }
    return { type: 'rekey', replies: [reply], isComplete: true }
  }

  /** `undefined` for a kind that this side does not take, or not now. */
  const accept = ({ kind, payload }: OpenedFrame): ReceivedFrame | undefined => {
    switch (kind) {
      case 'application':
        return { type: 'application', payload }
      case 'rekey_init':
        return isClient ? undefined : receiveInit(payload)
      case 'rekey_resp':
        return isClient ? receiveResponse(payload) : undefined
      case 'rekey_done':
        return isClient ? undefined : receiveDone(payload)
      case 'rekey_hint':
        return isClient && payload.length === 0 ? { type: 'rekey_hint' } : undefined
      case 'close_notify':
        if (payload.length !== 0) return undefined
        close()
        return { type: 'close_notify' }
      default: {
        const unreachable: never = kind
        return unreachable
      }
    }
  }

  return {
    phase: sending.phase,
    isRekeying: () => rotation.type !== 'none',
    seal: (payload) => sending.seal('application', payload),
    sealCloseNotify: () => sending.seal('close_notify', NOTHING),
    sealRekeyHint: () => {
      if (isClient) throw new Error('only the server asks for a rotation')
      return sending.seal('rekey_hint', NOTHING)
    },
    startRekey: () => {
      if (!isClient) throw new Error('only the client starts a rotation')
      if (rotation.type !== 'none') throw new Error('a rotation is outstanding')
      if (!isOpen) throw new Error('the session is over')
      const agreement = crypto.createKeyAgreement()
      const init = encodeRekey(crypto, agreement.publicKey)
      rotation = { type: 'awaiting_response', agreement, init }
      return sending.seal('rekey_init', init)
    },
    receive: (frame) => {
      if (!isOpen) return failure
      const opened = receiving.open(frame)
      const received = opened && accept(opened)
      if (received !== undefined) return received
      close()
      return failure
    },
    close,
  }
}
