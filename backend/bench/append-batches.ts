// Batches for `appendRuns` without a client: devices of accounts that the database alone knows, and random events that
// continue their chains.

import { randomBytes } from 'node:crypto'
import type { Database } from '../src/db/postgres.ts'
import { insertGenesis } from '../src/db/queries/device-log.ts'
import type { AppendRun } from '../src/db/queries/events.ts'

/** A sealed event with 256 bytes of content: header, padded ciphertext, signature. */
const WIRE_BYTES = 540
const ZERO_HASH = new Uint8Array(32)
const wire = randomBytes(WIRE_BYTES)

export interface Device {
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly streamId: Uint8Array
  nextSeq: number
  chain: Uint8Array
}

/** `batchSize` events, of as many devices as there are for them, which take turns. */
export function makeBatch(devices: readonly Device[], batchSize: number, turn: number): AppendRun[] {
  const runCount = Math.min(batchSize, devices.length)
  return Array.from({ length: runCount }, (_, i) => {
    const device = devices[(turn * runCount + i) % devices.length]
    if (device === undefined) throw new Error('no device')
    const count = Math.floor(batchSize / runCount) + (i < batchSize % runCount ? 1 : 0)
    const run = { ...device, firstSeq: device.nextSeq, chainPrev: device.chain }
    const random = randomBytes(count * (16 + 32))
    const events = Array.from({ length: count }, (_, j) => ({
      streamId: device.streamId,
      eventId: random.subarray(48 * j, 48 * j + 16),
      epoch: 1,
      logSeq: 0,
      logHead: ZERO_HASH,
      ttlS: 0,
      chain: random.subarray(48 * j + 16, 48 * j + 48),
      wire,
      checkpoint: undefined,
    }))
    device.nextSeq += count
    device.chain = events.at(-1)?.chain ?? device.chain
    return { ...run, events }
  })
}

/** The first device of a new account. */
export async function addDevice(target: Database): Promise<Device> {
  const device = {
    userId: randomBytes(32),
    deviceId: randomBytes(16),
    streamId: randomBytes(16),
    nextSeq: 1,
    chain: randomBytes(32),
  }
  await target.transaction({ name: 'bench' }, (tx) =>
    insertGenesis(tx, {
      userId: device.userId,
      seq: 0,
      prevHead: ZERO_HASH,
      head: randomBytes(32),
      entry: randomBytes(64),
      added: [{ deviceId: device.deviceId, edPub: randomBytes(32), role: 2, chain: device.chain }],
      revoked: [],
      roles: [],
      epoch: { n: 1, links: [] },
      boxes: [],
      suspended: [],
      cuts: [],
      pendingRecovery: undefined,
      pendingClose: undefined,
      countedDeviceId: undefined,
      isClosed: false,
    }),
  )
  return device
}
