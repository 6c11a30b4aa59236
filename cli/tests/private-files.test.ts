// What others on the machine may see of a server, a device and its secrets: modes of all files, files that are open, what
// stands on the command line, and the first contact with a server on another machine.
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runInProcess } from './support/in-process.ts'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise, startValise } from './support/valise.ts'

let folder: string
let server: TestServer
let laptop: string

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder, { isNew: true, environment: { HOST: '0.0.0.0', VALISE_REGISTRATION: 'invite' } })
  laptop = join(folder, 'laptop')
}, 120_000)
afterAll(cleanUp)

/** Those that others may read, write or enter. */
const openFilesIn = (place: string): string[] =>
  ['.', ...readdirSync(place, { recursive: true, encoding: 'utf8' })].filter(
    (name) => (statSync(join(place, name)).mode & 0o077) !== 0,
  )
const secretFile = (name: string, text: string, mode = 0o600): string => {
  const path = join(folder, name)
  writeFileSync(path, `${text}\n`, { mode })
  return path
}
const invite = async (): Promise<string> => {
  const made = await runValise(['admin', 'invite', '--json', '--data', join(folder, 'server')])
  expect(made.exitCode).toBe(0)
  return String(lastJson(made.stdout)['invitation'])
}
/** Questions to a person stand between the lines. */
const errorOf = ({ stderr }: { stderr: string }) => {
  const lines = stderr.split('\n').filter((line) => line.includes('{"error"'))
  return jsonLines(Buffer.from(lines.map((line) => line.slice(line.indexOf('{"error"'))).join('\n'))).at(-1)?.['error']
}

describe('CLI-9: secrets and the command line', () => {
  it('CLI-9: an invitation is read from a file or from standard input', async () => {
    const file = secretFile('invitation', await invite())
    const init = ['init', '--server', server.url.replace('0.0.0.0', '127.0.0.1'), '--json', '--invite-file']
    expect(await runValise([...init, file], { home: laptop })).toMatchObject({ exitCode: 0, stderr: '' })
    const piped = await runValise([...init, '-'], { home: join(folder, 'piped'), input: `${await invite()}\n` })
    expect(piped).toMatchObject({ exitCode: 0, stderr: '' })
  })

  it('CLI-9: the line of a link request and the code of a pairing are read from files', async () => {
    const url = server.url.replace('0.0.0.0', '127.0.0.1')
    const linking = startValise(['link', '--server', url, '--json'], { home: join(folder, 'phone') })
    await linking.until('the request', ({ stdout }) => stdout.includes('\n'))
    const file = secretFile('request', JSON.parse(linking.stdout.toString().split('\n')[0]!).request)
    const approved = await runValise(['approve', '--request-file', file, '--yes'], { home: laptop })
    expect(approved).toMatchObject({ exitCode: 0, stderr: '' })
    expect((await linking.ended()).exitCode).toBe(0)

    const tablet = startValise(['pair', '--new', '--server', url, '--json'], { home: join(folder, 'tablet') })
    await tablet.until('the offer', ({ stdout }) => stdout.includes('"offer"'))
    const offered = jsonLines(tablet.stdout).find(({ type }) => type === 'offer')
    const joined = await runValise(['pair', '--code-file', '-', '--json'], {
      home: laptop,
      input: `${offered?.['url']}\n`,
    })
    // Nobody is there to type the digits: so far it came with the code.
    expect(jsonLines(joined.stdout)).toContainEqual(expect.objectContaining({ type: 'new_device' }))
    tablet.signal('SIGKILL')
  }, 120_000)

  it('CLI-9, OPS-2: a file with a secret that others can read is refused, and a pipe is not', async () => {
    const file = secretFile('open phrase', 'one two three', 0o644)
    const refused = await runValise(['recovery', 'test', '--phrase-file', file, '--json'], { home: laptop })
    expect([refused.exitCode, errorOf(refused)]).toEqual([2, 'unsafe_permissions'])
    expect(refused.stderr).toContain(`chmod 600 ${file}`)
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', ['-m', '644', pipe])
    const piped = runValise(['recovery', 'test', '--phrase-file', pipe, '--json'], { home: laptop })
    await writeFile(pipe, 'one two three\n')
    expect(errorOf(await piped)).toBe('bad_phrase')
  })

  it('CLI-9: the help says which is safer', async () => {
    for (const command of ['init', 'approve', 'pair']) {
      const { stdout } = await runValise([command, '--help'])
      expect(stdout.toString().replace(/\s+/g, ' ')).toMatch(
        /other users of this machine can see it there; --\w+-file is safer/,
      )
    }
  })
})

