// Ends the sessions of this node that must end, as the database says: at the hint of another node, and in each sweep,
// should word have been lost (SES-3, DEV-6). And confirms the numbers of its own, which end older ones elsewhere.

import { toHex } from '@valise/protocol'
import { createPaced } from '../bus/paced.ts'
import type { SessionEnding } from '../db/queries/sessions.ts'
import type { Log } from '../telemetry/log.ts'
import type { NumberedSession, SessionRegistry } from './session-registry.ts'

export interface SessionEndingsParts {
  readonly registry: Pick<SessionRegistry, 'sessions' | 'supersedeOlder' | 'end'>
  /** From now on their numbers end older sessions that compare themselves with the database. */
  confirmSessions(begun: readonly NumberedSession[]): Promise<void>
  /** Of these, those that must end. */
  findEnded(sessions: readonly NumberedSession[]): Promise<readonly SessionEnding[]>
  /** The session's number is confirmed: other nodes may be told. */
  onConfirmed(session: NumberedSession): void
  readonly log: Log
  /** Milliseconds of a clock that never goes back. */
  monotonicMs(): number
}

export interface SessionEndings {
  /** It is confirmed soon, together with others. */
  begun(session: NumberedSession): void
  /** Another node says that it has to end: it is looked up soon, together with others. */
  hinted(session: NumberedSession): void
  /** Compares all sessions with the database. Never rejects. */
  sweep(): Promise<void>
  /** Looks nothing up any more. */
  close(): Promise<void>
}

/** As many rows of devices one statement locks. */
const CONFIRMED_AT_ONCE = 500
const LOOK_UP_EVERY_MS = 10
const CONFIRM_EVERY_MS = 25

export function createSessionEndings(parts: SessionEndingsParts): SessionEndings {
  const confirmed = new WeakSet<NumberedSession>()
  const onFailure = (err: unknown): void =>
    parts.log.error({ event: 'gateway.session.fail', err }, 'Sessions could not be compared with the database')

  const confirm = async (begun: readonly NumberedSession[]): Promise<void> => {
    for (let at = 0; at < begun.length; at += CONFIRMED_AT_ONCE) {
      const some = begun.slice(at, at + CONFIRMED_AT_ONCE)
      await parts.confirmSessions(some)
      for (const session of some) confirmed.add(session)
    }
  }

  const endEnded = async (held: readonly NumberedSession[]): Promise<void> => {
    for (const ending of await parts.findEnded(held)) {
      const deviceKey = toHex(ending.deviceId)
      if (ending.type === 'superseded') parts.registry.supersedeOlder(deviceKey, ending.number)
      else parts.registry.end(deviceKey, ending.type === 'revoked' ? 'device_revoked' : 'account_deleted')
    }
  }

  const pace = { monotonicMs: parts.monotonicMs, onFailure }
  const lookups = createPaced<NumberedSession>({ ...pace, intervalMs: LOOK_UP_EVERY_MS, run: endEnded })
  // Other nodes are told when the database knows it, because they ask the database.
  const confirmations = createPaced<NumberedSession>({
    ...pace,
    intervalMs: CONFIRM_EVERY_MS,
    run: async (sessions) => {
      await confirm(sessions)
      sessions.forEach(parts.onConfirmed)
    },
  })

  return {
    begun: confirmations.add,
    hinted: lookups.add,
    sweep: async () => {
      try {
        const held = parts.registry.sessions()
        await confirm(held.filter((session) => !confirmed.has(session)))
        await endEnded(held)
      } catch (error) {
        onFailure(error)
      }
    },
    close: async () => {
      await Promise.all([lookups.close(), confirmations.close()])
    },
  }
}
