// The working session of a device: it supersedes an older one everywhere (SES-3), joins the user's hub before it looks
// at the log once more, so that neither an event nor a revocation falls between, and leaves all of it when it ends.
// More than 300 lines: how a session joins, hears and leaves has one order, which must be read as one.

import { type ClosingErrorCode, type Crypto, isSameId, type Limits, toDeviceId, toHex } from '@valise/protocol'
import type { PresenceAnnouncement } from '../bus/bus.ts'
import { type DeviceForSession, RECOVERY_ROLE } from '../db/queries/devices.ts'
import type { StoredPlace } from '../db/queries/events.ts'
import type { LogEpochRow } from '../db/queries/server-state.ts'
import type { BegunSession, SessionEnding } from '../db/queries/sessions.ts'
import type { Accounts } from '../devices/accounts.ts'
import { claimsToSave } from '../devices/entry-rules.ts'
import type { Pairings } from '../devices/pairing.ts'
import type { FairTurns } from '../limits/fair-turns.ts'
import type { RateLimits } from '../limits/rate-limits.ts'
import type { EndingHint } from '../log/announced.ts'
import { createDelivery, type Page } from '../log/delivery.ts'
import { type ControlAnnouncement, encodeEvents, type Hubs } from '../log/hub.ts'
import type { Intake } from '../log/intake.ts'
import { createEarlyNews } from '../presence/picture.ts'
import type { Presence } from '../presence/presence.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Tracing } from '../telemetry/tracing.ts'
import type { Connection } from './connection.ts'
import type { Dispatch } from './dispatch.ts'
import { createMessageHandler, type SessionStore } from './messages.ts'
import type { Meter } from './meter.ts'
import { createPublishing } from './publishing.ts'
import { logNamesOf, type Session } from './session.ts'
import { createSessionEndings } from './session-endings.ts'
import type { NumberedSession, SessionRegistry } from './session-registry.ts'
import { createStanding } from './standing.ts'
import type { StorageGate } from './storage-gate.ts'

export interface DeviceSessionParts {
  readonly crypto: Crypto
  readonly accounts: Pick<Accounts, 'append'>
  readonly pairings: Pick<Pairings, 'open'>
  readonly registry: SessionRegistry
  readonly hubs: Hubs
  readonly intake: Pick<Intake, 'submit'>
  readonly rateLimits: RateLimits
  /** Of requests that ask the database, and of pages of the log (LIM-11). */
  readonly requestTurns: FairTurns
  readonly pageTurns: FairTurns
  readonly storage: StorageGate
  readonly presence: Pick<Presence, 'join'>
  readonly store: SessionStore
  /** Numbers the session; undefined when the device may have none. */
  beginSession(userId: Uint8Array, deviceId: Uint8Array): Promise<BegunSession | undefined>
  /** From now on their numbers end older sessions that compare themselves with the database. */
  confirmSessions(begun: readonly NumberedSession[]): Promise<void>
  findDevice(deviceId: Uint8Array, userId: Uint8Array): Promise<DeviceForSession | undefined>
  /** Of these, those that must end. */
  findEnded(sessions: readonly NumberedSession[]): Promise<readonly SessionEnding[]>
  findStored(session: Session, deviceSeq: number): Promise<StoredPlace | undefined>
  onDisplacementLimit(session: Session): void
  /** Leaves out the device's own events. */
  readPage(session: Session, afterUserSeq: number, maxEvents: number): Promise<Page>
  readonly metrics: Pick<Metrics, 'log' | 'delivery'>
  readonly tracing: Tracing | undefined
  readonly log: Log
  readonly limits: Limits
  logEpoch(): LogEpochRow
  readonly retryAfterMs: number
  /** Unix milliseconds. */
  now(): number
  /** Milliseconds of a clock that never goes back. */
  monotonicMs(): number
}

/** Where a session comes from, and what its peer pays with. */
export interface Visitor {
  /** The key that the limits of the peer's address are kept by. */
  readonly address: string
  readonly meter: Meter
}

export interface DeviceSession {
  /** As it stood when the session began. */
  readonly device: DeviceForSession
  /** The client has been greeted. */
  start(): void
  readonly handle: Dispatch
  onWritable(): void
  tick(): void
  /** Resolves when what it has in flight is answered. */
  finish(): Promise<void>
  end(): void
}

