// What `valise doctor` says of what is wrong: each thing it looks at, made wrong, is told with what mends it. That it says
// nothing of what is well is seen from the command line (cli/tests/operator.test.ts).

import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { parseConfig, type RawConfig } from '../src/config.ts'
import { checkClock } from '../src/doctor/check-clock.ts'
import { checkDatabase } from '../src/doctor/check-database.ts'
import { checkFiles } from '../src/doctor/check-files.ts'
import { checkMachine } from '../src/doctor/check-machine.ts'
import { checkRedis } from '../src/doctor/check-redis.ts'
import { checkServer } from '../src/doctor/check-server.ts'
import { examine } from '../src/doctor/doctor.ts'
import { type Finding, findingsOf } from '../src/doctor/finding.ts'
import { createTestDatabase } from './support/database.ts'
import { startRedis } from './support/redis.ts'
import { startTestServer } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const configOf = (flags: RawConfig) => parseConfig(flags, {})
/** `wrong: what is so → what mends it`, of those that are not well. */
const complaintsOf = (findings: readonly Finding[]): string[] =>
  findings.flatMap((found) => (found.status === 'ok' ? [] : [`${found.status}: ${found.text} → ${found.remedy}`]))

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'valise-doctor-'))
  undo.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

describe('SEE-7: clocks', () => {
  const asked = { beforeMs: 1_000_000, afterMs: 1_000_400 }
  test.each([
    ['between question and answer', 1_000_200, 1, 'ok', 'agree'],
    ['a little ahead', 1_002_399, 1, 'ok', 'agree'],
    ['ahead', 1_002_400, 1, 'note', '2.0 s ahead of'],
    ['far ahead', 1_060_400, 1, 'wrong', '60.0 s ahead of'],
    ['behind', 997_999, 1, 'note', '2.0 s behind'],
    ['far behind', 939_999, 1, 'wrong', '60.0 s behind'],
    ['of whole seconds, as far as they can tell', 997_001, 1000, 'ok', 'agree'],
    ['of whole seconds, behind', 996_999, 1000, 'note', '2.0 s behind'],
  ])('SEE-7: one that is %s', (_name, theirsMs, resolutionMs, status, text) => {
    const found = checkClock(findingsOf('redis'), 'Redis', { ...asked, theirsMs, resolutionMs })
    expect(found).toMatchObject({ status, text: expect.stringContaining(text) })
    if (found.status !== 'ok') expect(found.remedy).toContain('NTP')
  })
})

describe('SEE-7: the machine', () => {
  const config = configOf({ VALISE_MAX_CONNECTIONS: '1000', VALISE_POOL_SIZE: '10' })
  test.each([
    ['18.20.1', 'wrong'],
    ['20.18.9', 'wrong'],
    ['20.19.0', 'ok'],
    ['22.0.0', 'ok'],
  ])('SEE-7: Node.js %s is %s', (version, status) => {
    const [found] = checkMachine(config, version, Number.POSITIVE_INFINITY)
    expect(found).toMatchObject({ status, text: expect.stringContaining(version) })
  })

  test('SEE-7: fewer open files than connections', () => {
    expect(complaintsOf(checkMachine(config, '22.0.0', 1110))).toEqual([])
    const [complaint] = complaintsOf(checkMachine(config, '22.0.0', 1109))
    expect(complaint).toMatch(/^note: 1109 files may be open .*VALISE_MAX_CONNECTIONS \(1000\).* → .*ulimit -n 1110/)
  })
})

test('SEE-7: a data folder that is a file, and an identity key that others can read', async () => {
  const folder = await makeFolder()
  const identityFile = join(folder, 'identity.key')
  await writeFile(
    identityFile,
    `valise-identity-2 ${Buffer.alloc(32, 7).toString('base64url')} ${Buffer.alloc(32, 8).toString('base64url')}\n`,
  )
  await chmod(identityFile, 0o644)
  const config = configOf({ VALISE_DATA_DIR: identityFile, VALISE_IDENTITY_FILE: identityFile })
  expect(complaintsOf(await checkFiles(config))).toEqual([
    `wrong: ${identityFile} is a file, not a folder → name another folder with --data or VALISE_DATA_DIR`,
    `wrong: the identity key: ${identityFile} is open to other users of this machine (mode 644) → chmod 600 ${identityFile}`,
  ])
})

test('SEE-7, WEB-1: a proxy whose own Host the server would refuse', async () => {
  const notesOn = async (flags: RawConfig): Promise<string[]> => {
    const found: Finding[] = []
    for await (const finding of examine(flags)) {
      if (finding.area !== 'configuration') break
      found.push(finding)
    }
    return complaintsOf(found)
  }
  const proxied = { VALISE_TRUSTED_PROXIES: '127.0.0.1', VALISE_DATA_DIR: await makeFolder() }
  expect(await notesOn(proxied)).toEqual([
    expect.stringMatching(/^note: .*VALISE_ORIGINS is not set.* → list the address/),
  ])
  expect(await notesOn({ ...proxied, VALISE_ORIGINS: 'https://valise.example.org' })).toEqual([])
  expect(await notesOn({ ...proxied, HOST: '0.0.0.0' })).toEqual([])
})

