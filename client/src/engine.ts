// The client at work: runs what a session brings through one lane, in order, and stops for good at the first alarm.
// It owns the order of things when a session begins; the parts it calls own the rest.
// More than 300 lines: the beginning, the messages and the halting of a session are one order of events.

import {
  type ErrorMessage,
  findDevice,
  formatUuid,
  isSameId,
  type Presence,
  type ServerMessage,
  type SessionEstablished,
  type StorageNotice,
} from '@valise/protocol'
import { AccountError } from './account/account-error.ts'
import { DeviceRevokedError, readAccount, readDeviceLog, readEpochKeys, refuseRevoked } from './account/sync.ts'
import { AlarmError, blocksManagement, refusedFor, type StopCause, UpdateNeededError } from './alarm.ts'
import type { ClientLog } from './client-log.ts'
import type { Clock } from './clock.ts'
import type { Connector } from './connection/connector.ts'
import type { EagerLimit } from './connection/eager-limit.ts'
import { createHandover } from './connection/handover.ts'
import {
  createRequests,
  isHeldBack,
  RequestRefusedError,
  type Requests,
  SessionLostError,
} from './connection/requests.ts'
import type { Session } from './connection/session.ts'
import type { DeviceParts } from './device-parts.ts'
import { createLane, type Lane } from './lane.ts'
import { type Applied, checkLogEpoch } from './receive/receiver.ts'

export interface EngineParts {
  readonly device: DeviceParts
  readonly clock: Clock
  readonly log: ClientLog
  /** Uniform in [0, 1). */
  readonly random: () => number
  readonly eagerLimit: EagerLimit
  connector(): Connector
  onReplaying(head: number): void
  onLive(): void
  /** An alarm stopped events for good; the session stays, for changes of devices and keys. */
  onHalted(): void
  /** The events are stopped, and a session is up whose device log is verified. */
  onManaging(): void
  onPresence(message: Presence): void
  /** A device pushes out more of the others' events than it may. */
  onStorageNotice(message: StorageNotice): void
  /** The verified log says that this device was revoked. */
  onRevoked(): void
  /** The device log has grown. */
  onDeviceLog(): void
  /** A session has just begun, or events were applied: a checkpoint may be due. */
  onCheckpointMoment(isReconnect: boolean): void
}

export interface Engine {
  readonly lane: Lane
  /** The questions of the session that is up. */
  readonly requests: Requests | undefined
  /** The alarm that stopped events for good, while devices and keys can still be changed. */
  readonly halted: Extract<StopCause, { type: 'alarm' }> | undefined
  onEstablished(session: Session, message: SessionEstablished): void
  onMessage(session: Session, message: ServerMessage, frameBytes: number): void
  onGone(): void
  /** Publishes what waits, soon. */
  wake(): void
  /** Runs a task in the lane; alarms in it stop the client. Rejects as the task does. */
  guard<Result>(task: () => Promise<Result>): Promise<Result>
}

/** Above this much unprocessed input the client stops reading; below the half of it it goes on. */
const MAX_QUEUED_BYTES = 4 * 1024 * 1024
/** Where reading cannot be stopped, a session with so much unprocessed input is given up. */
const QUEUED_BYTES_LIMIT = 32 * 1024 * 1024
/** What a publish message takes besides its events. */
const MESSAGE_OVERHEAD_BYTES = 8192

