// The embedded database in a folder: what it acknowledged is there after kill -9, one server a folder, values unharmed.

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { fromHex, toHex } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runMigrations } from '../src/db/migrate.ts'
import { openPglite } from '../src/db/pglite.ts'
import { appendRuns, readEventsAfter } from '../src/db/queries/events.ts'
import { type LogEpochRow, readLogEpoch } from '../src/db/queries/server-state.ts'
import { createWalSync } from '../src/db/wal-sync.ts'
import { provideEmptyCluster } from './support/empty-cluster.ts'
import { addDevice, continueRun, createCapturedParts, makeEvents } from './support/open-database.ts'

const runner = new URL('./support/run-typescript.mjs', import.meta.url)
const appender = new URL('./support/append-until-killed.ts', import.meta.url)
const open = (dataDir: string) => openPglite({ ...createCapturedParts().parts, dataDir })

interface Line {
  readonly userId?: string
  readonly stored?: readonly (readonly [number, string])[]
}

/** Appends in a process of its own; resolves with what it said when it has acknowledged `batches` and was killed. */
async function appendAndKill(dataDir: string, batches: number): Promise<Line[]> {
  const args = [fileURLToPath(runner), fileURLToPath(appender), dataDir]
  const child: ChildProcess = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)))
  let complaints = ''
  child.stderr?.on('data', (chunk) => {
    complaints += String(chunk)
  })
  const lines: Line[] = []
  for await (const line of createInterface({ input: child.stdout! })) {
    lines.push(JSON.parse(line))
    if (lines.length === batches + 1) child.kill('SIGKILL')
  }
  expect(await ended, complaints).toBe('SIGKILL')
  return lines
}

describe('the embedded database in a folder', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'valise-pglite-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('P3: what was acknowledged is there after kill -9, gapless, and the log goes on', async () => {
    await provideEmptyCluster(join(folder, 'killed'))
    const dataDir = join(folder, 'killed', 'database')
    let epoch: LogEpochRow | undefined
    for (const batches of [1, 25]) {
      const lines = await appendAndKill(dataDir, batches)
      const userId = fromHex(lines[0]?.userId ?? '')!
      const acknowledged = lines.slice(1).flatMap((line) => line.stored ?? [])
      expect(acknowledged.length).toBeGreaterThan(batches)

      const db = await open(dataDir)
      const { items, through } = await readEventsAfter(db, userId, 0, { maxEvents: 100_000, maxBytes: 1e9 })
      const wireByUserSeq = new Map(items.map((item) => [item.userSeq, item.wire && toHex(item.wire)]))
      expect([...wireByUserSeq.keys()]).toEqual(Array.from({ length: through }, (_, i) => i + 1))
      for (const [userSeq, wire] of acknowledged) expect(wireByUserSeq.get(userSeq)).toBe(wire)
      epoch ??= await readLogEpoch(db)
      expect(await readLogEpoch(db)).toEqual(epoch)
      const device = await addDevice(db)
      expect(await appendRuns(db, [continueRun(device, makeEvents(1))])).toMatchObject([
        { status: 'stored', userSeq: 1 },
      ])
      await db.close()
    }
  }, 180_000)

  test('P8: a second server on the folder is refused with the reason, and gets it when the first one closed', async () => {
    const dataDir = join(folder, 'shared')
    const first = await open(dataDir)
    await expect(open(dataDir)).rejects.toThrow(`another server (process ${process.pid}) uses this folder`)
    await runMigrations(first)
    expect((await readLogEpoch(first)).id).toHaveLength(16)
    await first.close()
    const second = await open(dataDir)
    expect((await readLogEpoch(second)).id).toHaveLength(16)
    await second.close()
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700)
  })

  test('P8: the lock of a process that is gone, or of another one with its number, is taken over', async () => {
    await provideEmptyCluster(join(folder, 'stale'))
    const dataDir = join(folder, 'stale', 'database')
    const lockFile = join(dataDir, 'server.lock')
    const first = await open(dataDir)
    const lock = JSON.parse(await readFile(lockFile, 'utf8'))
    await first.close()
    expect(existsSync(lockFile)).toBe(false)
    const gone = spawn(process.execPath, ['-e', ''])
    await new Promise((resolve) => gone.once('exit', resolve))
    for (const stale of [
      { ...lock, pid: gone.pid, token: 'a' },
      { ...lock, startedAt: '1', token: 'b' },
    ]) {
      await writeFile(lockFile, JSON.stringify(stale))
      await (await open(dataDir)).close()
    }
    await writeFile(lockFile, JSON.stringify({ ...lock, scope: 'another machine', token: 'c' }))
    await expect(open(dataDir)).rejects.toThrow('another server')
    await writeFile(lockFile, '{}')
    await expect(open(dataDir)).rejects.toThrow('not a lock of this program')
    expect((await readdir(dataDir)).sort()).toEqual(['cluster', 'server.lock'])
  })

  test('P8: a first start that was cut off is done again', async () => {
    const dataDir = join(folder, 'unfinished')
    await mkdir(join(dataDir, 'cluster.unfinished', 'base'), { recursive: true, mode: 0o700 })
    await writeFile(join(dataDir, 'cluster.unfinished', 'PG_VERSION'), '18\n')
    const db = await open(dataDir)
    await runMigrations(db)
    await db.close()
    expect(await readdir(dataDir)).toEqual(['cluster'])
  })

  test('P3: a log that cannot be put on the disk fails the write, and all later ones', async () => {
    const cluster = join(folder, 'no-wal')
    await mkdir(join(cluster, 'pg_wal'), { recursive: true, mode: 0o700 })
    const walSync = createWalSync(cluster)
    await writeFile(join(cluster, 'pg_wal', '000000010000000000000001'), 'x')
    await walSync.sync()
    await rm(join(cluster, 'pg_wal'), { recursive: true })
    await expect(walSync.sync()).rejects.toThrow('could not be written to the disk')
    await mkdir(join(cluster, 'pg_wal'))
    await expect(walSync.sync()).rejects.toThrow('could not be written to the disk')
    await walSync.close()
  })
})
