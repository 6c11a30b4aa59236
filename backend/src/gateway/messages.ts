// What each client message does on an established session: the one place where messages meet the log, the device log
// and delivery. Requests to the database run one after another a connection, in a bounded queue.

import {
  type AppendDeviceLog,
  type DeviceId,
  type ErrorCode,
  equalBytes,
  type FetchDeviceLog,
  type FetchEnvelopes,
  isSameId,
  MAX_DEVICE_LOG_PAGE,
  type OpenPairing,
  parseSignedEntry,
  type Resume,
} from '@valise/protocol'
import type { DeviceLogRow } from '../db/queries/device-log.ts'
import type { EnvelopePage } from '../db/queries/envelopes.ts'
import type { Accounts } from '../devices/accounts.ts'
import type { Pairings } from '../devices/pairing.ts'
import type { Microseconds } from '../limits/costs.ts'
import type { RateLimits } from '../limits/rate-limits.ts'
import type { Delivery } from '../log/delivery.ts'
import type { ControlAnnouncement } from '../log/hub.ts'
import { createAcknowledgedCursor } from './acknowledged-cursor.ts'
import type { Connection } from './connection.ts'
import { createDispatch, type Dispatch } from './dispatch.ts'
import type { Publishing } from './publishing.ts'
import { createRequestQueue } from './request-queue.ts'
import type { Session } from './session.ts'
import type { Standing } from './standing.ts'
import type { StorageGate } from './storage-gate.ts'

/** The tables a session may read and write, bound to the database. */
export interface SessionStore {
  readHead(userId: Uint8Array): Promise<number>
  saveCursor(userId: Uint8Array, deviceId: Uint8Array, cursor: number): Promise<void>
  /** After `afterSeq`, -1 for all; at most `limit`. */
  readDeviceLog(userId: Uint8Array, afterSeq: number, limit: number): Promise<DeviceLogRow[]>
  readDeviceLogSeq(userId: Uint8Array): Promise<number>
  readEnvelopes(userId: Uint8Array, deviceId: Uint8Array, afterEpoch: number): Promise<EnvelopePage>
  /** The device has the epochs up to here. */
  dropReadEnvelopes(userId: Uint8Array, deviceId: Uint8Array, throughEpoch: number): Promise<void>
  /** The device has these epochs: it has linked them itself. */
  dropLinkedEnvelopes(userId: Uint8Array, deviceId: Uint8Array, epochs: readonly number[]): Promise<void>
}

export interface MessageParts {
  readonly session: Session
  /** The key that the limits of the peer's address are kept by. */
  readonly address: string
  readonly connection: Connection
  readonly publishing: Publishing
  readonly standing: Standing
  readonly delivery: Delivery
  readonly accounts: Pick<Accounts, 'append'>
  readonly pairings: Pick<Pairings, 'open'>
  readonly store: SessionStore
  readonly rateLimits: Pick<RateLimits, 'refuseAppend'>
  readonly storage: StorageGate
  /** The entry takes power from a device, or the phrase proves it. */
  isSaving(entry: Uint8Array): boolean
  logEpoch(): Uint8Array
  /** The user's head when the session began. */
  readonly head: number
  /** The head of the device log when the session began: the peer is told it in its greeting. */
  readonly logSeq: number
  readonly retryAfterMs: number
  charge(cost: Microseconds): void
  /** Runs what asks the database when it is this user's turn (LIM-11). */
  takeTurn(work: () => Promise<void>): Promise<void>
  announce(announcement: ControlAnnouncement): void
  onReplay(): void
  onFailure(error: unknown): void
}

export interface MessageHandler {
  readonly handle: Dispatch
  /** The device log reaches to here: its new entries are told without being asked. */
  pushDeviceLog(seq: number): void
  /** The socket may have room again. */
  onWritable(): void
  /** Saves the newest acknowledged cursor, if it is not saved yet. */
  saveCursor(): Promise<void>
}

/** Requests of one connection that wait for the database. */
const MAX_QUEUED_REQUESTS = 32

