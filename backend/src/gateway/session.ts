// Who is at the other end of a connection, once proved (SES-1).

import type { DeviceId, UserId } from '@valise/protocol'
import { toDeviceId, toHex, toUserId } from '@valise/protocol'
import { hashForLog } from '../telemetry/log.ts'

/** An authenticated device and, unless it is registering, its user. */
export interface Session {
  readonly sessionId: Uint8Array
  readonly userId: UserId
  readonly deviceId: DeviceId
  /** Text forms, as map keys. */
  readonly userKey: string
  readonly deviceKey: string
  /** The device's public hash, the only name of it that logs show. */
  readonly deviceHash: string
  readonly publicKey: Uint8Array
  readonly canRekey: boolean
  readonly establishedAtMs: number
}

export type SessionIdentity = Omit<Session, 'userKey' | 'deviceKey' | 'deviceHash'>

/** What every line of the log about a session carries: hashes, by which its lines are found and nothing else is. */
export interface SessionLogNames {
  readonly device: string
  readonly session: string
}

export const logNamesOf = ({ deviceHash, sessionId }: Session): SessionLogNames => ({
  device: deviceHash,
  session: hashForLog(sessionId),
})

export function createSession(identity: SessionIdentity): Session {
  return {
    ...identity,
    // Copies: what comes from a row or a frame is a view of a larger buffer, which would live as long as the session.
    sessionId: new Uint8Array(identity.sessionId),
    userId: toUserId(new Uint8Array(identity.userId)) ?? identity.userId,
    deviceId: toDeviceId(new Uint8Array(identity.deviceId)) ?? identity.deviceId,
    publicKey: new Uint8Array(identity.publicKey),
    userKey: toHex(identity.userId),
    deviceKey: toHex(identity.deviceId),
    deviceHash: hashForLog(identity.deviceId),
  }
}