describe('OPS-2: files', () => {
  it('OPS-2: no file of a server with an embedded database, and none of a device, is open to others', async () => {
    expect((await runValise(['send', 'notes'], { home: laptop, input: 'hello\n' })).exitCode).toBe(0)
    const exported = join(folder, 'export.jsonl')
    expect((await runValise(['export', exported], { home: laptop })).exitCode).toBe(0)
    expect(statSync(exported).mode & 0o777).toBe(0o600)
    expect(process.umask()).toBe(0o022)
    expect(readdirSync(join(folder, 'server', 'database', 'cluster')).length).toBeGreaterThan(10)
    // PGlite sets its files to 0666 by itself; every folder on the way to them is closed.
    const open = openFilesIn(join(folder, 'server'))
    const isOfPglite = (name: string): boolean => /^database\/cluster\/./.test(name)
    expect(open.filter((name) => !isOfPglite(name) || statSync(join(folder, 'server', name)).isDirectory())).toEqual([])
    expect(openFilesIn(laptop)).toEqual([])
  })

  it('OPS-2: an embedded database that others can enter or replace is refused, and stays as it is', async () => {
    const data = join(folder, 'open-server')
    const database = join(data, 'database')
    mkdirSync(database, { recursive: true, mode: 0o755 })
    const serve = ['serve', '--port', '0', '--admin-port', '0', '--data', data]
    const refused = await runValise(serve)
    expect(refused.exitCode).toBe(1)
    expect(refused.stderr).toContain(`chmod 700 ${database}`)
    expect(statSync(database).mode & 0o777).toBe(0o755)
    expect((await runValise(['doctor', '--data', data])).stdout.toString()).toContain(`chmod 700 ${database}`)
    chmodSync(database, 0o700)
    chmodSync(data, 0o777)
    expect((await runValise(serve)).stderr).toContain(`chmod go-w ${data}`)
  })

  it.each(['.', 'store', 'storage.key'])('OPS-2: a home whose %s is open to others is refused', async (name) => {
    const path = join(laptop, name)
    const before = statSync(path).mode & 0o777
    chmodSync(path, before | 0o044)
    const refused = await runValise(['status', '--json'], { home: laptop })
    expect([refused.exitCode, errorOf(refused)]).toEqual([1, 'unsafe_permissions'])
    expect(refused.stderr).toMatch(new RegExp(`chmod ${before.toString(8)} ${laptop}`))
    expect(statSync(path).mode & 0o777).toBe(before | 0o044)
    chmodSync(path, before)
    expect((await runValise(['status'], { home: laptop })).exitCode).toBe(0)
  })
})

describe('OPS-2: owners', () => {
  // Giving a file away takes root.
  it.runIf(process.getuid?.() === 0).each(['.', 'storage.key'])(
    'OPS-2: a home whose %s is another user’s is refused',
    async (name) => {
      const path = join(laptop, name)
      chownSync(path, 1001, 1001)
      const refused = await runValise(['status', '--json'], { home: laptop })
      chownSync(path, 0, 0)
      expect([refused.exitCode, errorOf(refused)]).toEqual([1, 'unsafe_permissions'])
      expect(refused.stderr).toContain('belongs to another user (uid 1001)')
    },
  )
})

describe('CLI-10: the first contact with a server on another machine', () => {
  /** The server of this test, by an address that is not loopback. */
  const elsewhere = (): string => {
    const found = Object.values(networkInterfaces())
      .flat()
      .find((each) => each?.family === 'IPv4' && !each.internal)
    if (found === undefined) throw new Error('this machine has no address besides loopback')
    return `ws://${found.address}:${new URL(server.url).port}`
  }
  const init = async (home: string, ...args: string[]): Promise<string[]> => [
    ...['init', '--server', elsewhere(), '--name', 'x', '--json', '--home', join(folder, home)],
    ...['--invite', await invite(), ...args],
  ]

  it('CLI-10: over ws:// without a person, a fingerprint or --yes it is refused', async () => {
    const refused = await runInProcess(await init('refused'), {})
    expect([refused.exitCode, errorOf(refused)]).toEqual([2, 'unverified_server'])
    expect(refused.stderr).toContain('--fingerprint')
    expect(refused.stderr).toContain(server.fingerprint)
    const phrase = secretFile('phrase', 'abandon '.repeat(11).concat('about'))
    const recover = ['recover', '--server', elsewhere(), '--phrase-file', phrase, '--home', join(folder, 'r'), '--json']
    const person = { types: 'n\n' }
    const recovered = await runInProcess(recover, {}, person)
    expect([recovered.exitCode, errorOf(recovered)]).toEqual([2, 'unverified_server'])
  })

  it('CLI-10: the fingerprint given, or --yes, is an answer', async () => {
    expect((await runInProcess(await init('given', '--fingerprint', server.fingerprint), {})).exitCode).toBe(0)
    const trusted = await runInProcess(await init('yes', '--yes'), {})
    expect(trusted.exitCode).toBe(0)
    expect(trusted.stderr).toContain('unverified_server')
  })

  it('CLI-10: a person is shown the fingerprint, and declines or goes on', async () => {
    const declined = await runInProcess(await init('declined'), {}, { types: 'n\n' })
    expect(declined.stderr).toContain(server.fingerprint)
    expect([declined.exitCode, errorOf(declined)]).toEqual([2, 'unverified_server'])
    expect(existsSync(join(folder, 'declined', 'store'))).toBe(true)
    expect((await runInProcess(await init('declined'), {}, { types: 'y\n' })).exitCode).toBe(0)
  })
})

it('CLI-10: on this machine nobody is asked', async () => {
  const other = makeFolder()
  const plain = await startServer(other)
  await initDevice(plain, join(other, 'laptop'))
})
