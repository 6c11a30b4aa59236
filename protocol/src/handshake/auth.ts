// What each side says of itself under the handshake keys: the server's key and policy (A_s), the client's
// claim (A_c), and the sealed triple of claim, signature and Finished MAC that carries either.

import { createByteReader, createByteWriter, decodeUtf8, encodeUtf8, isAllZero } from '../bytes.ts'
import { type DeviceId, noUserId, toDeviceId, toUserId, type UserId } from '../ids.ts'
import { isAcceptableKey } from '../small-order.ts'

/** The server's clock and the bounds of a session, signed by the server's identity key. */
export interface ServerPolicy {
  readonly timeMs: number
  /** Events after which the server asks for new session keys, and after which it insists. */
  readonly softEvents: number
  readonly hardEvents: number
  /** Seconds after which a session ends, however its keys were renewed. */
  readonly maxAgeS: number
  readonly maxFrame: number
}

export interface ServerAuth {
  readonly publicKey: Uint8Array
  /** SHA-256 of the key that will follow it. */
  readonly nextFingerprint: Uint8Array
  readonly policy: ServerPolicy
}

/** `device` is looked up by both ids, `register` brings its own key, `recovery` is looked up by device_id alone. */
export type ClientMode = 'device' | 'register' | 'recovery'

export interface ClientIdentity {
  readonly mode: ClientMode
  /** Zero on the wire unless the mode is `device`. */
  readonly userId: UserId
  readonly deviceId: DeviceId
  /** Zero on the wire unless the mode is `register`: a known device's key comes from its log. */
  readonly publicKey: Uint8Array
  readonly logSeq: number
  readonly logHead: Uint8Array
  /** Whether the client can renew session keys in band. */
  readonly canRekey: boolean
  /** At most 64 bytes of UTF-8. */
  readonly clientInfo: string
}

const MODES: readonly ClientMode[] = ['device', 'register', 'recovery']
const CAPABILITY_REKEY = 1
const MAX_CLIENT_INFO_BYTES = 64
const MAX_CLAIM_BYTES = 256

export function encodeServerAuth(auth: ServerAuth): Uint8Array {
  return createByteWriter()
    .bytes(auth.publicKey)
    .bytes(auth.nextFingerprint)
    .u64(auth.policy.timeMs)
    .u32(auth.policy.softEvents)
    .u32(auth.policy.hardEvents)
    .u32(auth.policy.maxAgeS)
    .u32(auth.policy.maxFrame)
    .finish()
}

export function parseServerAuth(bytes: Uint8Array): ServerAuth | undefined {
  const reader = createByteReader(bytes)
  const auth: ServerAuth = {
    publicKey: reader.bytes(32),
    nextFingerprint: reader.bytes(32),
    policy: {
      timeMs: reader.u64(),
      softEvents: reader.u32(),
      hardEvents: reader.u32(),
      maxAgeS: reader.u32(),
      maxFrame: reader.u32(),
    },
  }
  return reader.finish() && isAcceptableKey(auth.publicKey) ? auth : undefined
}

/** Throws a RangeError for a client_info above 64 bytes. */
export function encodeClientAuth(identity: ClientIdentity): Uint8Array {
  const clientInfo = encodeUtf8(identity.clientInfo)
  if (clientInfo.length > MAX_CLIENT_INFO_BYTES) throw new RangeError('client_info has at most 64 bytes')
  return createByteWriter()
    .u8(MODES.indexOf(identity.mode))
    .bytes(identity.mode === 'device' ? identity.userId : noUserId())
    .bytes(identity.deviceId)
    .bytes(identity.mode === 'register' ? identity.publicKey : new Uint8Array(32))
    .u64(identity.logSeq)
    .bytes(identity.logHead)
    .u32(identity.canRekey ? CAPABILITY_REKEY : 0)
    .prefixed(clientInfo)
    .finish()
}

export function parseClientAuth(bytes: Uint8Array): ClientIdentity | undefined {
  const reader = createByteReader(bytes)
  const mode = MODES[reader.u8()]
  const userId = toUserId(reader.bytes(32))
  const deviceId = toDeviceId(reader.bytes(16))
  const publicKey = reader.bytes(32)
  const logSeq = reader.u64()
  const logHead = reader.bytes(32)
  const capabilities = reader.u32()
  const clientInfo = decodeUtf8(reader.prefixed(MAX_CLIENT_INFO_BYTES))
  if (!reader.finish() || mode === undefined || userId === undefined || deviceId === undefined) return undefined
  if (capabilities > CAPABILITY_REKEY || clientInfo === undefined) return undefined
  if (mode !== 'device' && !isAllZero(userId)) return undefined
  if (mode === 'register' ? !isAcceptableKey(publicKey) : !isAllZero(publicKey)) return undefined
  return { mode, userId, deviceId, publicKey, logSeq, logHead, canRekey: capabilities === CAPABILITY_REKEY, clientInfo }
}

/** The plaintext of `auth`: a claim, the signature over the transcript up to it, the MAC up to that signature. */
export interface AuthProof {
  readonly claim: Uint8Array
  readonly signature: Uint8Array
  readonly finished: Uint8Array
}

export function encodeAuthProof(proof: AuthProof): Uint8Array {
  return createByteWriter().prefixed(proof.claim).prefixed(proof.signature).prefixed(proof.finished).finish()
}

export function parseAuthProof(bytes: Uint8Array): AuthProof | undefined {
  const reader = createByteReader(bytes)
  const proof = {
    claim: reader.prefixed(MAX_CLAIM_BYTES),
    signature: reader.prefixed(64),
    finished: reader.prefixed(32),
  }
  return reader.finish() && proof.signature.length === 64 && proof.finished.length === 32 ? proof : undefined
}
