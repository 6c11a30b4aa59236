// Both databases for one suite: a PostgreSQL database of its own and PGlite in a folder of its own, migrated, with what
// they logged and counted. And accounts to fill them with.

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type EventLeaf, leafOf, lifetimeOf } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { runMigrations } from '../../src/db/migrate.ts'
import { openPglite } from '../../src/db/pglite.ts'
import { type Database, openPostgres } from '../../src/db/postgres.ts'
import { type DeviceLogChange, insertGenesis } from '../../src/db/queries/device-log.ts'
import type { AppendEvent, AppendRun, LogItem } from '../../src/db/queries/events.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts'
import { createTestDatabase } from './database.ts'
import { provideEmptyCluster } from './empty-cluster.ts'

export const DATABASE_KINDS = ['postgres', 'pglite'] as const

export interface OpenedDatabase {
  readonly db: Database
  /** Of the PostgreSQL database. */
  readonly url: string
  readonly metrics: Metrics
  /** The lines logged so far, as JSON. */
  readonly logged: string[]
  close(): Promise<void>
}

export interface OpenOptions {
  readonly slowQueryMs?: number
  readonly statementTimeoutMs?: number
  readonly isMigrated?: boolean
}

export function createCapturedParts(slowQueryMs = 1000) {
  const logged: string[] = []
  const metrics = createMetrics()
  const log = createLog({ level: 'debug', stream: { write: (line: string) => void logged.push(line) } })
  return { logged, metrics, parts: { log, metrics: metrics.database, slowQueryMs } }
}

export async function openDatabase(
  kind: (typeof DATABASE_KINDS)[number],
  { slowQueryMs, statementTimeoutMs, isMigrated = true }: OpenOptions = {},
): Promise<OpenedDatabase> {
  const { logged, metrics, parts } = createCapturedParts(slowQueryMs)
  if (kind === 'pglite') {
    const folder = await mkdtemp(join(tmpdir(), 'valise-database-'))
    await provideEmptyCluster(folder)
    const db = await openPglite({ ...parts, dataDir: join(folder, 'database') })
    if (isMigrated) await runMigrations(db)
    const close = async (): Promise<void> => {
      await db.close()
      await rm(folder, { recursive: true, force: true })
    }
    return { db, url: '', metrics, logged, close }
  }
  const database = await createTestDatabase()
  const db = await openPostgres({
    ...parts,
    url: database.url,
    poolSize: 6,
    ...(statementTimeoutMs === undefined ? {} : { statementTimeoutMs }),
  })
  if (isMigrated) await runMigrations(db)
  const close = async (): Promise<void> => {
    await db.close()
    await database.drop()
  }
  return { db, url: database.url, metrics, logged, close }
}

export interface TestDevice {
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  nextSeq: number
  chain: Uint8Array
}

export const hash = (): Uint8Array => randomBytes(32)
export const id = (): Uint8Array => randomBytes(16)

const NOTHING_ELSE = {
  suspended: [],
  cuts: [],
  pendingRecovery: undefined,
  pendingClose: undefined,
  countedDeviceId: undefined,
} as const

/** A genesis entry with `deviceCount` devices, all managers, at seq 0 and epoch 1. */
export function makeGenesis(deviceCount = 1, userId: Uint8Array = hash()): DeviceLogChange {
  const added = Array.from({ length: deviceCount }, () => ({ deviceId: id(), edPub: hash(), role: 2, chain: hash() }))
  return {
    userId,
    seq: 0,
    prevHead: new Uint8Array(32),
    head: hash(),
    entry: randomBytes(200),
    added,
    revoked: [],
    roles: [],
    epoch: { n: 1, links: [] },
    boxes: added.map(({ deviceId }) => ({ deviceId, epoch: 1, box: randomBytes(100) })),
    ...NOTHING_ELSE,
    isClosed: false,
  }
}

/** The entry after `before`, changing nothing but what `effects` says. */
export function makeEntry(before: DeviceLogChange, effects: Partial<DeviceLogChange> = {}): DeviceLogChange {
  return {
    userId: before.userId,
    seq: before.seq + 1,
    prevHead: before.head,
    head: hash(),
    entry: randomBytes(200),
    added: [],
    revoked: [],
    roles: [],
    epoch: undefined,
    boxes: [],
    ...NOTHING_ELSE,
    isClosed: false,
    ...effects,
  }
}

export async function addUser(
  db: Database,
  deviceCount = 1,
): Promise<{ devices: TestDevice[]; genesis: DeviceLogChange }> {
  const genesis = makeGenesis(deviceCount)
  await db.transaction({ name: 'test' }, (tx) => insertGenesis(tx, genesis))
  const devices = genesis.added.map(({ deviceId, chain }) => ({ userId: genesis.userId, deviceId, nextSeq: 1, chain }))
  return { devices, genesis }
}

export async function addDevice(db: Database): Promise<TestDevice> {
  const { devices } = await addUser(db)
  return devices[0]!
}

/** Random bytes, but for what the database reads of an event's bytes. */
export function makeWire({ ttlS = 0, flags = 0, bytes = 300 } = {}): Uint8Array {
  const wire = randomBytes(bytes)
  wire.writeUInt32BE(Math.min(ttlS, 0xffff_ffff), 165)
  wire[169] = flags
  return wire
}

/** The leaf of an event's bytes as the protocol has it. */
export const leafOfWire = (wire: Uint8Array): EventLeaf =>
  leafOf(nodeCrypto, {
    ttlS: lifetimeOf(wire),
    flags: wire[169] ?? 0,
    signedBytes: wire.subarray(0, -64),
    signature: wire.subarray(-64),
  })

export const leafOfItem = (item: LogItem): EventLeaf => (item.wire === undefined ? item.leaf : leafOfWire(item.wire))

export function makeEvents(count: number, event: Partial<AppendEvent> = {}): AppendEvent[] {
  return Array.from({ length: count }, () => ({
    streamId: new Uint8Array(16).fill(1),
    eventId: id(),
    epoch: 1,
    logSeq: 0,
    logHead: new Uint8Array(32),
    ttlS: 0,
    chain: hash(),
    wire: makeWire({ ttlS: event.ttlS }),
    checkpoint: undefined,
    ...event,
  }))
}

/** The run with which the device continues, as if it were going to be stored. */
export function continueRun(device: TestDevice, events: readonly AppendEvent[]): AppendRun {
  const run = {
    userId: device.userId,
    deviceId: device.deviceId,
    firstSeq: device.nextSeq,
    chainPrev: device.chain,
    events,
  }
  device.nextSeq += events.length
  device.chain = events.at(-1)?.chain ?? device.chain
  return run
}

/** Polls `read` until `isDone`, and fails after the deadline with what it was waiting for. */
export async function waitFor<T>(what: string, read: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> {
  const endAtMs = performance.now() + 20_000
  for (;;) {
    const value = await read()
    if (isDone(value)) return value
    if (performance.now() > endAtMs) throw new Error(`waited too long for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
