// An append that is tried and taken back: what a node exists for, with every table, function and lock on its way.

import { randomBytes } from 'node:crypto'
import type { Database, Statement } from '../postgres.ts'
import { type DeviceLogChange, insertGenesis } from './device-log.ts'
import { type AppendRun, appendRuns } from './events.ts'

const EVENT_BYTES = 300

/** A commit of its own that changes no table: the log of the database takes it, and it is on the disk. */
const writeNothing: Statement = {
  name: 'write_nothing',
  operation: 'insert',
  text: `select pg_logical_emit_message(true, 'valise', '')`,
}

/** Ends the transaction, whose work must not stay. */
class TakenBack extends Error {
  override readonly name = 'TakenBack'
}

/** As `tryAppendOnly`, and commits an empty record after it. Rejects when something of it fails. */
export async function tryAppend(db: Database): Promise<void> {
  await tryAppendOnly(db)
  await db.query(writeNothing, [])
}

/** Registers a user, stores an event of theirs, and takes both back. Rejects when it cannot. */
export async function tryAppendOnly(db: Database): Promise<void> {
  try {
    await db.transaction({ name: 'try_append' }, async (tx) => {
      const genesis = makeGenesis()
      await insertGenesis(tx, genesis)
      const [verdict] = await appendRuns(tx, [makeRun(genesis)])
      if (verdict?.status !== 'stored') throw new Error(`a tried append was answered ${verdict?.status ?? 'nothing'}`)
      throw new TakenBack()
    })
  } catch (error) {
    if (!(error instanceof TakenBack)) throw error
  }
}

function makeGenesis(): DeviceLogChange {
  const device = { deviceId: randomBytes(16), edPub: randomBytes(32), role: 2, chain: randomBytes(32) }
  return {
    userId: randomBytes(32),
    seq: 0,
    prevHead: new Uint8Array(32),
    head: randomBytes(32),
    entry: randomBytes(EVENT_BYTES),
    added: [device],
    revoked: [],
    suspended: [],
    cuts: [],
    roles: [],
    epoch: { n: 1, links: [] },
    boxes: [{ deviceId: device.deviceId, epoch: 1, box: randomBytes(EVENT_BYTES) }],
    pendingRecovery: undefined,
    pendingClose: undefined,
    countedDeviceId: undefined,
    isClosed: false,
  }
}

function makeRun({ userId, head, added: [device] }: DeviceLogChange): AppendRun {
  if (device === undefined) throw new Error('a genesis has a device')
  const event = {
    streamId: randomBytes(16),
    eventId: randomBytes(16),
    epoch: 1,
    logSeq: 0,
    logHead: head,
    ttlS: 0,
    chain: randomBytes(32),
    wire: randomBytes(EVENT_BYTES),
    checkpoint: undefined,
  }
  return { userId, deviceId: device.deviceId, firstSeq: 1, chainPrev: device.chain, events: [event] }
}
