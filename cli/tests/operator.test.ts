// The commands of whoever runs a server: doctor, config and top, as real processes beside real servers.
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../backend/tests/support/database.ts'
import { within } from './support/deadline.ts'
import { startServer, type TestServer } from './support/server.ts'
import { cleanUp, type Ended, jsonLines, lastJson, makeFolder, runValise, startValise } from './support/valise.ts'

const program = join(import.meta.dirname, '../bin/valise.js')
const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})
afterAll(cleanUp)

/** Ports that nobody uses here, and a folder that is not there yet. */
const doctor = (flags: readonly string[], environment: Record<string, string> = {}): Promise<Ended> =>
  runValise(['doctor', '--json', '--port', '0', '--admin-port', '0', ...flags], { environment })

const textsOf = (ended: Ended, status: string): string[] =>
  jsonLines(ended.stdout)
    .filter((line) => line['status'] === status)
    .map((line) => `${line['text']} → ${line['remedy'] ?? ''}`)

describe('doctor', () => {
  it('SEE-7: on an empty machine nothing is wrong, and nothing is made', async () => {
    const folder = join(makeFolder(), 'server')
    const ended = await doctor(['--data', folder], { VALISE_LOG_LVL: 'info' })
    expect(textsOf(ended, 'wrong')).toEqual([])
    expect(textsOf(ended, 'note').join()).toContain('did you mean VALISE_LOG_LEVEL?')
    expect(lastJson(ended.stdout)).toMatchObject({ type: 'verdict', is_fine: true, wrong: 0 })
    expect(ended).toMatchObject({ exitCode: 0, stderr: '' })
    expect(existsSync(folder)).toBe(false)
  })

  it('SEE-7: what is wrong is said with how to mend it, and no password', async () => {
    const folder = makeFolder()
    writeFileSync(join(folder, 'identity.key'), 'nonsense\n')
    const urls = ['--database-url', 'postgres://u:plum@127.0.0.1:9/db', '--redis-url', 'redis://:plum@127.0.0.1:9']
    const ended = await doctor(['--data', folder, ...urls])
    const wrong = textsOf(ended, 'wrong')
    expect(wrong).toHaveLength(3)
    expect(wrong[0]).toContain('is not an identity key → restore it from a backup')
    expect(wrong[1]).toContain('nothing listens at the address of DATABASE_URL → see that PostgreSQL runs there')
    expect(wrong[2]).toContain('nothing listens at the address of REDIS_URL → see that Redis runs there')
    expect(ended.exitCode).toBe(1)
    expect(ended.stdout.toString()).not.toContain('plum')
  })

  it('SEE-7: a value that cannot be used ends it at once', async () => {
    const ended = await doctor(['--port', 'high'])
    expect(textsOf(ended, 'wrong')).toEqual([
      expect.stringContaining('PORT cannot be used: expected a port from 0 to 65535'),
    ])
    expect(ended.exitCode).toBe(1)
  })

  it('SEE-7: a PostgreSQL and a Redis that are well, and a PostgreSQL that would lose what is acknowledged', async () => {
    const database = await createTestDatabase()
    undo.push(database.drop)
    const redisUrl = process.env['VALISE_TEST_REDIS_URL']!
    const folder = makeFolder()
    chmodSync(folder, 0o755)
    const flags = ['--data', folder, '--database-url', database.url, '--redis-url', redisUrl]
    const fine = await doctor(flags)
    const said = textsOf(fine, 'ok').join('\n')
    expect(said).toMatch(/PostgreSQL \d+(\.\d+)? answers/)
    expect(said).toContain('the next start brings it from migration 0 to')
    expect(said).toMatch(/Redis \d+\.\S+ answers/)
    expect(said).toContain('an announcement travels through it')
    expect(said).toContain('the clock of the database and this machine')
    expect(textsOf(fine, 'note').join('\n')).toContain(
      `open to other users of this machine (mode 755) → chmod 700 ${folder}`,
    )

    const hasty = new URL(database.url)
    hasty.searchParams.set('options', '-c synchronous_commit=off')
    const weak = await doctor([...flags, '--database-url', hasty.href])
    expect(textsOf(weak, 'wrong').join('\n')).toContain('synchronous_commit off')
    expect(weak.exitCode).toBe(1)
  })

  it('SEE-7: a port that another program has', async () => {
    const other = createServer((_request, response) => response.end('hello'))
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    undo.push(async () => other.close())
    const address = other.address()
    const port = String(typeof address === 'object' && address !== null ? address.port : 0)
    const folder = makeFolder()
    const ended = await runValise(['doctor', '--json', '--port', port, '--admin-port', port, '--data', folder])
    expect(textsOf(ended, 'wrong')).toEqual([
      expect.stringContaining(`the public port ${port} of 127.0.0.1 is in use by another program`),
      expect.stringContaining(`the admin port ${port} is in use by another program`),
    ])
    expect(ended.exitCode).toBe(1)
  })
})

