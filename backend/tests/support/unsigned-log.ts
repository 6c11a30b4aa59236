// Events of the right form that nobody could open and nobody signed, stored by the thousand: for what moves a log and
// looks at none of it.

import {
  assembleEvent,
  chainAfter,
  chainStart,
  createEventId,
  type DeviceId,
  EVENT_NONCE_BYTES,
  EVENT_TAG_BYTES,
  encodeEventHeader,
  encodeSignedBytes,
  leafOf,
  type StreamId,
  type UserId,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { openPostgres } from '../../src/db/postgres.ts'
import { type AppendEvent, appendRuns } from '../../src/db/queries/events.ts'
import { createCapturedParts } from './open-database.ts'

const BATCH = 500
const CIPHERTEXT = new Uint8Array(128 + EVENT_TAG_BYTES)
const SIGNATURE = new Uint8Array(64)
/** Compared by no one who looks at nothing. */
const ANY_HEAD = new Uint8Array(32)
const NONCE = new Uint8Array(EVENT_NONCE_BYTES)

export interface UnsignedLogParts {
  readonly databaseUrl: string
  readonly userId: UserId
  /** Has published nothing yet. */
  readonly deviceId: DeviceId
  readonly streamId: StreamId
  readonly count: number
}

export async function storeUnsignedLog(parts: UnsignedLogParts): Promise<void> {
  const { userId, deviceId, streamId, count } = parts
  const db = await openPostgres({ ...createCapturedParts().parts, url: parts.databaseUrl, poolSize: 2 })
  let chain = chainStart(nodeCrypto, userId, deviceId)
  const next = (deviceSeq: number): AppendEvent => {
    const eventId = createEventId(Date.now(), nodeCrypto.randomBytes(10))
    const sealed = { epoch: 1, logSeq: 0, logHead: ANY_HEAD, ttlS: 0, checkpoint: undefined }
    const kind = { isTombstone: false, isKept: false, nonce: NONCE }
    const header = encodeEventHeader({
      userId,
      deviceId,
      streamId,
      eventId,
      ...sealed,
      ...kind,
      deviceSeq,
      chainPrev: chain,
    })
    const signedBytes = encodeSignedBytes(header, CIPHERTEXT)
    chain = chainAfter(nodeCrypto, chain, leafOf(nodeCrypto, { ttlS: 0, flags: 0, signedBytes, signature: SIGNATURE }))
    const wire = assembleEvent(header, CIPHERTEXT, SIGNATURE)
    return { streamId, eventId, ...sealed, chain, wire }
  }
  try {
    for (let stored = 0; stored < count; ) {
      const firstSeq = stored + 1
      const chainPrev = chain
      const events = Array.from({ length: Math.min(BATCH, count - stored) }, (_, i) => next(firstSeq + i))
      const verdicts = await appendRuns(db, [{ userId, deviceId, firstSeq, chainPrev, events }])
      if (verdicts.some(({ status }) => status !== 'stored')) throw new Error('the log was not stored')
      stored += events.length
    }
  } finally {
    await db.close()
  }
}
