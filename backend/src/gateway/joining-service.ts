// The session of a device that has no account yet: it accepts `register`, whose tries cost what they cost (LIM-10), and a
// ping a second. From then on it is the device's working session (PROTOCOL A, LIM-12).

import { type DeviceLogState, type Limits, MAX_REGISTER_FRAME_BYTES, type Register } from '@valise/protocol'
import type { Registration } from '../devices/registration.ts'
import { createTokenBuckets } from '../limits/token-buckets.ts'
import type { Connection } from './connection.ts'
import { type DeviceSession, type DeviceSessions, SessionRefused, type Visitor } from './device-session.ts'
import { createDispatch } from './dispatch.ts'
import type { EstablishedService } from './established-service.ts'
import { createSession, logNamesOf, type Session } from './session.ts'

export interface JoiningServiceParts {
  readonly session: Session
  readonly connection: Connection
  readonly visitor: Visitor
  readonly registration: Registration
  readonly deviceSessions: Pick<DeviceSessions, 'open'>
  readonly limits: Pick<Limits, 'max_frame'>
  readonly registrationTimeoutMs: number
  readonly retryAfterMs: number
  /** Unix milliseconds. */
  now(): number
  onFailure(error: unknown, session: Session): void
}

const PINGS = { perSecond: 1, burst: 10 }
/** Whatever else is said before the account stands. */
const MAX_OTHERS = 8

export function createJoiningService(parts: JoiningServiceParts): EstablishedService {
  const { session, connection, visitor } = parts
  connection.allowFrames(MAX_REGISTER_FRAME_BYTES)
  const pings = createTokenBuckets(PINGS, 1)
  let opened: DeviceSession | undefined
  let isEnded = false
  let isRegistering = false
  let others = 0

  const register = async (message: Register): Promise<void> => {
    const outcome = await parts.registration.register(session, message, visitor.address)
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
    const deviceSession = await parts.deviceSessions.open(sessionOfUser(session, outcome.state), connection, visitor)
    if (isEnded) return deviceSession.end()
    opened = deviceSession
    connection.allowFrames(parts.limits.max_frame)
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

  const refuse = (): void => {
    if (++others > MAX_OTHERS) return connection.close('bad_message')
    connection.send({ type: 'error', code: 'not_established' })
  }

  const answerPing = ({ id }: { readonly id: number }): void => {
    const nowMs = parts.now()
    if (pings.available('', nowMs) < 1) return connection.close('bad_message')
    pings.take('', 1, nowMs)
    connection.send({ type: 'pong', id })
  }

  const joining = createDispatch(
    {
      register: startRegistration,
      ping: answerPing,
      pong: () => {},
      publish: refuse,
      ack: refuse,
      resume: refuse,
      fetch_device_log: refuse,
      fetch_envelopes: refuse,
      append_device_log: refuse,
      open_pairing: refuse,
    },
    visitor.meter.charge,
  )

  return {
    logNames: logNamesOf(session),
    get handle() {
      return opened?.handle ?? joining
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

const sessionOfUser = (session: Session, { userId }: DeviceLogState): Session => createSession({ ...session, userId })
