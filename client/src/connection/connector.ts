// Keeps one session alive: opens it, and after each end stops for good or comes back as the policy says, with full
// jitter. It knows nothing of events; it says when a session is up and when it is gone.

import type { ServerMessage, SessionEstablished } from '@valise/protocol'
import type { StopCause } from '../alarm.ts'
import type { Backoff } from '../backoff.ts'
import type { Clock } from '../clock.ts'
import { decideAfterEnd } from './reconnect-policy.ts'
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
  openSession(handlers: SessionHandlers): Session
  onEstablished(session: Session, message: SessionEstablished): void
  onMessage(session: Session, message: ServerMessage, frameBytes: number): void
  onRekeyed(): void
  /** The session that was established is gone. */
  onGone(): void
  onState(state: ConnectorState): void
}

export interface Connector {
  start(): void
  /** Ends the session and never opens another. */
  stop(cause: StopCause): void
  readonly session: Session | undefined
  readonly state: ConnectorState
}

export function createConnector(parts: ConnectorParts): Connector {
  const { clock, backoff } = parts
  let state: ConnectorState = { type: 'offline', text: 'Not started', retryAtMs: undefined }
  let session: Session | undefined
  let isStarted = false
  let cancelRetry = (): void => {}

  const setState = (next: ConnectorState): void => {
    state = next
    parts.onState(next)
  }

  const stop = (cause: StopCause): void => {
    if (state.type === 'stopped') return
    cancelRetry()
    const last = session
    session = undefined
    // First the state, so that the session's end is not taken for a reason to come back.
    state = { type: 'stopped', cause }
    last?.close()
    parts.onGone()
    parts.onState(state)
  }

  const connect = (): void => {
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
      onEnd: (end) => afterEnd(end, wasEstablished),
    })
    session = opened
  }

  const afterEnd = (end: SessionEnd, wasEstablished: boolean): void => {
    if (state.type === 'stopped') return
    session = undefined
    const next = decideAfterEnd(end, wasEstablished)
    if (next.type === 'stop') {
      stop(next.cause)
      return
    }
    const delayMs = next.when === 'now' ? 0 : backoff.next()
    cancelRetry = clock.after(delayMs, connect)
    parts.onGone()
    setState({ type: 'offline', text: next.text, retryAtMs: clock.now() + delayMs })
  }

  return {
    start: () => {
      if (isStarted || state.type === 'stopped') return
      isStarted = true
      connect()
    },
    stop,
    get session() {
      return session
    },
    get state() {
      return state
    },
  }
}