export function createMessageHandler(parts: MessageParts): MessageHandler {
  const { session, connection, delivery, store } = parts
  const queue = createRequestQueue({ hasRoom: connection.hasRoom, maxQueued: MAX_QUEUED_REQUESTS })
  /** The peer knows the device log up to `toldLogSeq`; the entries up to `knownLogSeq` are still to be sent. */
  let toldLogSeq = parts.logSeq
  let knownLogSeq = parts.logSeq
  const acknowledged = createAcknowledgedCursor((cursor) => store.saveCursor(session.userId, session.deviceId, cursor))

  const retryAfterMsOf = (code: ErrorCode): number | undefined =>
    code === 'unavailable' || code === 'rate_limited' ? parts.retryAfterMs : undefined

  const fail = (code: ErrorCode, requestId?: number, rule?: string, retryAfterMs = retryAfterMsOf(code)): void => {
    connection.send({
      type: 'error',
      code,
      ...(requestId === undefined ? {} : { request_id: requestId }),
      ...(rule === undefined ? {} : { rule }),
      ...(retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }),
    })
  }

  const answering = (requestId: number | undefined, work: () => Promise<void>) => async (): Promise<void> => {
    try {
      await parts.takeTurn(async () => {
        if (!connection.isClosed()) await work()
      })
    } catch (error) {
      parts.onFailure(error)
      fail('unavailable', requestId)
    }
  }

  const enqueue = (requestId: number | undefined, work: () => Promise<void>): void => {
    if (!queue.add(answering(requestId, work))) fail('rate_limited', requestId)
  }

  const resume = async (message: Resume): Promise<void> => {
    parts.onReplay()
    const head = message.cursor > parts.head ? await store.readHead(session.userId) : parts.head
    if (message.log_epoch !== null && !equalBytes(message.log_epoch, parts.logEpoch())) {
      return connection.send({
        type: 'resync_required',
        reason: 'log_epoch_changed',
        from: Math.min(1, head),
        to: head,
      })
    }
    if (message.cursor > head) {
      return connection.send({
        type: 'resync_required',
        reason: 'cursor_beyond_head',
        from: Math.min(1, head),
        to: head,
      })
    }
    delivery.start(message.cursor, head)
  }

  const sendDeviceLog = async (requestId: number | null, afterSeq: number): Promise<void> => {
    const rows = await store.readDeviceLog(session.userId, afterSeq, MAX_DEVICE_LOG_PAGE)
    const headSeq = await store.readDeviceLogSeq(session.userId)
    connection.send({
      type: 'device_log',
      request_id: requestId,
      entries: rows.map((row) => row.entry),
      head_seq: headSeq,
    })
  }

  /** However many entries come while the peer takes nothing, one message tells of them: it holds the newest head. */
  const tellDeviceLog = async (): Promise<void> => {
    // Before the device can know: an entry it is told may be the one that suspends it.
    await parts.standing.refresh()
    const afterSeq = toldLogSeq
    toldLogSeq = knownLogSeq
    await sendDeviceLog(null, afterSeq)
  }

  /** Whether the last page of envelopes has one to follow: a device stores none of them before it has the last. */
  let isPaging = false

  const fetchEnvelopes = async (message: FetchEnvelopes): Promise<void> => {
    const page = await store.readEnvelopes(session.userId, session.deviceId, message.after_epoch)
    connection.send({
      type: 'envelopes',
      request_id: message.request_id,
      boxes: page.boxes.map(({ epoch, box }) => ({ epoch, box })),
      links: page.links.map(({ epoch, prevEpoch, box }) => ({ epoch, prev_epoch: prevEpoch, box })),
      is_last: page.isLast,
    })
    const isNextPage = isPaging
    isPaging = !page.isLast
    if (isNextPage || message.after_epoch === 0) return
    // The device has its answer already; a later request drops what stays now.
    await store.dropReadEnvelopes(session.userId, session.deviceId, message.after_epoch).catch(parts.onFailure)
  }

  const appendDeviceLog = async (message: AppendDeviceLog): Promise<void> => {
    const append = { bytes: bytesOf(message), isSaving: parts.isSaving(message.entry) }
    const retryAfterMs = parts.rateLimits.refuseAppend(session, append)
    if (retryAfterMs !== undefined) return fail('rate_limited', message.request_id, undefined, retryAfterMs)
    if (!append.isSaving && parts.storage.isPublishingClosed()) {
      parts.storage.countRefused(1)
      return fail('storage_low', message.request_id, undefined, parts.storage.retryAfterMs)
    }
    const outcome = await parts.accounts.append(session.userId, message)
    switch (outcome.type) {
      case 'deleted':
        return connection.close('account_deleted')
      case 'log_head_moved':
      case 'envelope_mismatch':
        return fail(outcome.type, message.request_id)
      case 'refused':
        return fail('device_log_refused', message.request_id, outcome.rule, outcome.retryAfterMs)
      case 'appended': {
        const { seq, isClosed, epoch } = outcome.state
        connection.send({ type: 'device_log_appended', request_id: message.request_id, seq })
        if (epoch.logSeq === seq && !isClosed && isSignedBy(message.entry, session.deviceId)) {
          const linked = epoch.links.map(({ n }) => n)
          await store.dropLinkedEnvelopes(session.userId, session.deviceId, linked).catch(parts.onFailure)
        }
        if (isClosed) return parts.announce({ type: 'account_deleted', userId: session.userId })
        parts.announce({ type: 'device_log', userId: session.userId, seq })
        for (const deviceId of outcome.revoked) {
          parts.announce({ type: 'device_revoked', userId: session.userId, deviceId })
        }
      }
    }
  }

  const openPairing = async (message: OpenPairing): Promise<void> => {
    if (parts.standing.isSuspended()) return fail('device_suspended', message.request_id)
    const opener = { type: 'user' as const, userId: session.userId, address: parts.address }
    const seat = { mailboxId: message.mailbox_id, seatKey: message.seat_key }
    const opened = await parts.pairings.open(opener, seat)
    switch (opened.type) {
      case 'opened':
        return connection.send({
          type: 'pairing_opened',
          request_id: message.request_id,
          nameplate: opened.nameplate,
          lifetime_ms: opened.lifetimeMs,
        })
      case 'taken':
        return fail('pairing_taken', message.request_id)
      case 'limited':
        return fail('rate_limited', message.request_id, undefined, opened.retryAfterMs)
    }
  }

  const fetchDeviceLog = (message: FetchDeviceLog): Promise<void> =>
    sendDeviceLog(message.request_id, message.after_seq ?? -1)

  return {
    handle: createDispatch(
      {
        publish: (message) => {
          connection.countPublished(message.events.length)
          parts.publishing.publish(message)
        },
        ack: ({ cursor }) => acknowledged.acknowledge(cursor),
        ping: ({ id }) => connection.send({ type: 'pong', id }),
        pong: () => {},
        resume: (message) => enqueue(undefined, () => resume(message)),
        fetch_device_log: (message) => enqueue(message.request_id, () => fetchDeviceLog(message)),
        fetch_envelopes: (message) => enqueue(message.request_id, () => fetchEnvelopes(message)),
        append_device_log: (message) => enqueue(message.request_id, () => appendDeviceLog(message)),
        open_pairing: (message) => enqueue(message.request_id, () => openPairing(message)),
        register: () => fail('already_registered'),
      },
      parts.charge,
    ),
    pushDeviceLog: (seq) => {
      if (seq <= knownLogSeq) return
      const isQueued = knownLogSeq > toldLogSeq
      knownLogSeq = seq
      if (!isQueued) queue.insist(answering(undefined, tellDeviceLog))
    },
    onWritable: queue.resume,
    saveCursor: acknowledged.save,
  }
}

const bytesOf = ({ entry, boxes, links }: AppendDeviceLog): number =>
  [...boxes, ...links].reduce((sum, { box }) => sum + box.length, entry.length)

function isSignedBy(entry: Uint8Array, deviceId: DeviceId): boolean {
  const signer = parseSignedEntry(entry)?.header.signer
  return signer !== undefined && isSameId(signer, deviceId)
}
