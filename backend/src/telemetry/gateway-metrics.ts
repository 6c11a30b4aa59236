// What is counted of sockets, handshakes and sessions.

import { ERROR_CODES, type ErrorCode, errorEntry } from '@valise/protocol'
import type { MetricKinds } from './metric-kinds.ts'

const ROTATION_REASONS = ['rekey', 'age', 'events'] as const
const LIMIT_SCOPES = [
  'device',
  'user',
  'device_bytes',
  'user_bytes',
  'append',
  'address',
  'registration',
  'invitation',
  'mailbox',
  'storage',
] as const
/** Whose budget of work was overdrawn. */
const WORK_SCOPES = ['session', 'user', 'address', 'node'] as const
export type WorkScope = (typeof WORK_SCOPES)[number]
export type LimitScope = (typeof LIMIT_SCOPES)[number]
const NORMAL_CLOSE = 1000
/** Those of the protocol's registry, and the ordinary end. */
const CLOSE_CODES = [NORMAL_CLOSE, ...ERROR_CODES.flatMap((code) => errorEntry(code).close ?? [])].map(String)

export interface GatewayMetrics {
  setConnections(count: number): void
  countHandshake(result: 'ok' | ErrorCode): void
  /** The code it was closed with, `other` when this protocol does not name it, or `peer` when the other side ended it. */
  countClose(code: number | 'peer'): void
  countSessionRotation(reason: (typeof ROTATION_REASONS)[number]): void
  /** Events, appends, handshakes, registrations and requests for mailboxes that are to come again later, by what limits them. */
  countRateLimited(scope: LimitScope, count: number): void
  /** Sockets that are not read, so that TCP pushes back. */
  setSocketsPaused(count: number): void
  /** Of those, the ones whose peer owes work. */
  setSocketsResting(count: number): void
  /** Seconds of work that peers asked for. */
  countWork(seconds: number): void
  /** A socket that rests, or a request that is to come again later. */
  countWorkLimited(scope: WorkScope): void
  /** Where to read, at each scrape, how many requests wait for their turn. */
  watchTurnsWaiting(read: () => number): void
  /** Where to read, at each scrape, the bytes that wait in all sockets. */
  watchSendBufferedBytes(read: () => number): void
  /** Where to read, at each scrape, how many sessions live past a limit of their keys. */
  watchRotationOverdue(read: () => number): void
}

export function createGatewayMetrics({ counter, gauge, watchedGauge }: MetricKinds): GatewayMetrics {
  const connections = gauge('valise_connections', 'Open connections')
  const handshakes = counter('valise_handshakes_total', 'Handshakes', { result: ['ok', ...ERROR_CODES] })
  const closes = counter('valise_closes_total', 'Closed connections by close code', {
    code: [...CLOSE_CODES, 'peer', 'other'],
  })
  const rotations = counter('valise_session_rotations_total', 'Changes of session keys', { reason: ROTATION_REASONS })
  const overdue = watchedGauge('valise_sessions_rotation_overdue', 'Sessions that live past a limit of their keys')
  const rateLimited = counter('valise_rate_limited_total', 'Events and requests told to come again later', {
    scope: LIMIT_SCOPES,
  })
  const socketsPaused = gauge('valise_sockets_paused', 'Sockets that are not read, so that TCP pushes back')
  const socketsResting = gauge('valise_sockets_resting', 'Sockets that are not read because their peer owes work')
  const work = counter('valise_work_seconds_total', 'Work that peers asked for, by the table of costs')
  const workLimited = counter('valise_work_limited_total', 'Times that a peer owed work and was not read meanwhile', {
    scope: WORK_SCOPES,
  })
  const turnsWaiting = watchedGauge(
    'valise_turns_waiting',
    'Requests and pages that wait for their turn at the database',
  )
  const sendBuffered = watchedGauge('valise_send_buffered_bytes', 'Bytes that peers have not taken yet')
  return {
    setConnections: connections.set,
    countHandshake: (result) => handshakes.inc({ result }),
    countClose: (code) => {
      const name = String(code)
      closes.inc({ code: name === 'peer' || CLOSE_CODES.includes(name) ? name : 'other' })
    },
    countSessionRotation: (reason) => rotations.inc({ reason }),
    countRateLimited: (scope, count) => rateLimited.inc({ scope }, count),
    setSocketsPaused: socketsPaused.set,
    setSocketsResting: socketsResting.set,
    countWork: (seconds) => work.inc({}, seconds),
    countWorkLimited: (scope) => workLimited.inc({ scope }),
    watchTurnsWaiting: turnsWaiting.watch,
    watchSendBufferedBytes: sendBuffered.watch,
    watchRotationOverdue: overdue.watch,
  }
}