export interface DeviceSessions {
  /** Rejects with SessionRefused when the device was cut off since its handshake. */
  open(session: Session, connection: Connection, { address, meter }: Visitor): Promise<DeviceSession>
  /** Resolves when the sessions that have ended have left everything. */
  whenLeft(): Promise<void>
  /** Ends sessions that were superseded, revoked or deleted elsewhere, should word of it have been lost (SES-3, DEV-6). */
  sweep(): Promise<void>
  /** Every session ends, and its device comes back. */
  endAll(): void
  /** Looks nothing up any more; after `whenLeft`. */
  close(): Promise<void>
}

export class SessionRefused extends Error {
  override readonly name = 'SessionRefused'
  readonly code: ClosingErrorCode

  constructor(code: ClosingErrorCode) {
    super(code)
    this.code = code
  }
}

/** Events of a page while other connections wait for theirs: each gets a little sooner. */
const PAGE_EVENTS_AMONG_OTHERS = 100
/** Acknowledged cursors are saved this often, in ticks of a second, and at the end. */
const SAVE_CURSOR_TICKS = 5
export function createDeviceSessions(parts: DeviceSessionParts): DeviceSessions {
  const { hubs, metrics, log } = parts
  const leaving = new Set<Promise<void>>()
  let behindCount = 0

  const endings = createSessionEndings({
    ...parts,
    onConfirmed: ({ userId, deviceId, number }) =>
      hubs.announce({ type: 'session_superseded', userId, deviceId, sessionNumber: number }),
  })

  const open = async (
    session: Session,
    connection: Connection,
    { address, meter }: Visitor,
  ): Promise<DeviceSession> => {
    const { userId, userKey, deviceId, deviceHash } = session
    const turn = { address, userKey }
    meter.become(userKey)
    const sessionLog = log.child({ ...logNamesOf(session) })
    const onFailure = (error: unknown): void => {
      sessionLog.error({ event: 'gateway.session.fail', err: error }, 'A request of a device failed')
    }

    const delivery = createDelivery({
      deviceId,
      readPage: (after, maxEvents) => {
        const most = parts.pageTurns.waitingCount > 0 ? PAGE_EVENTS_AMONG_OTHERS : parts.limits.max_page_events
        return parts.pageTurns.run(turn, () => parts.readPage(session, after, Math.min(maxEvents, most)))
      },
      isEmptied: async () => {
        const isDeleted = (await parts.findDevice(deviceId, userId))?.user.isDeleted === true
        if (isDeleted) connection.close('account_deleted')
        return isDeleted
      },
      allowance: connection.allowance,
      send: (items, through, page) => {
        connection.countDelivered(items.length)
        connection.sendEncoded(encodeEvents(items, through, page))
      },
      sendEncoded: (batch) => {
        connection.countDelivered(batch.items.length)
        connection.sendEncoded(batch.encode())
      },
      sendCaughtUp: (userSeq) => connection.send({ type: 'caught_up', user_seq: userSeq }),
      sendPruned: (from, to) => connection.send({ type: 'resync_required', reason: 'retention', from, to }),
      onBehind: (isBehind) => {
        behindCount += isBehind ? 1 : -1
        metrics.delivery.setConnectionsBehind(behindCount)
      },
      onCatchUp: metrics.delivery.countCatchUp,
      onFailure,
    })

    const onControl = (announcement: ControlAnnouncement): void => {
      switch (announcement.type) {
        case 'device_log':
          earlyLogSeq = announcement.seq
          return handler?.pushDeviceLog(announcement.seq)
        case 'device_revoked':
          if (toHex(announcement.deviceId) === session.deviceKey) connection.close('device_revoked')
          return
        case 'account_deleted':
          return connection.close('account_deleted')
        case 'session_superseded':
          return parts.registry.supersedeOlder(toHex(announcement.deviceId), announcement.sessionNumber)
        case 'storage_notice': {
          const aboutId = toDeviceId(announcement.deviceId)
          if (aboutId === undefined || isSameId(aboutId, deviceId)) return
          return connection.send({ type: 'storage_notice', device_id: aboutId, bytes: announcement.bytes })
        }
        case 'presence':
          if (presence === undefined) return earlyPresence.add(announcement)
          return presence.hear(announcement)
      }
    }

    const onHint = (hint: EndingHint): void => {
      if (hint.type !== 'account_deleted' && toHex(hint.deviceId) !== session.deviceKey) return
      isHinted = true
      if (opening.begun !== undefined) endings.hinted(opening.begun)
    }

    let handler: ReturnType<typeof createMessageHandler> | undefined
    let presence: ReturnType<Presence['join']> | undefined
    // Heard while the session was being numbered; the database may have been read before it happened.
    const earlyPresence = createEarlyNews<PresenceAnnouncement>()
    let earlyLogSeq = 0
    let isHinted = false
    const opening = parts.registry.open(session)
    const detach = await hubs.attach(userId, { delivery, onControl, onHint }, { deviceHash })
    let isEnded = false
    const leave = async (): Promise<void> => {
      if (isEnded) return
      isEnded = true
      delivery.close()
      opening.end()
      try {
        await Promise.all([handler?.saveCursor(), presence?.end(), detach()])
        sessionLog.debug({ event: 'gateway.session.end' }, 'A session ended and left nothing behind')
      } catch (error) {
        onFailure(error)
      }
    }

    let begun: BegunSession
    try {
      if (connection.isClosed()) throw new SessionRefused('session_superseded')
      begun = await admit(deviceId, userId)
      // Its socket went while the database numbered it: the number is never confirmed, and ends nothing.
      if (connection.isClosed()) throw new SessionRefused('session_superseded')
      const isNewest = opening.begin(begun.number, connection.close)
      if (!isNewest) throw new SessionRefused('session_superseded')
    } catch (error) {
      await leave()
      throw error
    }
    const { device } = begun
    if (opening.begun !== undefined) {
      endings.begun(opening.begun)
      if (isHinted) endings.hinted(opening.begun)
    }
    hubs.noteHead(userId, device.user.lastUserSeq)
    const present = parts.presence.join(session, begun, connection.send)
    presence = present
    earlyPresence.take().forEach(present.hear)

    const standing = createStanding(device.suspendedSeq !== undefined, async () => {
      const found = await parts.findDevice(deviceId, userId)
      return found?.suspendedSeq !== undefined
    })
    const publishing = createPublishing({
      crypto: parts.crypto,
      session,
      connection,
      intake: parts.intake,
      rateLimits: parts.rateLimits,
      storage: parts.storage,
      metrics: metrics.log,
      tracing: parts.tracing,
      maxPayload: parts.limits.max_payload,
      mayPublish: device.role !== RECOVERY_ROLE,
      isSuspended: standing.isSuspended,
      retryAfterMs: parts.retryAfterMs,
      findStored: (deviceSeq) => parts.findStored(session, deviceSeq),
      onDisplacementLimit: () => parts.onDisplacementLimit(session),
      onFailure,
      now: parts.now,
      monotonicMs: parts.monotonicMs,
    })
    const working = createMessageHandler({
      session,
      address,
      connection,
      publishing,
      standing,
      delivery,
      accounts: parts.accounts,
      pairings: parts.pairings,
      store: parts.store,
      rateLimits: parts.rateLimits,
      storage: parts.storage,
      isSaving: (entry) => device.role === RECOVERY_ROLE || claimsToSave(entry),
      logEpoch: () => parts.logEpoch().id,
      head: device.user.lastUserSeq,
      logSeq: device.user.logSeq,
      retryAfterMs: parts.retryAfterMs,
      charge: meter.charge,
      takeTurn: (work) => parts.requestTurns.run(turn, work),
      announce: hubs.announce,
      onReplay: metrics.delivery.countReplay,
      onFailure,
    })
    handler = working
    working.pushDeviceLog(earlyLogSeq)

    let ticks = 0
    return {
      device,
      start: present.start,
      handle: working.handle,
      onWritable: () => {
        working.onWritable()
        delivery.resume()
      },
      tick: () => {
        // What the database could not give before, it may give now; and some of the socket's bytes may be taken.
        working.onWritable()
        delivery.resume()
        if (++ticks % SAVE_CURSOR_TICKS === 0) working.saveCursor().catch(onFailure)
      },
      finish: publishing.whenAnswered,
      end: () => {
        const left = leave().finally(() => leaving.delete(left))
        leaving.add(left)
      },
    }
  }

  /** The session's number, and the device as it stands now that its user's channel is heard. */
  const admit = async (deviceId: Uint8Array, userId: Uint8Array): Promise<BegunSession> => {
    const begun = await parts.beginSession(userId, deviceId)
    if (begun !== undefined) return begun
    const device = await parts.findDevice(deviceId, userId)
    throw new SessionRefused(device?.user.isDeleted === false ? 'device_revoked' : 'account_deleted')
  }

  return {
    open,
    whenLeft: async () => {
      await Promise.all(leaving)
    },
    endAll: () => {
      for (const { deviceId } of parts.registry.sessions()) parts.registry.end(toHex(deviceId), 'server_draining')
    },
    sweep: endings.sweep,
    close: endings.close,
  }
}
