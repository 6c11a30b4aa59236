// Each misuse says what was expected, ends with 2, and leaves nothing behind.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runInProcess } from './support/in-process.ts'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice } from './support/user.ts'
import { cleanUp, makeFolder, runValise, startValise } from './support/valise.ts'

const serverUrl = 'ws://127.0.0.1:9'
const commands =
  'serve, admin, init, link, approve, pair, send, watch, refused, status, devices, rename, republish, role, revoke, rotate, recovery, recover, verify, trust, top, doctor, config, export, import, account'

let folder: string

beforeAll(() => {
  folder = makeFolder()
  mkdirSync(join(folder, 'a-folder'))
  writeFileSync(join(folder, 'large'), Buffer.alloc(300_000))
})
afterAll(cleanUp)

/** What is typed, and what must be told. */
type Misuses = readonly (readonly [typed: readonly string[], expected: string])[]

/** Of the command line as a whole, of a command of each kind, and of those that load the server's program. */
const misusesOfProcesses: Misuses = [
  [[], commands],
  [['frobnicate'], commands],
  [['send', 'notes'], 'valise init'],
  [['watch', 'notes', '--count', 'many'], 'Expected a whole number of at least 1'],
  [['init', '--server', 'nonsense'], 'Expected --server ws://'],
  [['admin', 'restored'], 'give --yes'],
  [['serve', '--port', 'high'], 'PORT: expected a port from 0 to 65535'],
  [['serve', '--port', '65536'], 'PORT: expected a port from 0 to 65535'],
  [['serve', '--database-url', 'mysql://x'], 'DATABASE_URL: expected postgres://'],
  [['top', '--admin-url', 'nonsense'], 'Expected --admin-url http://HOST:PORT'],
  [['doctor', 'now'], 'Usage: valise doctor'],
]

const misuses: Misuses = [
  [['status', '--frobnicate'], 'Usage: valise status'],
  [['status', 'now'], 'Usage: valise status'],
  [['send'], "missing required argument 'stream'"],
  [['send', 'one', 'two'], 'Usage: valise send [options] <stream>'],
  [['send', ''], 'Expected a name of 1 to 256 bytes'],
  [['send', 'valise/devices'], 'Expected another name'],
  [['send', 'notes', '--file', 'not-there'], 'Expected --file with a readable file'],
  [['send', 'notes', '--file', 'a-folder'], 'Expected --file with a readable file'],
  [['send', 'notes', '--file', 'large'], 'one event carries at most'],
  [['send', 'notes', '--ttl', 'soon'], 'Expected a number and s, m, h or d'],
  [['send', 'notes', '--ttl', '0s'], 'Expected a number and s, m, h or d'],
  [['send', 'notes', '--ttl', '4000d'], 'up to 3650 days'],
  [['republish'], 'give --yes'],
  [['republish', '--yes'], 'valise init'],
  [['watch'], "missing required argument 'stream'"],
  [['watch', 'notes', '--count', '0'], 'Expected a whole number of at least 1'],
  [['watch', 'notes', '--from', 'middle'], 'start, cursor'],
  [['init'], '--server <url>'],
  [['init', '--server', 'http://example.org'], 'Expected --server ws://'],
  [['init', '--server', serverUrl, '--fingerprint', 'abc'], 'Expected the 43 characters'],
  [['link'], '--server <url>'],
  [['link', '--server', 'http://example.org'], 'Expected --server ws://'],
  [['approve', '--yes'], '--request-file with a file that holds it'],
  [['approve', 'x', '--request-file', 'y', '--yes'], 'not both'],
  [['approve', '--request-file', 'not-there', '--yes'], 'Expected --request-file with a readable file'],
  [['pair', '--code-file', 'large'], 'chmod 600'],
  [['pair', '--code-file', 'a-folder'], 'Expected --code-file with a readable file'],
  [['init', '--server', serverUrl, '--invite-file', '-'], 'Standard input is empty'],
  [['approve', 'x'], 'give --yes'],
  [['approve', 'x', '--yes'], 'valise init'],
  [['watch', 'notes'], 'valise init'],
  [['status'], 'valise init'],
  [['devices'], 'valise init'],
  [['verify'], 'valise init'],
]

type Run = typeof runInProcess