describe('SEE-7: PostgreSQL', () => {
  test('SEE-7: a database that is not there', async () => {
    const database = await createTestDatabase()
    await database.drop()
    const found = await checkDatabase(configOf({ DATABASE_URL: database.url }))
    expect(complaintsOf(found)).toEqual([
      'wrong: the database does not exist → create it: createdb with the name that DATABASE_URL ends with',
    ])
  })

  test('SEE-7: one whose tables are of another version', async () => {
    const server = await startTestServer({ database: 'postgres' })
    undo.push(server.close)
    await server.stop()
    const sql = new pg.Client({ connectionString: server.databaseUrl })
    await sql.connect()
    undo.push(() => sql.end())
    const examine = async (): Promise<string[]> =>
      complaintsOf(await checkDatabase(configOf({ DATABASE_URL: server.databaseUrl!, VALISE_POOL_SIZE: '2' })))
    expect(await examine()).toEqual([])
    await sql.query(`insert into schema_migrations (number, name, checksum) values (900, 'later', '')`)
    expect(await examine()).toEqual([
      'wrong: it has migration 900 (later) of a newer version; this one does not start on it → install that version',
    ])
    await sql.query('delete from schema_migrations where number = 900')
    await sql.query(`update schema_migrations set checksum = 'another' where number = 1`)
    expect((await examine())[0]).toMatch(/^wrong: migration 1 \(.*\) is another than this version's → restore/)
  })
})

describe('LIM-28: storage', () => {
  const GIB = 1024 ** 3

  test('LIM-28: a disk with little room for the embedded database, and one with hardly any', async () => {
    const folder = await makeFolder()
    await chmod(folder, 0o700)
    const examine = async (flags: RawConfig): Promise<string[]> =>
      complaintsOf(await checkFiles(configOf({ VALISE_DATA_DIR: folder, ...flags })))
    const [MORE, NONE] = [String(2 ** 50), '0']
    expect(await examine({ VALISE_STORAGE_LOW_BYTES: NONE, VALISE_STORAGE_CRITICAL_BYTES: NONE })).toEqual([])
    expect(await examine({ VALISE_STORAGE_LOW_BYTES: MORE, VALISE_STORAGE_CRITICAL_BYTES: NONE })).toEqual([
      expect.stringMatching(/^note: only \d+ MiB are left on the disk of .*: nobody can register \(.* → make room/),
    ])
    expect(await examine({ VALISE_STORAGE_CRITICAL_BYTES: MORE })).toEqual([
      expect.stringMatching(/^wrong: only \d+ MiB are left on .*: nobody can register or publish \(.* → make room/),
    ])
  })

  test('LIM-28: a PostgreSQL that nears its bound, and one without a bound', async () => {
    const server = await startTestServer({ database: 'postgres' })
    undo.push(server.close)
    const examine = async (flags: RawConfig) =>
      checkDatabase(configOf({ DATABASE_URL: server.databaseUrl!, VALISE_POOL_SIZE: '2', ...flags }))
    const textsOf = (found: readonly Finding[]) => found.map(({ text }) => text)
    expect(textsOf(await examine({}))).toContainEqual(expect.stringContaining('without VALISE_DATABASE_BYTES'))
    expect(textsOf(await examine({ VALISE_DATABASE_BYTES: String(100 * GIB) }))).toContainEqual(
      expect.stringMatching(/^\d+ MiB are left of VALISE_DATABASE_BYTES$/),
    )
    expect(complaintsOf(await examine({ VALISE_DATABASE_BYTES: String(GIB) }))).toEqual([
      expect.stringMatching(/^note: only \d+ MiB are left of VALISE_DATABASE_BYTES: .* → enlarge the disk/),
    ])
  })
})

describe('SEE-7: Redis', () => {
  test('SEE-7: one that refuses the password, and one that lets nobody announce', async () => {
    const redis = await startRedis()
    undo.push(redis.close)
    const examine = async (user: string): Promise<string[]> =>
      complaintsOf(await checkRedis(configOf({ REDIS_URL: `redis://${user}@127.0.0.1:${redis.port}` })))
    await redis.send('ACL', 'SETUSER', 'mute', 'on', '>plum', '~*', '&*', '+@all', '-publish')
    expect(await examine('mute:plum')).toEqual([
      expect.stringMatching(/^wrong: announcements are refused: NOPERM.* → allow this user publish, subscribe/),
    ])
    expect(await examine('mute:pear')).toEqual([
      'wrong: Redis refuses the password → set the right user and password in REDIS_URL',
    ])
  })
})

test('SEE-7: a server that is not ready says why', async () => {
  const server = await startTestServer({ database: 'postgres' })
  undo.push(server.close)
  const sql = new pg.Client({ connectionString: server.databaseUrl })
  await sql.connect()
  await sql.query('delete from schema_migrations where number = (select max(number) from schema_migrations)')
  await sql.end()
  const portOf = (url: string): string => new URL(url).port
  const config = configOf({
    PORT: portOf(server.url),
    ADMIN_PORT: portOf(server.app.adminUrl),
    VALISE_IDENTITY_FILE: server.identityFile,
  })
  const [complaint, ...others] = complaintsOf(await checkServer(config))
  expect(complaint).toMatch(/^wrong: it is not ready: migrations: the database is at \d+.* → /)
  expect(others).toEqual([])
})
