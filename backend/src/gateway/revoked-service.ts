// The session of a device that was revoked: it is shown the entry that revoked it and what came before, so that it need
// not take the server's word, and nothing after.

import { type Crypto, entryHash, type FetchDeviceLog, MAX_DEVICE_LOG_PAGE, type UserId } from '@valise/protocol'
import type { DeviceLogRow } from '../db/queries/device-log.ts'
import type { Microseconds } from '../limits/costs.ts'
import type { Connection } from './connection.ts'
import { createDispatch } from './dispatch.ts'
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
  charge(cost: Microseconds): void
  /** Runs what asks the database when it is this device's turn (LIM-11). */
  takeTurn<T>(work: () => Promise<T>): Promise<T>
  /** Unix milliseconds. */
  now(): number
  onFailure(error: unknown): void
  /** The socket is gone. */
  onEnd(): void
}

/** Long enough to read a log of many pages, and no longer. */
const REVOKED_SESSION_MS = 10_000
/** Requests that wait for the database; a device that asks for more is cut off. */
const MAX_QUEUED_REQUESTS = 8
/** It may read what it is shown so many times a visit: a client reads it once, and once more after each doubt. */
const READINGS = 8
/** `fetch_device_log` and `ping` are small. */
const MAX_FRAME_BYTES = 1024

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
  connection.allowFrames(MAX_FRAME_BYTES)
  const endsAtMs = parts.now() + REVOKED_SESSION_MS
  /** Pages of the log up to the revocation, and one more that comes out empty. */
  let pagesLeft = READINGS * (Math.ceil((revokedSeq + 1) / MAX_DEVICE_LOG_PAGE) + 1)
  const close = (): void => connection.close('device_revoked')

  // One after another: the order of the answers says nothing of the database either.
  const queue = createRequestQueue({ hasRoom: connection.hasRoom, maxQueued: MAX_QUEUED_REQUESTS })

  const answer = async (message: FetchDeviceLog): Promise<void> => {
    if (connection.isClosed()) return
    const afterSeq = message.after_seq ?? -1
    // What came later is not even read: how long the answer takes says nothing of it.
    const limit = Math.min(MAX_DEVICE_LOG_PAGE, revokedSeq - afterSeq)
    const rows = limit > 0 ? await parts.takeTurn(() => parts.readDeviceLog(parts.userId, afterSeq, limit)) : []
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
    handle: createDispatch(
      {
        fetch_device_log: (message) => {
          if (--pagesLeft < 0 || !queue.add(() => answer(message).catch(fail))) close()
        },
        ping: ({ id }) => connection.send({ type: 'pong', id }),
        pong: () => {},
        register: close,
        publish: close,
        ack: close,
        resume: close,
        fetch_envelopes: close,
        append_device_log: close,
        open_pairing: close,
      },
      parts.charge,
    ),
    onWritable: queue.resume,
    tick: () => {
      queue.resume()
      if (parts.now() >= endsAtMs) close()
    },
    finish: async () => {},
    end: parts.onEnd,
  }
}
