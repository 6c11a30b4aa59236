// Events of the right form that nobody could open and nobody signed, stored by the thousand: for what moves a log and
// looks at none of it.

import {
  assembleEvent,
  chainStart,
  createEventId,
  type DeviceId,
  EVENT_NONCE_BYTES,
  EVENT_TAG_BYTES,
  encodeEventHeader,
  encodeLeafInput,
  leafHash,
  nextChain,
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
    const rest = { userId, deviceId, streamId, eventId, epoch: 1, logSeq: 0, ttlS: 0, isTombstone: false, nonce: NONCE }
    const header = encodeEventHeader({ ...rest, deviceSeq, chainPrev: chain })
    const leaf = leafHash(nodeCrypto, encodeLeafInput(header, CIPHERTEXT))
    chain = nextChain(nodeCrypto, chain, leaf)
    const wire = assembleEvent(header, CIPHERTEXT, SIGNATURE)
    return { streamId, eventId, logSeq: 0, ttlS: 0, leaf, chain, wire }
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
