// From a finished handshake to a working session: registers the account, or opens the session of a device that has one.
// Until the account stands, nothing but `register` is accepted (PROTOCOL A).

import {
  type Crypto,
  type DeviceLogState,
  type Limits,
  noUserId,
  type Register,
  type SessionEstablished,
  toUserId,
} from '@valise/protocol'
import type { DeviceLogRow } from '../db/queries/device-log.ts'
import type { LogEpochRow } from '../db/queries/server-state.ts'
import type { Registration } from '../devices/registration.ts'
import type { Connection } from './connection.ts'
import { type DeviceSession, type DeviceSessions, SessionRefused } from './device-session.ts'
import type { EstablishedService } from './established-service.ts'
import type { HandshakeResult } from './handshake.ts'
import { createRevokedService, readRevokedHead } from './revoked-service.ts'
import { createSession, logNamesOf, type Session } from './session.ts'

export interface ConnectionServiceParts {
  readonly crypto: Crypto
  readonly registration: Registration
  readonly deviceSessions: DeviceSessions
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

export interface Arrival {
  readonly establishedAtMs: number
  /** The key that the limits of the peer's address are kept by. */
  readonly address: string
}

export function createConnectionService(parts: ConnectionServiceParts): ConnectionService {
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
    address: string,
  ): Promise<EstablishedService> => {
    const deviceSession = await parts.deviceSessions.open(session, connection, address)
    const { device, start, ...working } = deviceSession
    greet(session, connection, {
      device_log_seq: device.user.logSeq,
      device_log_head: device.user.logHead,
      key_epoch: device.user.keyEpoch,
      last_device_seq: device.lastDeviceSeq,
      head: device.user.lastUserSeq,
    })
    start()
    return { logNames: logNamesOf(session), ...working }
  }

  const beginRevoked = async (
    session: Session,
    connection: Connection,
    { revokedSeq }: Extract<AcceptedHandshake, { type: 'revoked' }>,
  ): Promise<EstablishedService> => {
    const { userId } = session
    const logNames = logNamesOf(session)
    const { crypto, readDeviceLog, now } = parts
    const onFailure = (error: unknown): void => parts.onFailure(error, session)
    const head = await readRevokedHead({ crypto, userId, revokedSeq, readDeviceLog })
    greet(session, connection, {
      device_log_seq: revokedSeq,
      device_log_head: head,
      ...NOTHING_OF_THE_LOG,
    })
    return createRevokedService({ crypto, connection, userId, logNames, revokedSeq, readDeviceLog, now, onFailure })
  }

  const beginRegistration = (session: Session, connection: Connection, address: string): EstablishedService => {
    let opened: DeviceSession | undefined
    let isEnded = false
    let isRegistering = false
    greet(session, connection, {
      device_log_seq: 0,
      device_log_head: new Uint8Array(32),
      ...NOTHING_OF_THE_LOG,
    })

    const register = async (message: Register): Promise<void> => {
      const outcome = await parts.registration.register(session, message, address)
      if (outcome.type === 'not_admitted') {
        const { code, retryAfterMs } = outcome
        const again = retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }
        return connection.send({ type: 'error', code, ...again })
      }
      if (outcome.type === 'deleted') return connection.close('account_deleted')
      if (outcome.type === 'envelope_mismatch') return connection.send({ type: 'error', code: outcome.type })
      if (outcome.type === 'refused') {
        return connection.send({ type: 'error', code: 'device_log_refused', rule: outcome.rule })
      }
      const deviceSession = await parts.deviceSessions.open(sessionOfUser(session, outcome.state), connection, address)
      if (isEnded) return deviceSession.end()
      opened = deviceSession
      const { userId, seq, head, epoch } = outcome.state
      connection.send({
        type: 'registered',
        user_id: userId,
        device_log_seq: seq,
        device_log_head: head,
        key_epoch: epoch.n,
      })
      deviceSession.start()
    }

    const startRegistration = (message: Register): void => {
      if (isRegistering) return connection.send({ type: 'error', code: 'already_registered' })
      isRegistering = true
      register(message)
        .catch((error: unknown) => {
          if (error instanceof SessionRefused) return connection.close(error.code)
          parts.onFailure(error, session)
          connection.send({ type: 'error', code: 'unavailable', retry_after_ms: parts.retryAfterMs })
        })
        .finally(() => {
          isRegistering = opened !== undefined
        })
    }

    return {
      logNames: logNamesOf(session),
      handle: (message) => {
        if (opened !== undefined) return opened.handle(message)
        if (message.type === 'register') return startRegistration(message)
        if (message.type === 'ping') return connection.send({ type: 'pong', id: message.id })
        if (message.type !== 'pong') connection.send({ type: 'error', code: 'not_established' })
      },
      onWritable: () => opened?.onWritable(),
      tick: () => {
        if (opened !== undefined) return opened.tick()
        const ageMs = parts.now() - session.establishedAtMs
        if (!isRegistering && ageMs >= parts.registrationTimeoutMs) connection.close('registration_timeout')
      },
      finish: async () => opened?.finish(),
      end: () => {
        isEnded = true
        opened?.end()
      },
    }
  }

  return {
    crypto: parts.crypto,
    begin: async (handshake, connection, { establishedAtMs, address }) => {
      const { claim, secrets } = handshake
      const { deviceId, canRekey } = claim
      const base = { sessionId: secrets.sessionId, deviceId, canRekey, establishedAtMs }
      if (handshake.type === 'register') {
        const session = createSession({ ...base, userId: noUserId(), publicKey: claim.publicKey })
        return beginRegistration(session, connection, address)
      }
      const userId = toUserId(handshake.device.userId)
      if (userId === undefined) throw new Error('a stored user_id is not 32 bytes')
      const session = createSession({ ...base, userId, publicKey: handshake.device.edPub })
      if (handshake.type === 'revoked') return beginRevoked(session, connection, handshake)
      return beginDevice(session, connection, address)
    },
  }
}

type GreetingFacts = Pick<
  SessionEstablished,
  'device_log_seq' | 'device_log_head' | 'key_epoch' | 'last_device_seq' | 'head'
>

function sessionOfUser(session: Session, { userId }: DeviceLogState): Session {
  return createSession({ ...session, userId })
}
