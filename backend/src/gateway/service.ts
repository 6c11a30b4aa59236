// From a finished handshake to what serves it: a device that registers, one that has an account, or one that was revoked.

import { type Crypto, type Limits, noUserId, type SessionEstablished, toUserId } from '@valise/protocol'
import type { DeviceLogRow } from '../db/queries/device-log.ts'
import type { LogEpochRow } from '../db/queries/server-state.ts'
import type { Registration } from '../devices/registration.ts'
import type { FairTurns } from '../limits/fair-turns.ts'
import type { Connection } from './connection.ts'
import type { DeviceSessions, Visitor } from './device-session.ts'
import type { EstablishedService } from './established-service.ts'
import type { HandshakeResult } from './handshake.ts'
import { createJoiningService } from './joining-service.ts'
import { createRevokedService, readRevokedHead } from './revoked-service.ts'
import { createSession, logNamesOf, type Session } from './session.ts'
import { createSoleVisits } from './sole-visits.ts'

export interface ConnectionServiceParts {
  readonly crypto: Crypto
  readonly registration: Registration
  readonly deviceSessions: DeviceSessions
  /** Of requests that ask the database (LIM-11). */
  readonly requestTurns: FairTurns
  readonly limits: Limits
  logEpoch(): LogEpochRow
  readonly maxAgeMs: number
  readonly registrationTimeoutMs: number
  readonly retryAfterMs: number
  readDeviceLog(userId: Uint8Array, afterSeq: number, limit: number): Promise<DeviceLogRow[]>
  /** Unix milliseconds. */
  now(): number
  onFailure(error: unknown, session: Session): void
}

export type AcceptedHandshake = Exclude<HandshakeResult, { type: 'refused' }>

export interface ConnectionService {
  readonly crypto: Crypto
  /** Rejects when the database is out of reach, and with SessionRefused when the device was cut off meanwhile. */
  begin(handshake: AcceptedHandshake, connection: Connection, arrival: Arrival): Promise<EstablishedService>
}

/** Epoch 0 says it: this session is shown the device log at most. The same at every visit, whatever the account does. */
const NOTHING_OF_THE_LOG = { key_epoch: 0, last_device_seq: 0, head: 0 } as const

export interface Arrival extends Visitor {
  readonly establishedAtMs: number
}

/** A revoked device does not spend what its user's devices may. */
const revokedKey = (deviceKey: string): string => `revoked:${deviceKey}`

export function createConnectionService(parts: ConnectionServiceParts): ConnectionService {
  const revokedVisits = createSoleVisits()

  const greet = (session: Session, connection: Connection, facts: GreetingFacts): void => {
    connection.greet({
      type: 'session_established',
      session_id: session.sessionId,
      user_id: session.userId,
      device_id: session.deviceId,
      server_time: parts.now(),
      expires_at: session.establishedAtMs + parts.maxAgeMs,
      limits: parts.limits,
      log_epoch: parts.logEpoch().id,
      log_epoch_at: parts.logEpoch().beganAtMs,
      ...facts,
    })
  }

  const beginDevice = async (
    session: Session,
    connection: Connection,
    arrival: Arrival,
  ): Promise<EstablishedService> => {
    const deviceSession = await parts.deviceSessions.open(session, connection, arrival)
    const { device, start, ...working } = deviceSession
    greet(session, connection, {
      device_log_seq: device.user.logSeq,
      device_log_head: device.user.logHead,
      key_epoch: device.user.keyEpoch,
      last_device_seq: device.lastDeviceSeq,
      head: device.user.lastUserSeq,
    })
    start()
    connection.allowFrames(parts.limits.max_frame)
    return { logNames: logNamesOf(session), ...working }
  }

  const beginRevoked = async (
    session: Session,
    connection: Connection,
    { revokedSeq }: Extract<AcceptedHandshake, { type: 'revoked' }>,
    { address, meter }: Arrival,
  ): Promise<EstablishedService> => {
    const { userId, deviceKey } = session
    meter.become(revokedKey(deviceKey))
    const logNames = logNamesOf(session)
    const { crypto, readDeviceLog, now } = parts
    const onFailure = (error: unknown): void => parts.onFailure(error, session)
    const head = await readRevokedHead({ crypto, userId, revokedSeq, readDeviceLog })
    greet(session, connection, {
      device_log_seq: revokedSeq,
      device_log_head: head,
      ...NOTHING_OF_THE_LOG,
    })
    const takeTurn = <T>(work: () => Promise<T>): Promise<T> =>
      parts.requestTurns.run({ address, userKey: revokedKey(deviceKey) }, work)
    const leave = revokedVisits.enter(deviceKey, () => connection.close('device_revoked'))
    const { charge } = meter
    return createRevokedService({
      crypto,
      connection,
      userId,
      logNames,
      revokedSeq,
      readDeviceLog,
      charge,
      takeTurn,
      now,
      onFailure,
      onEnd: leave,
    })
  }

  const beginRegistration = (session: Session, connection: Connection, arrival: Arrival): EstablishedService => {
    greet(session, connection, {
      device_log_seq: 0,
      device_log_head: new Uint8Array(32),
      ...NOTHING_OF_THE_LOG,
    })
    return createJoiningService({ ...parts, session, connection, visitor: arrival })
  }

  return {
    crypto: parts.crypto,
    begin: async (handshake, connection, arrival) => {
      const { establishedAtMs } = arrival
      const { claim, secrets } = handshake
      const { deviceId, canRekey } = claim
      const base = { sessionId: secrets.sessionId, deviceId, canRekey, establishedAtMs }
      if (handshake.type === 'register') {
        const session = createSession({ ...base, userId: noUserId(), publicKey: claim.publicKey })
        return beginRegistration(session, connection, arrival)
      }
      const userId = toUserId(handshake.device.userId)
      if (userId === undefined) throw new Error('a stored user_id is not 32 bytes')
      const session = createSession({ ...base, userId, publicKey: handshake.device.edPub })
      if (handshake.type === 'revoked') return beginRevoked(session, connection, handshake, arrival)
      return beginDevice(session, connection, arrival)
    },
  }
}

type GreetingFacts = Pick<
  SessionEstablished,
  'device_log_seq' | 'device_log_head' | 'key_epoch' | 'last_device_seq' | 'head'
>
