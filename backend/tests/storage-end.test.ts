// The end of the storage, before it comes: with little left nobody registers, with very little nobody publishes, and what
// protects an account goes on. An embedded database on a small disk, and a PostgreSQL with a bound.

import { statfsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ServerMessage } from '@valise/protocol'
import pg from 'pg'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../client/src/clock.ts'
import { onSmallDisk } from '../../scripts/small-disk.mjs'
import type { RawConfig } from '../src/config.ts'
import { openPglite } from '../src/db/pglite.ts'
import { releaseWal } from '../src/db/queries/server-state.ts'
import { storageLevelOf } from '../src/limits/storage-level.ts'
import { startStorageWatch } from '../src/storage/storage-watch.ts'
import {
  appendEntry,
  authorOf,
  createKeys,
  offerEntry,
  openRegistration,
  register,
  sealGenesis,
  sealRevoke,
  sealRotate,
} from './bad-input/entries.ts'
import { follow, roundTrip } from './event-ordering/publishing.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { startNodeProcess } from './support/node-process.ts'
import { createCapturedParts } from './support/open-database.ts'
import type { SessionTarget } from './support/raw-device.ts'
import { openSdkDevice } from './support/sdk-device.ts'
import { startTestServer } from './support/server.ts'

const MIB = 1024 * 1024
const LOW_BYTES = 96 * MIB
/** Room for two segments of the write-ahead log, and for what was let in before the level was seen. */
const CRITICAL_BYTES = 64 * MIB
const MARKS: RawConfig = {
  VALISE_STORAGE_LOW_BYTES: String(LOW_BYTES),
  VALISE_STORAGE_CRITICAL_BYTES: String(CRITICAL_BYTES),
  VALISE_INTAKE_BUFFER_BYTES: String(4 * MIB),
}
/** A new cluster takes some 60 MiB with its write-ahead log. */
const DISK_BYTES = 320 * MIB
const DATABASE_BYTES = 160 * MIB
/** More than there is room for, with the write-ahead log about twice as much. */
const FLOOD_BYTES = 48 * MIB
const FLOOD_EVENT_BYTES = 128 * 1024

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

interface SmallStorage extends SessionTarget {
  readonly adminUrl: string
  /** Takes what there is but for so much, with something that is not Valise's. */
  fillTo(leftBytes: number): Promise<void>
  free(): Promise<void>
}