describe('misuse', () => {
  const expectRefusal = async (args: readonly string[], expected: string, run: Run): Promise<void> => {
    const home = join(makeFolder(), 'home')
    const typed = args.map((arg) => (['a-folder', 'large', 'not-there'].includes(arg) ? join(folder, arg) : arg))
    const { exitCode, stdout, stderr } = await run(typed, { VALISE_HOME: home })
    expect(stderr).toContain(expected)
    expect(stdout.toString()).toBe('')
    expect(exitCode).toBe(2)
    expect(stderr).not.toMatch(/\n\s+at /)
    if (args[0] !== 'init' && args[0] !== 'link') expect(existsSync(home)).toBe(false)
  }

  it.each(misusesOfProcesses)('CLI-4: valise %j', (args, expected) =>
    expectRefusal(args, expected, (typed, environment) => runValise(typed, { environment })),
  )

  it.each(misuses)('CLI-4: in one process, valise %j', (args, expected) => expectRefusal(args, expected, runInProcess))

  it('CLI-5: with --json it is one object on standard error', async () => {
    const { exitCode, stdout, stderr } = await runValise(['frobnicate', '--json'])
    expect(exitCode).toBe(2)
    expect(stdout.toString()).toBe('')
    expect(JSON.parse(stderr)).toEqual({ error: 'bad_command_line', message: expect.stringContaining(commands) })
  })

  it('CLI-4: help and version are no misuse', async () => {
    expect(await runValise(['--version'])).toMatchObject({ exitCode: 0, stderr: '' })
    const help = await runValise(['watch', '--help'])
    expect(help).toMatchObject({ exitCode: 0, stderr: '' })
    expect(help.stdout.toString()).toContain('--from <where>')
  })

  it('CLI-4: a server that does not answer is a failure, told as one', async () => {
    const { exitCode, stderr } = await runValise(['init', '--server', serverUrl], { home: join(folder, 'nobody') })
    expect(exitCode).toBe(1)
    expect(stderr).toContain(serverUrl)
  })
})

describe('misuse of a home', () => {
  let server: TestServer
  let home: string

  beforeAll(async () => {
    server = await startServer(folder)
    home = join(folder, 'laptop')
    await initDevice(server, home)
  })

  it('CLI-4: a home that has a device is not made anew', async () => {
    for (const command of ['init', 'link']) {
      const { exitCode, stderr } = await runValise([command, '--server', server.url], { home })
      expect(stderr).toContain('Choose another folder with --home')
      expect(exitCode).toBe(2)
    }
  })

  it('CLI-4: a request that is none is refused', async () => {
    const { exitCode, stderr } = await runValise(['approve', 'nonsense', '--yes'], { home })
    expect(stderr).toContain('Expected the line that `valise link` printed')
    expect(exitCode).toBe(2)
  })

  it('CLI-4: a name that a terminal would obey is refused', async () => {
    const args = ['link', '--server', server.url, '--name', 'phone\u001b[2J']
    const { exitCode, stderr } = await runValise(args, { home: join(folder, 'phone') })
    expect(stderr).toContain('visible characters')
    expect(exitCode).toBe(2)
  })

  it('CLI-4: a home that another process uses is refused, and free again afterwards', async () => {
    const sending = startValise(['send', 'notes'], { home })
    sending.stdin.write('a line\n')
    await sending.until('the receipt', ({ stdout }) => stdout.includes('\n'))
    expect(await runValise(['status'], { home })).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('Another valise process'),
    })
    sending.stdin.end()
    expect((await sending.ended()).exitCode).toBe(0)
    expect((await runValise(['status'], { home })).exitCode).toBe(0)
  })

  it('CLI-4: another fingerprint than the server has is refused before anything is made', async () => {
    const fingerprint = `${server.fingerprint.startsWith('A') ? 'B' : 'A'}${server.fingerprint.slice(1)}`
    const args = ['init', '--server', server.url, '--fingerprint', fingerprint]
    const { exitCode, stdout, stderr } = await runValise(args, { home: join(folder, 'wary') })
    expect(exitCode).not.toBe(0)
    expect(stdout.toString()).toBe('')
    expect(stderr).not.toBe('')
    const right = ['init', '--server', server.url, '--fingerprint', server.fingerprint]
    expect(await runValise(right, { home: join(folder, 'wary') })).toMatchObject({ exitCode: 0, stderr: '' })
  })
})
