// A fault that nothing handles, in a real server process (SES-6): it is logged, the node drains as on SIGTERM and exits
// with code 1, however the drain goes.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { follow, haveReceipts, wiresOf } from './event-ordering/publishing.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { createTestDatabase } from './support/database.ts'
import { type NodeProcess, startNodeProcess } from './support/node-process.ts'
import { waitFor } from './support/open-database.ts'

const PRELOAD = fileURLToPath(new URL('./support/stray-faults.mjs', import.meta.url))
const START = fileURLToPath(new URL('../../scripts/start.mjs', import.meta.url))
const REJECTION = { signal: 'SIGUSR2', event: 'app.rejection.escape', message: 'a stray rejection' } as const
const EXCEPTION = { signal: 'SIGHUP', event: 'app.exception.escape', message: 'a stray exception' } as const

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

interface LogLine {
  readonly level: string
  readonly event: string
  readonly err?: { readonly message: string; readonly stack: string }
}

interface Scene {
  readonly node: NodeProcess
  readonly databaseUrl: string
  /** Standard error; a line that the log did not write, as of a bare stack, has that text as its event. */
  readonly lines: readonly LogLine[]
  readonly device: TestDevice
  /** Resolves when the log has so many lines of the event. */
  untilLogged(event: string, count?: number): Promise<void>
}

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'valise-fault-'))
  undo.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

async function createScene(drainMs: number): Promise<Scene> {
  const database = await createTestDatabase()
  undo.push(database.drop)
  const dataDir = await makeFolder()
  const lines: LogLine[] = []
  const takeLine = (line: string): void => {
    lines.push(line.startsWith('{') ? JSON.parse(line) : { level: 'none', event: line })
  }
  const flags = {
    PORT: '0',
    ADMIN_PORT: '0',
    DATABASE_URL: database.url,
    VALISE_DATA_DIR: dataDir,
    VALISE_DRAIN_MS: String(drainMs),
    VALISE_LOG_FORMAT: 'json',
  }
  const node = await startNodeProcess(flags, takeLine, ['--import', PRELOAD])
  undo.push(() => {
    node.signal('SIGKILL')
    return node.exited
  })
  const { devices } = await createAccount(node)
  const untilLogged = async (event: string, count = 1): Promise<void> => {
    await waitFor(
      `${count} lines of ${event}`,
      async () => lines.filter((line) => line.event === event).length,
      (found) => found >= count,
    )
  }
  return { node, databaseUrl: database.url, lines, device: devices[0]!, untilLogged }
}

describe.each([REJECTION, EXCEPTION])('$message', ({ signal, event, message }) => {
  test('SES-6: is logged, the sessions are drained, and the exit code is 1', async () => {
    const { node, lines, device } = await createScene(200)
    const session = await follow(node, device)
    session.publish(wiresOf(await device.sealMany('notes', 20)))
    node.signal(signal)
    expect((await session.closed).code).toBe(1012)
    expect(session.messages.map(({ type }) => type)).toContain('draining')
    expect(session.receipts).toHaveLength(20)
    expect(await node.exited).toBe(1)
    const told = lines.filter((line) => line.event !== 'identity.next_key.find')
    expect(told).toEqual([
      expect.objectContaining({ level: 'error', event, err: expect.objectContaining({ message }) }),
    ])
    expect(told[0]!.err!.stack).toContain('stray-faults.mjs')
  })

  test('SES-6: during a drain after another is logged too, and the drain goes on', async () => {
    const { node, device, untilLogged } = await createScene(3000)
    const session = await follow(node, device)
    node.signal(signal)
    await untilLogged(event)
    node.signal(signal)
    await untilLogged(event, 2)
    session.publish(wiresOf([await device.seal('notes')]))
    await haveReceipts(session, 1)
    expect((await session.closed).code).toBe(1012)
    expect(await node.exited).toBe(1)
  })
})

test('SES-6: a fault during a drain on SIGTERM is logged, and the exit code is 1', async () => {
  const { node, device, untilLogged } = await createScene(3000)
  const session = await follow(node, device)
  node.signal('SIGTERM')
  await session.until('draining', () => session.messages.some(({ type }) => type === 'draining'))
  node.signal(REJECTION.signal)
  await untilLogged(REJECTION.event)
  expect((await session.closed).code).toBe(1012)
  expect(await node.exited).toBe(1)
})

test('SES-6: a drain that hangs is given up, which is logged, and the exit code is 1', async () => {
  const { node, databaseUrl, lines, device } = await createScene(0)
  const session = await follow(node, device)
  const sql = new pg.Client({ connectionString: databaseUrl })
  await sql.connect()
  undo.push(() => sql.end())
  await sql.query('begin')
  await sql.query('select 1 from users for update')
  session.publish(wiresOf([await device.seal('notes')]))
  await waitFor(
    'the append that waits for the row',
    async () => (await sql.query(`select 1 from pg_locks where not granted`)).rowCount ?? 0,
    (count) => count > 0,
  )
  node.signal(REJECTION.signal)
  expect(await node.exited).toBe(1)
  const events = lines.map(({ event }) => event).filter((event) => event !== 'identity.next_key.find')
  // Given up: a drain that ends by itself, when the statement times out, says nothing of it.
  expect(events).toEqual([REJECTION.event, 'app.drain.abandon'])
  expect(session.receipts).toEqual([])
})

test('SES-6: `npm start` says so on its screen, exits with the same code and starts nothing again', async () => {
  const database = await createTestDatabase()
  undo.push(database.drop)
  const flags = ['--port', '0', '--admin-port', '0', '--data', await makeFolder()]
  const env = { ...process.env, npm_lifecycle_event: 'start', DATABASE_URL: database.url, VALISE_DRAIN_MS: '0' }
  const child = spawn(process.execPath, ['--import', PRELOAD, START, ...flags], { env })
  undo.push(async () => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  let screen = ''
  const show = (chunk: Buffer): void => {
    screen += chunk.toString()
  }
  child.stdout.on('data', show)
  child.stderr.on('data', show)
  const untilShown = (text: string): Promise<boolean> =>
    waitFor(
      text,
      async () => screen.includes(text),
      (isShown) => isShown,
    )
  await untilShown('Ctrl-C stops it.')
  child.kill(REJECTION.signal)
  expect(await exited).toEqual([1, null])
  await untilShown('A fault that nothing handled, which the log shows: finishing what is in flight')
  await untilShown('Stopped. Everything acknowledged is stored.')
  expect(screen.match(/Valise is running/g)).toHaveLength(1)
  expect(screen).toContain(`"event":"${REJECTION.event}"`)
})