describe('config', () => {
  it('SEE-6: every variable with value, source and meaning; passwords masked', async () => {
    const args = ['config', '--database-url', 'postgres://u:plum@h/db']
    const environment = { VALISE_POOL_SIZE: '9', VALISE_POOL_SISE: '8' }
    const plain = await runValise(args, { environment })
    expect(plain.stdout.toString()).toMatch(/^VALISE_POOL_SIZE +9 +environment +PostgreSQL connections of this node$/m)
    expect(plain.stderr).toContain('Did you mean VALISE_POOL_SIZE?')
    const json = await runValise([...args, '--json'], { environment })
    expect(jsonLines(json.stdout)).toContainEqual(
      expect.objectContaining({ name: 'DATABASE_URL', value: 'postgres://u:***@h/db', source: 'flag', problem: null }),
    )
    for (const { exitCode, stdout, stderr } of [plain, json]) {
      expect(exitCode).toBe(0)
      expect(stdout + stderr).not.toContain('plum')
    }
  })

  it('SEE-6: a server that starts tells of a misspelt variable in its log, which is JSON where nobody watches', async () => {
    const database = await createTestDatabase()
    undo.push(database.drop)
    const environment = { DATABASE_URL: database.url, VALISE_POOL_SISE: '8', VALISE_LOG_LEVEL: 'warn' }
    const args = ['serve', '--json', '--port', '0', '--admin-port', '0', '--data', join(makeFolder(), 'server')]
    const server = startValise(args, { environment })
    await server.until('the server to listen', ({ stdout }) => stdout.includes('\n'))
    server.signal('SIGTERM')
    const { exitCode, stderr } = await server.ended()
    expect(exitCode).toBe(0)
    const lines = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(lines.filter(({ event }) => event === 'config.variable.ignore')).toEqual([
      expect.objectContaining({
        level: 'warn',
        variable: 'VALISE_POOL_SISE',
        msg: expect.stringContaining('did you mean VALISE_POOL_SIZE?'),
      }),
    ])
  })

  it('SEE-6: a value that cannot be used is told, and is misuse', async () => {
    const ended = await runValise(['config', '--port', 'high'])
    expect(ended.stderr).toContain('PORT: expected a port from 0 to 65535')
    expect(ended.exitCode).toBe(2)
  })
})

describe('beside a running server', () => {
  let server: TestServer
  let database: TestDatabase
  let folder: string
  let adminUrl: string
  let ports: string[]

  beforeAll(async () => {
    folder = makeFolder()
    database = await createTestDatabase()
    server = await startServer(folder, { environment: { DATABASE_URL: database.url } })
    adminUrl = server.adminUrl
    ports = ['--port', new URL(server.url).port, '--admin-port', new URL(adminUrl).port, '--database-url', database.url]
  })
  afterAll(async () => {
    await server?.kill()
    await database?.drop()
  })

  it('SEE-7: the server that runs is live, ready, and the one of the identity key', async () => {
    const ended = await runValise(['doctor', '--json', ...ports, '--data', join(folder, 'server')])
    const said = textsOf(ended, 'ok').join('\n')
    for (const text of ['its fingerprint is that of the identity key', 'the server is live', 'it is ready']) {
      expect(said).toContain(text)
    }
    expect(said).toContain('its tables are those of this version')
    expect(ended.exitCode).toBe(0)
  })

  it('SEE-7: a server of another identity key is told from ours', async () => {
    const other = makeFolder()
    mkdirSync(join(other, 'server'), { mode: 0o700 })
    const key = `valise-identity-2 ${Buffer.alloc(32, 7).toString('base64url')} ${Buffer.alloc(32, 8).toString('base64url')}\n`
    writeFileSync(join(other, 'server', 'identity.key'), key, { mode: 0o600 })
    const ended = await runValise(['doctor', '--json', ...ports, '--data', join(other, 'server')])
    expect(textsOf(ended, 'wrong')).toEqual([expect.stringContaining('another fingerprint than the identity key')])
    expect(ended.exitCode).toBe(1)
  })

  it('SEE-8: without a terminal top prints one snapshot, and with --json the status itself', async () => {
    const snapshot = await runValise(['top', '--admin-url', adminUrl])
    expect(snapshot).toMatchObject({ exitCode: 0, stderr: '' })
    expect(snapshot.stdout.toString()).toMatch(/^Valise {2}ready\n/)
    expect(snapshot.stdout.toString()).toContain('PostgreSQL')
    expect(snapshot.stdout.toString()).not.toContain('\u001b')
    const json = await runValise(['top', '--json', '--admin-url', adminUrl])
    expect(lastJson(json.stdout)).toMatchObject({ server: { fingerprint: server.fingerprint, database: 'postgres' } })
  })

  it('SEE-8: where nobody answers it says so', async () => {
    const ended = await runValise(['top', '--once', '--admin-url', 'http://127.0.0.1:9'])
    expect(ended.stderr).toContain('nothing answers at http://127.0.0.1:9')
    expect(ended.exitCode).toBe(1)
  })

  it.each([
    ['q', 'q'],
    ['Ctrl-C', '\u0003'],
  ])('SEE-8: on a terminal it draws each second, and %s leaves it as it was', async (_name, key) => {
    const command = [process.execPath, program, 'top', '--admin-url', adminUrl].join(' ')
    // util-linux's script gives it a terminal of its own.
    const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, TERM: 'xterm' } })
    undo.push(async () => child.kill('SIGKILL'))
    let shown = ''
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    const drawnTwice = new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        shown += chunk.toString()
        if (shown.split('connections').length > 2) resolve()
      })
    })
    await within(40_000, 'two drawings', drawnTwice)
    expect(shown).toContain('\u001b[?1049h')
    expect(shown).not.toContain('\u001b[?1049l')
    child.stdin.write(key)
    expect(await within(20_000, 'its end', ended)).toBe(0)
    expect(shown.trimEnd().endsWith('\u001b[?7h\u001b[?25h\u001b[?1049l')).toBe(true)
  })
})
