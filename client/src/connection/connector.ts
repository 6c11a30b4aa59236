// Keeps one session alive: opens it, and after each end stops for good or comes back as the policy says, with full
// jitter. A session that is to end is replaced before it ends: make before break (SES-2). It knows nothing of events;
// it says when a session is up and when it is gone.

import type { ServerMessage, SessionEstablished } from '@valise/protocol'
import { refusedFor, type StopCause } from '../alarm.ts'
import type { Backoff } from '../backoff.ts'
import type { Clock } from '../clock.ts'
import type { EagerLimit } from './eager-limit.ts'
import { type AfterEnd, decideAfterEnd } from './reconnect-policy.ts'
import type { Session, SessionEnd, SessionHandlers } from './session.ts'

export type ConnectorState =
  /** `retryAtMs` is undefined before the start. */
  | { readonly type: 'offline'; readonly text: string; readonly retryAtMs: number | undefined }
  | { readonly type: 'connecting' }
  | { readonly type: 'connected' }
  | { readonly type: 'stopped'; readonly cause: StopCause }

export interface ConnectorParts {
  readonly clock: Clock
  readonly backoff: Backoff
  readonly eagerLimit: EagerLimit
  openSession(handlers: SessionHandlers): Session
  /** A session is up: the first after `onGone`, or the one that takes the place of the one before. */
  onEstablished(session: Session, message: SessionEstablished): void
  onMessage(session: Session, message: ServerMessage, frameBytes: number): void
  onRekeyed(): void
  /** The session that was established is gone, and none has taken its place. */
  onGone(): void
  onState(state: ConnectorState): void
}

export interface Connector {
  start(): void
  /** Ends the session and never opens another. */
  stop(cause: StopCause): void
  /** Opens a new session beside the one that is up and puts it in its place. Resolves when that is done or has failed. */
  handOver(): Promise<void>
  /** The machine woke up: asks the server at once whether it is there, or comes back at once. */
  checkLiveness(): void
  readonly session: Session | undefined
  readonly state: ConnectorState
}

/** A lost announcement of a newer session is made up for when the server next compares sessions. */
const SUPERSEDED_LATE_MS = 60_000
const REPLACED = {
  type: 'reconnect',
  when: 'now',
  text: 'The session was replaced by a newer one of this device, which was lost',
} as const satisfies AfterEnd

export function createConnector(parts: ConnectorParts): Connector {
  const { clock, backoff, eagerLimit } = parts
  let state: ConnectorState = { type: 'offline', text: 'Not started', retryAtMs: undefined }
  let session: Session | undefined
  /** Opens beside the session that is up, or was up a moment ago. */
  let successor: Session | undefined
  /** Until then a supersession may be the work of a successor of our own that was lost. */
  let ownSuccessorUntilMs = 0
  /** A bare close proves nothing: the device comes back once, to be shown the entry that revoked it. */
  let wasToldRevoked = false
  let isStarted = false
  let cancelRetry = (): void => {}

  const setState = (next: ConnectorState): void => {
    state = next
    parts.onState(next)
  }

  const stop = (cause: StopCause): void => {
    if (state.type === 'stopped') return
    cancelRetry()
    const open = [session, successor]
    // First forgotten, so that their ends are not taken for a reason to come back.
    session = undefined
    successor = undefined
    state = { type: 'stopped', cause }
    for (const each of open) each?.close()
    parts.onGone()
    parts.onState(state)
  }

  const comeBack = (next: Exclude<AfterEnd, { type: 'stop' }>): void => {
    const isNow = next.when === 'now' && eagerLimit.waitMs() === 0
    if (isNow) eagerLimit.spend()
    const delayMs = isNow ? 0 : backoff.next()
    cancelRetry = clock.after(delayMs, connect)
    parts.onGone()
    setState({ type: 'offline', text: next.text, retryAtMs: clock.now() + delayMs })
  }

  const decide = (end: SessionEnd, wasEstablished: boolean): AfterEnd => {
    const next = decideAfterEnd(end, wasEstablished)
    if (end.type !== 'closed_by_server' || end.code !== 'device_revoked') return next
    if (wasToldRevoked) return { type: 'stop', cause: refusedFor('revocation_unproven') }
    wasToldRevoked = true
    return { type: 'reconnect', when: 'now', text: 'The server says that this device was revoked' }
  }

  const connect = (): void => {
    cancelRetry()
    let wasEstablished = false
    setState({ type: 'connecting' })
    const opened = parts.openSession({
      onEstablished: (message) => {
        wasEstablished = true
        setState({ type: 'connected' })
        parts.onEstablished(opened, message)
      },
      onRekeyed: parts.onRekeyed,
      onMessage: (message, frameBytes) => parts.onMessage(opened, message, frameBytes),
      onEnd: (end) => afterEnd(opened, end, wasEstablished),
    })
    session = opened
  }

  /** The end of what is, or was, the session that is up. */
  const afterEnd = (ended: Session, end: SessionEnd, wasEstablished: boolean): void => {
    if (session !== ended) return
    session = undefined
    const next = decide(end, wasEstablished)
    // The server ends the older session of a device when the newer begins (SES-3): here it is our own.
    const isSuperseded = end.type === 'closed_by_server' && end.code === 'session_superseded'
    const isReplaced = isSuperseded && (successor?.isProved === true || clock.now() < ownSuccessorUntilMs)
    if (next.type === 'stop' && !isReplaced) return stop(next.cause)
    // What becomes of the successor says what follows.
    if (successor !== undefined) return
    comeBack(next.type === 'stop' ? REPLACED : next)
  }

  const afterFailedHandOver = (end: SessionEnd): void => {
    // It may have begun on the server before it was lost here, and word of it ends the old session later.
    if (successor?.isProved === true) ownSuccessorUntilMs = clock.now() + SUPERSEDED_LATE_MS
    successor = undefined
    const next = decide(end, false)
    if (next.type === 'stop') return stop(next.cause)
    if (session === undefined) comeBack(next)
  }

  const handOver = (): Promise<void> =>
    new Promise((resolve) => {
      if (session === undefined || successor !== undefined || state.type !== 'connected') return resolve()
      eagerLimit.spend()
      const opened = parts.openSession({
        onEstablished: (message) => {
          const old = session
          session = opened
          successor = undefined
          parts.onEstablished(opened, message)
          old?.close()
          resolve()
        },
        onRekeyed: parts.onRekeyed,
        onMessage: (message, frameBytes) => parts.onMessage(opened, message, frameBytes),
        onEnd: (end) => {
          if (successor === opened) afterFailedHandOver(end)
          else afterEnd(opened, end, true)
          resolve()
        },
      })
      successor = opened
    })

  return {
    start: () => {
      if (isStarted || state.type === 'stopped') return
      isStarted = true
      connect()
    },
    stop,
    handOver,
    checkLiveness: () => {
      if (state.type === 'connected') session?.checkLiveness()
      else if (state.type === 'offline' && isStarted) connect()
    },
    get session() {
      return session
    },
    get state() {
      return state
    },
  }
}