/** The server alone sees its disk; this process reaches it through the server's own view of the file system. */
async function startOnSmallDisk(): Promise<SmallStorage> {
  const folder = await mkdtemp(join(tmpdir(), 'valise-small-'))
  undo.push(() => rm(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  await mkdir(dataDir)
  const identity = { uid: process.getuid!(), gid: process.getgid!() }
  const flags: RawConfig = {
    ...MARKS,
    PORT: '0',
    ADMIN_PORT: '0',
    VALISE_LOG_LEVEL: 'silent',
    VALISE_DRAIN_MS: '0',
    VALISE_DATA_DIR: dataDir,
    VALISE_IDENTITY_FILE: join(folder, 'identity.key'),
  }
  const node = await startNodeProcess(flags, undefined, [], ({ command, args }) =>
    onSmallDisk({ folder: dataDir, bytes: DISK_BYTES, identity, command, args: [...args] }),
  )
  undo.push(async () => {
    node.signal('SIGTERM')
    expect(await node.exited).toBe(0)
  })
  const seen = `/proc/${node.pid}/root${dataDir}`
  const ballast = join(seen, 'ballast')
  return {
    ...node,
    fillTo: async (leftBytes) => {
      const { bavail, bsize } = statfsSync(seen)
      await writeFile(ballast, Buffer.alloc(bavail * bsize - leftBytes), { flag: 'a' })
    },
    free: () => rm(ballast),
  }
}

async function startWithBound(): Promise<SmallStorage> {
  const server = await startTestServer({
    database: 'postgres',
    flags: { ...MARKS, VALISE_DATABASE_BYTES: String(DATABASE_BYTES) },
  })
  undo.push(server.close)
  const sql = new pg.Client({ connectionString: server.databaseUrl })
  await sql.connect()
  undo.push(() => sql.end())
  await sql.query('create unlogged table ballast (filler text)')
  return {
    url: server.url,
    fingerprint: server.fingerprint,
    adminUrl: server.app.adminUrl,
    fillTo: async (leftBytes) => {
      const { rows } = await sql.query('select pg_database_size(current_database())::bigint as bytes')
      const taken = DATABASE_BYTES - Number(rows[0].bytes) - leftBytes
      // Rows that fill a page each.
      await sql.query(`insert into ballast select repeat('x', 1960) from generate_series(1, $1::integer) as n`, [
        Math.floor(taken / 2048),
      ])
    },
    free: async () => {
      await sql.query('truncate ballast')
    },
  }
}

const readyOf = async ({ adminUrl }: SmallStorage) => {
  const response = await fetch(`${adminUrl}/ready`)
  const { notes } = (await response.json()) as { notes: string[] }
  return { status: response.status, notes: notes.filter((note) => note.startsWith('storage')) }
}
const metricOf = async ({ adminUrl }: SmallStorage, name: string): Promise<number> => {
  const text = await (await fetch(`${adminUrl}/metrics`)).text()
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `))
  return Number(line?.slice(name.length + 1))
}
const untilLevel = (storage: SmallStorage, level: number): Promise<unknown> =>
  until(async () => expect(await metricOf(storage, 'valise_storage_level')).toBe(level))
const until = (check: () => unknown): Promise<unknown> => vi.waitFor(check, { timeout: 30_000, interval: 50 })

const refusalOf = (answer: ServerMessage) =>
  answer.type === 'error' ? { code: answer.code, isTimed: (answer.retry_after_ms ?? 0) > 0 } : answer.type

async function registerOne(target: SessionTarget): Promise<ReturnType<typeof refusalOf>> {
  const keys = await createKeys('manager')
  const session = await openRegistration(target, keys)
  const answer = await register(session, await sealGenesis(keys))
  session.drop()
  return refusalOf(answer)
}

const LOW = { code: 'storage_low', isTimed: true }
const TEXTS = ['one', 'two', 'three', 'four', 'five']

describe.each([
  ['an embedded database on a small disk', startOnSmallDisk],
  ['a PostgreSQL with a bound', startWithBound],
])('%s', (_title, start) => {
  test('LIM-28, P3: registration closes, then publishing; revoking and reading go on; with room again all is stored once, in order', {
    timeout: 120_000,
  }, async () => {
    const storage = await start()
    const { devices } = await createAccount(storage, { devices: 3 })
    const [writing, reading, arriving] = devices as [TestDevice, TestDevice, TestDevice]
    // Of another user, since nobody can open the boxes of its next epoch.
    const account = await createAccount(storage, { devices: 2 })
    const [managing, lost] = account.devices as [TestDevice, TestDevice]
    const writer = await openSdkDevice(storage, writing, systemClock)
    undo.push(writer.close)
    const reader = await openSdkDevice(storage, reading, systemClock)
    undo.push(reader.close)
    expect(await readyOf(storage)).toEqual({ status: 200, notes: [] })

    await storage.fillTo((LOW_BYTES + CRITICAL_BYTES) / 2)
    await untilLevel(storage, 1)
    expect(await registerOne(storage)).toEqual(LOW)
    expect(await readyOf(storage)).toEqual({ status: 200, notes: [expect.stringContaining('storage: low')] })
    await writer.publish('before')
    await until(() => expect(reader.bodies).toEqual(['before']))

    // The write-ahead log that the node gives back must not be room enough.
    await storage.fillTo(CRITICAL_BYTES / 2 - 8 * MIB)
    await untilLevel(storage, 2)
    expect(await registerOne(storage)).toEqual(LOW)
    expect(await readyOf(storage)).toEqual({ status: 200, notes: [expect.stringContaining('storage: critical')] })
    for (const text of TEXTS) await writer.publish(text)
    const session = await follow(storage, managing)
    const [event] = await managing.sealMany('notes', 1)
    session.publish([event!.wire])
    await session.until('the refusal', () => session.refusals.length > 0)
    expect(session.refusals).toMatchObject([{ device_seq: 1, code: 'storage_low', retry_after_ms: expect.any(Number) }])
    expect(refusalOf(await offerEntry(session, await sealRotate(account, authorOf(managing))))).toEqual(LOW)
    await appendEntry(account, session, await sealRevoke(account, authorOf(managing), [lost]))
    const late = await follow(storage, arriving)
    expect(late.events).toHaveLength(1)
    late.send({ type: 'ack', cursor: late.events[0]!.userSeq })
    await roundTrip(late)
    expect([writer.receipts.length, reader.bodies]).toEqual([1, ['before']])
    for (const each of [session, late]) each.drop()

    await storage.free()
    await untilLevel(storage, 0)
    await until(() => expect(reader.bodies).toEqual(['before', ...TEXTS]))
    await until(() => expect(writer.receipts).toHaveLength(1 + TEXTS.length))
    expect(writer.receipts.map(({ deviceSeq }) => deviceSeq)).toEqual([1, ...TEXTS].map((_, i) => i + 1))
    expect([writer.connections, reader.connections]).toEqual([1, 1])
    expect(await registerOne(storage)).toBe('registered')
  })
})

/** Hundreds of large events through the embedded database take their time on a busy machine. */
const inTime = (check: () => unknown): Promise<unknown> => vi.waitFor(check, { timeout: 100_000, interval: 20 })

test('LIM-28, P3: an embedded database that is filled by its publishers refuses them before its disk ends, and serves on', {
  timeout: 120_000,
}, async () => {
  const storage = await startOnSmallDisk()
  const { devices } = await createAccount(storage, { devices: 2 })
  const writer = await openSdkDevice(storage, devices[0]!, systemClock)
  undo.push(writer.close)
  const reader = await openSdkDevice(storage, devices[1]!, systemClock)
  undo.push(reader.close)
  await storage.fillTo(CRITICAL_BYTES + 4 * MIB)
  const texts = Array.from({ length: FLOOD_BYTES / FLOOD_EVENT_BYTES }, (_, i) => `${i}`.padStart(FLOOD_EVENT_BYTES))
  const published = (async () => {
    for (const text of texts) await writer.publish(text)
  })()
  await inTime(async () =>
    expect(await metricOf(storage, 'valise_rate_limited_total{scope="storage"}')).toBeGreaterThan(0),
  )
  expect(await readyOf(storage)).toMatchObject({ status: 200 })
  expect(await metricOf(storage, 'valise_events_unavailable_total')).toBe(0)
  await storage.free()
  await published
  await inTime(() => expect(reader.bodies).toHaveLength(texts.length))
  expect(reader.bodies.map((text) => Number(text))).toEqual(texts.map((_, i) => i))
  expect(writer.receipts).toHaveLength(texts.length)
  expect(await metricOf(storage, 'valise_events_unavailable_total')).toBe(0)
})

test('LIM-28: an embedded database gives back the write-ahead log that it needs no longer', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'valise-wal-'))
  undo.push(() => rm(dataDir, { recursive: true, force: true }))
  const db = await openPglite({ ...createCapturedParts().parts, dataDir })
  undo.push(() => db.close())
  const run = (text: string) => db.query({ name: '', text }, [])
  const walFolder = join(dataDir, 'cluster', 'pg_wal')
  const walBytes = async (): Promise<number> => {
    const names = (await readdir(walFolder)).filter((name) => /^[0-9A-F]{24}$/.test(name))
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(walFolder, name))).size))
    return sizes.reduce((sum, size) => sum + size, 0)
  }
  await run('create table filler (text text)')
  for (let i = 0; i < 2; i++) {
    await run(`insert into filler select repeat('x', 1960) from generate_series(1, 20000)`)
    await run('truncate filler')
  }
  expect(await walBytes()).toBeGreaterThan(64 * MIB)
  await releaseWal(db)
  expect(await walBytes()).toBeLessThanOrEqual(32 * MIB)
  expect(await run('show wal_recycle')).toEqual([{ wal_recycle: 'on' }])
  await run(`insert into filler values ('more')`)
})

describe('the watch', () => {
  test('LIM-28: a look that fails or hangs leaves the level, is not repeated meanwhile, and the others go on', async () => {
    const changes: string[] = []
    let looks = 0
    let left = 500
    let failures = 0
    let relieved = 0
    const watch = await startStorageWatch({
      sources: [
        { everyMs: 1, readLeft: async () => (left < 0 ? Promise.reject(new Error('no answer')) : left) },
        {
          everyMs: 1,
          readLeft: () => {
            looks++
            return looks === 1 ? Promise.resolve(undefined) : new Promise(() => {})
          },
        },
      ],
      marks: { lowBytes: 1000, criticalBytes: 200 },
      onChange: (level, leftBytes) => changes.push(`${level} ${leftBytes}`),
      relieve: async () => {
        relieved++
      },
      onFailure: () => {
        failures++
      },
    })
    undo.push(async () => watch.close())
    expect([watch.level(), watch.leftBytes(), relieved]).toEqual(['low', 500, 1])
    left = 100
    await until(() => expect(watch.level()).toBe('critical'))
    left = -1
    await until(() => expect(failures).toBeGreaterThan(2))
    expect([watch.level(), watch.leftBytes()]).toEqual(['critical', 100])
    left = 5000
    await until(() => expect(watch.level()).toBe('ok'))
    expect(changes).toEqual(['low 500', 'critical 100', 'ok 5000'])
    expect([looks, relieved]).toEqual([2, 2])
  })
})

describe('the level', () => {
  const marks = { lowBytes: 1000, criticalBytes: 200 }

  test('LIM-28: it is left only with an eighth more than its mark, so that it does not flap', () => {
    expect([1001, 1000, 999, 200, 199].map((left) => storageLevelOf('ok', left, marks))).toEqual([
      'ok',
      'ok',
      'low',
      'low',
      'critical',
    ])
    expect([1000, 1124, 1125].map((left) => storageLevelOf('low', left, marks))).toEqual(['low', 'low', 'ok'])
    expect([199, 224, 225, 1000, 1124, 1125].map((left) => storageLevelOf('critical', left, marks))).toEqual([
      'critical',
      'critical',
      'low',
      'low',
      'low',
      'ok',
    ])
  })

  test('LIM-28: a mark of 0 is none', () => {
    expect(storageLevelOf('ok', 0, { lowBytes: 0, criticalBytes: 0 })).toBe('ok')
    expect(storageLevelOf('low', 500, { lowBytes: 0, criticalBytes: 200 })).toBe('ok')
  })
})
