// Authenticates one socket (SES-1, PROTOCOL A): two messages in, two out, one look into the device table between them.
// Fails closed, and before a key is proved always in the same words and with the same effort.

import {
  type ClientIdentity,
  type Crypto,
  createServerHandshake,
  type ErrorCode,
  type ServerPolicy,
  type SessionSecrets,
  type Signer,
} from '@valise/protocol'
import type { DeviceForSession } from '../db/queries/devices.ts'

export interface HandshakeParts {
  readonly crypto: Crypto
  readonly signer: Signer
  readonly nextFingerprint: Uint8Array
  policy(): ServerPolicy
  /** By device alone when `userId` is undefined (recovery). */
  findDevice(deviceId: Uint8Array, userId: Uint8Array | undefined): Promise<DeviceForSession | undefined>
}

export type HandshakeResult =
  | {
      readonly type: 'device'
      readonly claim: ClientIdentity
      readonly secrets: SessionSecrets
      readonly device: DeviceForSession
    }
  /** It proved its key, and is to be shown why it may not come in. */
  | {
      readonly type: 'revoked'
      readonly claim: ClientIdentity
      readonly secrets: SessionSecrets
      readonly device: DeviceForSession
      readonly revokedSeq: number
    }
  | { readonly type: 'register'; readonly claim: ClientIdentity; readonly secrets: SessionSecrets }
  | { readonly type: 'refused'; readonly code: ErrorCode }

export interface GatewayHandshake {
  /** The answer to `client_hello`, or the code to close with. */
  receiveHello(text: string): Promise<{ readonly reply: string } | { readonly code: ErrorCode }>
  /** Rejects when the device table is out of reach. */
  receiveAuth(text: string): Promise<HandshakeResult>
  /** Overwrites what an abandoned handshake still holds. */
  close(): void
}

const ROLE_RECOVERY = 3

export function createGatewayHandshake({
  crypto,
  signer,
  nextFingerprint,
  policy,
  findDevice,
}: HandshakeParts): GatewayHandshake {
  const handshake = createServerHandshake({ crypto, signer, nextFingerprint, policy })
  const failed: HandshakeResult = { type: 'refused', code: 'handshake_failed' }

  return {
    receiveHello: async (text) => {
      const answer = await handshake.receiveHello(text)
      return answer.ok ? { reply: answer.reply } : { code: answer.code }
    },
    receiveAuth: async (text) => {
      const auth = handshake.receiveAuth(text)
      if (!auth.ok) return failed
      const { claim } = auth
      if (claim.mode === 'register') {
        const secrets = auth.verify(claim.publicKey)
        return secrets === undefined ? failed : { type: 'register', claim, secrets }
      }
      const device = await findDevice(claim.deviceId, claim.mode === 'recovery' ? undefined : claim.userId)
      const isRightMode = device !== undefined && (device.role === ROLE_RECOVERY) === (claim.mode === 'recovery')
      const secrets = auth.verify(isRightMode ? device.edPub : undefined)
      if (secrets === undefined || device === undefined) return failed
      // Only a device that has proved its key learns that it was revoked or its account deleted.
      if (device.user.isDeleted) return { type: 'refused', code: 'account_deleted' }
      if (device.revokedSeq === undefined) return { type: 'device', claim, secrets, device }
      if (claim.mode === 'recovery') return { type: 'refused', code: 'device_revoked' }
      return { type: 'revoked', claim, secrets, device, revokedSeq: device.revokedSeq }
    },
    close: handshake.close,
  }
}
