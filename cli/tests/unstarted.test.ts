// A server that cannot start says which port, folder or database it is, and what to give instead.
import { writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../backend/src/config.ts'
import { createTestDatabase } from '../../backend/tests/support/database.ts'
import { runInProcess } from './support/in-process.ts'
import { cleanUp, makeFolder, runValise } from './support/valise.ts'

const free = ['--port', '0', '--admin-port', '0']

let folder: string
let file: string
let other: Server
let taken: string

beforeAll(async () => {
  folder = makeFolder()
  file = join(folder, 'a-file')
  writeFileSync(file, '')
  other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  const address = other.address()
  taken = String(typeof address === 'object' && address !== null ? address.port : 0)
})
afterAll(async () => {
  other.close()
  await cleanUp()
})

const serve = async (...args: readonly string[]): Promise<string> => {
  // The database of others, so that no start has one to make first.
  const database = await createTestDatabase()
  const environment = { DATABASE_URL: database.url, VALISE_LOG_LEVEL: 'silent' }
  try {
    const { exitCode, stdout, stderr } = await runValise(['serve', ...args], { environment })
    expect(exitCode).toBe(1)
    expect(stdout.toString()).toBe('')
    expect(stderr).not.toMatch(/\n\s+at /)
    return stderr
  } finally {
    await database.drop()
  }
}

it('CLI-4: a port that is taken is named with the flag that chooses another', async () => {
  const data = ['--data', join(folder, 'server')]
  expect(await serve('--port', taken, '--admin-port', '0', ...data)).toContain(
    `port ${taken} of 127.0.0.1 is in use by another program; choose another with --port\n`,
  )
  expect(await serve('--port', '0', '--admin-port', taken, ...data)).toContain(
    `port ${taken} of 127.0.0.1 is in use by another program; choose another with --admin-port\n`,
  )
  expect(await serve('--port', taken, '--admin-port', taken, ...data)).toContain(
    `--port and --admin-port are both ${taken}; each wants one of its own`,
  )
  expect(await serve('--host', '192.0.2.1', ...free, ...data)).toContain('192.0.2.1 is no address of this machine')
  // As conda sets the variable, and Compose a name that is not the container's.
  expect(await serve('--host', 'x86_64-conda-linux-gnu', ...free, ...data)).toContain(
    'HOST is x86_64-conda-linux-gnu, which is no name or address of this machine',
  )
})

it('CLI-4: a user without a home folder is asked for a folder, and only where one is needed', async () => {
  const nowhere = (): string => {
    throw new Error('ENOENT: no such file or directory, uv_os_homedir')
  }
  const asked = await runInProcess(['status'], {}, undefined, nowhere)
  expect(asked).toMatchObject({ exitCode: 2 })
  expect(asked.stderr).toContain('Name a folder with --home or VALISE_HOME')
  const url = new URL(process.env['VALISE_TEST_DATABASE_URL']!).href
  const config = await runInProcess(['config', '--database-url', url], {}, undefined, nowhere)
  expect(config.exitCode).toBe(0)
})

it('CLI-4: without a home folder and without VALISE_DATA_DIR the start names the variable', () => {
  const nowhere = (): string => {
    throw new Error('ENOENT')
  }
  expect(() => parseConfig({}, {}, nowhere)).toThrow(/^VALISE_DATA_DIR: this user has no home folder/)
  expect(parseConfig({ VALISE_DATA_DIR: '/data', HOST: '[::1]' }, {}, nowhere)).toMatchObject({
    dataDir: '/data',
    host: '::1',
  })
})

it('CLI-4: a data folder that cannot be one is named', async () => {
  expect(await serve(...free, '--data', file)).toContain(`${file} cannot be used`)
  const inside = join(file, 'server')
  expect(await serve(...free, '--data', inside)).toContain(`expected a folder that this user may write`)
})

it('CLI-4: a database that nobody serves is told as one', async () => {
  const data = ['--data', join(folder, 'server')]
  expect(await serve(...free, ...data, '--database-url', `postgres://127.0.0.1:9/valise`)).toContain(
    'nothing listens at the address of DATABASE_URL; see that PostgreSQL runs there',
  )
  const missing = new URL(process.env['VALISE_TEST_DATABASE_URL']!)
  missing.pathname = '/not_there'
  expect(await serve(...free, ...data, '--database-url', missing.href)).toContain('the database does not exist; create')
  missing.password = 'wrong'
  expect(await serve(...free, ...data, '--database-url', missing.href)).toContain('PostgreSQL refuses the password')
})

it('CLI-4: a home that cannot be one is told, with what was expected', async () => {
  for (const home of [file, join(file, 'home')]) {
    const { exitCode, stderr } = await runValise(['init', '--server', 'ws://127.0.0.1:9'], { home })
    expect(stderr).toContain(`${home} cannot be the home of a device`)
    expect(stderr).toContain('Expected --home with a folder of your own')
    expect(exitCode).toBe(2)
  }
})