export function createEngine(parts: EngineParts): Engine {
  const { device, clock, log } = parts
  const { book, epochKeys, publisher, receiver, localLog, identity, serverTime } = device
  const lane = createLane()
  let current: { session: Session; requests: Requests } | undefined
  let queuedBytes = 0
  let isWakeQueued = false
  let halted: Extract<StopCause, { type: 'alarm' }> | undefined

  const stop = (cause: StopCause): void => parts.connector().stop(cause)

  const halt = (cause: Extract<StopCause, { type: 'alarm' }>): void => {
    if (halted !== undefined) return
    halted = cause
    publisher.end()
    parts.onHalted()
    if (current !== undefined) parts.onManaging()
  }

  /** What a failed task means for the session and for the client. */
  const onFailure = (error: unknown): void => {
    if (error instanceof AlarmError) {
      log({ level: 'error', event: 'client.alarm.raise', code: error.alarm.code, ...error.alarm.detail })
      const cause = { type: 'alarm', alarm: error.alarm } as const
      if (blocksManagement(error.alarm)) stop(cause)
      else halt(cause)
    } else if (error instanceof UpdateNeededError) {
      log({ level: 'error', event: 'client.event.postpone' })
      stop(refusedFor('update_needed'))
    } else if (error instanceof DeviceRevokedError) {
      log({ level: 'warn', event: 'client.device.revoke' })
      parts.onRevoked()
    } else if (error instanceof AccountError) {
      log({ level: 'debug', event: 'client.account.refuse', code: error.code })
    } else if (error instanceof SessionLostError) {
      log({ level: 'debug', event: 'client.session.lose', reason: error.message })
    } else if (error instanceof RequestRefusedError) {
      log({ level: 'warn', event: 'client.request.refuse', code: error.answer.code })
      // Whoever signs waits and asks again; nothing else hangs on it.
      if (error.asked === 'append_device_log' && isHeldBack(error)) return
      current?.session.abandon({ type: 'given_up', text: 'The server refused a request; it will be asked again' })
    } else {
      log({ level: 'error', event: 'client.task.fail', error })
      const text = "This device's own store failed; nothing was acknowledged"
      current?.session.abandon({ type: 'given_up', text })
    }
  }

  const guard = <Result>(task: () => Promise<Result>): Promise<Result> => {
    const result = lane.run(task)
    result.catch(onFailure)
    return result
  }
  /** For a task of one session: dropped when the session is gone by the time its turn comes. */
  const run = (session: Session, task: () => Promise<void>): void => {
    guard(async () => {
      if (current?.session === session) await task()
    }).catch(() => {})
  }

  const wake = (): void => {
    if (isWakeQueued) return
    isWakeQueued = true
    guard(() => {
      isWakeQueued = false
      return publisher.pump()
    }).catch(() => {})
  }

  /**
   * The new session opens in a turn of the lane: meanwhile nothing the old one brings is worked on and nothing is asked,
   * so the new one finds this device where it stood when it began. What waits is dropped if it begins, for it will be
   * told again: events after the cursor, receipts as duplicates (P4).
   */
  const handover = createHandover({
    clock,
    random: parts.random,
    limit: parts.eagerLimit,
    attempt: () => guard(() => parts.connector().handOver()),
  })

  const checkDeviceLog = async (requests: Requests, message: SessionEstablished): Promise<void> => {
    const position = { seq: message.device_log_seq, head: message.device_log_head }
    const own = book.state
    if (own !== undefined && position.seq < own.seq) {
      throw new AlarmError('device_log_shorter', { seq: position.seq, known: own.seq })
    }
    if (book.compare(position) === 'ahead') await readDeviceLog(requests.ask, book, position.seq)
    if (book.compare(position) !== 'known') throw new AlarmError('device_log_forked', { seq: position.seq })
    refuseRevoked(book, epochKeys)
    await readEpochKeys(requests.ask, book, epochKeys)
    await device.holds.retry()
    if (findDevice(book.require(), identity.deviceId) === undefined) {
      throw new AlarmError('foreign_session', { device: formatUuid(identity.deviceId) })
    }
  }

  const begin = async (session: Session, requests: Requests, message: SessionEstablished): Promise<void> => {
    const isOurs = isSameId(message.user_id, identity.userId) && isSameId(message.device_id, identity.deviceId)
    if (!isOurs) throw new AlarmError('foreign_session', { device: formatUuid(message.device_id) })
    await checkDeviceLog(requests, message)
    if (current?.session !== session) return
    if (halted !== undefined) return parts.onManaging()
    checkLogEpoch(localLog.progress, { logEpoch: message.log_epoch, head: message.head })
    const { progress } = localLog
    if (progress.logEpoch === undefined) {
      const adopted = { ...progress, logEpoch: message.log_epoch, logEpochAtMs: message.log_epoch_at }
      await localLog.commit({ events: [], progress: adopted, deviceHeads: [], streamHeads: [], also: [] })
    }
    device.limits.maxPayload = message.limits.max_payload
    publisher.begin({
      lastDeviceSeq: message.last_device_seq,
      maxPayload: message.limits.max_payload,
      maxMessageEvents: message.limits.max_batch_events,
      maxMessageBytes: message.limits.max_frame - MESSAGE_OVERHEAD_BYTES,
      rates: message.limits,
      allowance: () => session.publishAllowance,
      send: (events) => session.send({ type: 'publish', events }),
    })
    session.send({ type: 'resume', cursor: receiver.begin(), log_epoch: message.log_epoch })
    parts.onReplaying(message.head)
    parts.onCheckpointMoment(true)
    await publisher.pump()
  }

  const applied = (session: Session, result: Applied): void => {
    if (result.type === 'ask_again') {
      session.abandon({ type: 'given_up', text: 'Events were missing; they are asked for again' })
      return
    }
    if (result.events > 0) {
      session.send({ type: 'ack', cursor: result.cursor })
      parts.onCheckpointMoment(false)
    }
  }

  const onError = (session: Session, message: ErrorMessage): void => {
    log({ level: 'warn', event: 'client.error.receive', code: message.code, field: message.field })
    if (message.code === 'unavailable' || message.code === 'rate_limited' || message.code === 'storage_low') {
      session.abandon({ type: 'given_up', text: 'The server cannot answer right now' })
    } else stop(refusedFor(message.code))
  }

  const handle = async (session: Session, requests: Requests, message: ServerMessage): Promise<void> => {
    if (halted !== undefined && isAboutEvents(message)) return
    switch (message.type) {
      case 'events':
        return applied(session, await receiver.apply(message))
      case 'caught_up': {
        const result = await receiver.caughtUp(message)
        applied(session, result)
        if (result.type === 'ask_again') return
        await device.checkpoints.compareInvitedView()
        return parts.onLive()
      }
      case 'receipts':
        await publisher.receipts(message)
        applied(session, await receiver.advance())
        parts.onCheckpointMoment(false)
        return publisher.pump()
      case 'refused':
        publisher.refused(message)
        return publisher.pump()
      case 'unavailable':
        publisher.unavailable(message.retry_after_ms)
        return publisher.pump()
      case 'resync_required':
        return receiver.resync(message)
      case 'device_log':
        if (message.head_seq <= book.require().seq) return
        await readAccount(requests.ask, book, epochKeys, message.head_seq)
        await device.holds.retry()
        return parts.onDeviceLog()
      case 'error':
        return onError(session, message)
      case 'session_expiring':
        return handover.before(message.expires_at - serverTime.now())
      case 'presence':
        return parts.onPresence(message)
      case 'storage_notice':
        return parts.onStorageNotice(message)
      case 'session_established':
      case 'registered':
        throw new AlarmError('malformed_message', { message: message.type })
      case 'envelopes':
      case 'device_log_appended':
      case 'pairing_opened':
      case 'draining':
      case 'ping':
      case 'pong':
        return
    }
  }

  /** Counts what waits for the lane and stops reading while it is too much. */
  const queue = (session: Session, frameBytes: number, task: () => Promise<void>): void => {
    queuedBytes += frameBytes
    if (queuedBytes > QUEUED_BYTES_LIMIT) session.abandon({ type: 'given_up', text: 'This device fell behind' })
    else if (queuedBytes > MAX_QUEUED_BYTES) session.pause()
    guard(async () => {
      try {
        if (current?.session === session) await task()
      } finally {
        queuedBytes -= frameBytes
        if (queuedBytes <= MAX_QUEUED_BYTES / 2) session.resume()
      }
    }).catch(() => {})
  }

  const end = (): void => {
    handover.cancel()
    current?.requests.close()
    current = undefined
    publisher.end()
  }

  return {
    lane,
    get requests() {
      return current?.requests
    },
    get halted() {
      return halted
    },
    onEstablished: (session, message) => {
      const requests = createRequests({
        clock,
        send: session.send,
        onOverdue: () => session.abandon({ type: 'silent' }),
      })
      end()
      current = { session, requests }
      serverTime.note(message.server_time)
      run(session, async () => {
        await serverTime.save()
        await begin(session, requests, message)
      })
    },
    onMessage: (session, message, frameBytes) => {
      if (current?.session !== session) return
      const { requests } = current
      const isAnswer =
        message.type === 'device_log' ||
        message.type === 'envelopes' ||
        message.type === 'device_log_appended' ||
        message.type === 'pairing_opened' ||
        message.type === 'error'
      // Tasks in the lane wait for these, so they do not queue behind them.
      if (isAnswer && requests.settle(message)) return
      // Its moment counts from now, however much waits before it in the lane.
      if (message.type === 'draining') return handover.after(message.reconnect_after_ms)
      queue(session, frameBytes, () => handle(session, requests, message))
    },
    onGone: end,
    wake,
    guard,
  }
}

/** What a client that an alarm has stopped takes no more notice of. */
const isAboutEvents = ({ type }: ServerMessage): boolean =>
  type === 'events' ||
  type === 'caught_up' ||
  type === 'receipts' ||
  type === 'refused' ||
  type === 'unavailable' ||
  type === 'resync_required'
