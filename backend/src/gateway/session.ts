// Who is at the other end of a connection, once proved (SES-1).

import type { DeviceId, UserId } from '@valise/protocol'
import { toHex } from '@valise/protocol'
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

export function createSession(identity: SessionIdentity): Session {
  return {
    ...identity,
    userKey: toHex(identity.userId),
    deviceKey: toHex(identity.deviceId),
    deviceHash: hashForLog(identity.deviceId),
  }
}
