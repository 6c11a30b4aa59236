// The session of a device that was revoked: it is shown the entry that revoked it and what came before, so that it need
// not take the server's word, and nothing after.

import { type Crypto, entryHash, type FetchDeviceLog, MAX_DEVICE_LOG_PAGE, type UserId } from '@valise/protocol'
import type { DeviceLogRow } from '../db/queries/device-log.ts'
import type { Connection } from './connection.ts'
import type { EstablishedService } from './established-service.ts'
import { createRequestQueue } from './request-queue.ts'
import type { SessionLogNames } from './session.ts'

export interface RevokedServiceParts {
  readonly crypto: Crypto
  readonly connection: Connection
  readonly userId: UserId
  readonly logNames: SessionLogNames
  /** Of the entry that revoked the device. */
  readonly revokedSeq: number
  readDeviceLog(userId: Uint8Array, afterSeq: number, limit: number): Promise<DeviceLogRow[]>
  /** Unix milliseconds. */
  now(): number
  onFailure(error: unknown): void
}

/** Long enough to read a log of many pages, and no longer. */
const REVOKED_SESSION_MS = 10_000
/** Requests that wait for the database; a device that asks for more is cut off. */
const MAX_QUEUED_REQUESTS = 32

/** The head of the log at the entry that revoked the device: all that the device is to know of it. */
export async function readRevokedHead(
  parts: Pick<RevokedServiceParts, 'crypto' | 'userId' | 'revokedSeq' | 'readDeviceLog'>,
): Promise<Uint8Array> {
  const [row] = await parts.readDeviceLog(parts.userId, parts.revokedSeq - 1, 1)
  if (row === undefined) throw new Error('the entry that revoked a device is not in its log')
  return entryHash(parts.crypto, row.entry)
}

export function createRevokedService(parts: RevokedServiceParts): EstablishedService {
  const { connection, revokedSeq } = parts
  const endsAtMs = parts.now() + REVOKED_SESSION_MS
  const close = (): void => connection.close('device_revoked')

  // One after another: the order of the answers says nothing of the database either.
  const queue = createRequestQueue({ hasRoom: connection.hasRoom, maxQueued: MAX_QUEUED_REQUESTS })

  const answer = async (message: FetchDeviceLog): Promise<void> => {
    if (connection.isClosed()) return
    const afterSeq = message.after_seq ?? -1
    // What came later is not even read: how long the answer takes says nothing of it.
    const limit = Math.min(MAX_DEVICE_LOG_PAGE, revokedSeq - afterSeq)
    const rows = limit > 0 ? await parts.readDeviceLog(parts.userId, afterSeq, limit) : []
    connection.send({
      type: 'device_log',
      request_id: message.request_id,
      entries: rows.map(({ entry }) => entry),
      head_seq: revokedSeq,
    })
  }

  const fail = (error: unknown): void => {
    parts.onFailure(error)
    // It comes back, and asks again.
    connection.close('internal_error')
  }

  return {
    logNames: parts.logNames,
    handle: (message) => {
      switch (message.type) {
        case 'fetch_device_log':
          if (!queue.add(() => answer(message).catch(fail))) close()
          return
        case 'ping':
          return connection.send({ type: 'pong', id: message.id })
        case 'pong':
          return
        default:
          return close()
      }
    },
    onWritable: queue.resume,
    tick: () => {
      queue.resume()
      if (parts.now() >= endsAtMs) close()
    },
    finish: async () => {},
    end: () => {},
  }
}
