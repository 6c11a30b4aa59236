// The audit log as an operator reads it, beside the running server that holds the database.
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestDatabase, runSql } from '../../backend/tests/support/database.ts'
import { startServer, type TestServer } from './support/server.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise } from './support/valise.ts'

describe('the audit log on the command line', () => {
  let folder: string
  let server: TestServer
  beforeAll(async () => {
    folder = makeFolder()
    server = await startServer(folder)
  })
  afterAll(cleanUp)
  const data = (): string[] => ['--data', join(folder, 'server')]

  it('AUD-1, CLI-5: shows what happened, and says that all of it holds', async () => {
    const home = join(folder, 'laptop')
    const made = await runValise(['init', '--server', server.url, '--name', 'laptop', '--json'], { home })
    expect(made.exitCode).toBe(0)

    const shown = await runValise(['admin', 'audit', '--json', ...data()])
    expect(shown.exitCode).toBe(0)
    expect(jsonLines(shown.stdout)).toMatchObject([
      { type: 'audit_record', kind: 'server.start', user: null, seq: 1, detail: { registration: 'open' } },
      { type: 'audit_record', kind: 'user.register', user: expect.stringMatching(/^[0-9a-f]{16}$/), seq: 1 },
    ])
    const newest = await runValise(['admin', 'audit', '--limit', '1', ...data()])
    expect(String(newest.stdout)).toMatch(/^\S+ {2}user\.register {7}[0-9a-f]{16} {2}#1 {2}devices=2\n$/)

    const verified = await runValise(['admin', 'audit', '--verify', '--json', ...data()])
    expect(verified.exitCode).toBe(0)
    expect(lastJson(verified.stdout)).toMatchObject({
      type: 'audit_verified',
      holds: true,
      chains: 2,
      head: { seq: 1 },
    })
  })

  it('AUD-1, CLI-5: names what somebody changed in the database, and fails', async () => {
    const database = await createTestDatabase()
    const place = makeFolder()
    const own = await startServer(place, { environment: { DATABASE_URL: database.url } })
    try {
      const args = ['init', '--server', own.url, '--name', 'laptop', '--json']
      expect((await runValise(args, { home: join(place, 'laptop') })).exitCode).toBe(0)
      await runSql(database.url, 'alter table audit_log disable trigger audit_log_append_only')
      await runSql(database.url, `update audit_log set detail = '{"devices": 3}' where kind = 'user.register'`)
      const verify = ['admin', 'audit', '--verify', '--database-url', database.url]
      const found = await runValise([...verify, '--json'])
      expect(found.exitCode).toBe(1)
      expect(lastJson(found.stdout)).toMatchObject({ type: 'audit_verified', holds: false, chains: 2 })
      expect(JSON.parse(found.stderr)).toMatchObject({ error: 'audit_fault', seq: 1, fault: 'hash' })
      const told = await runValise(verify)
      expect(told.stderr).toMatch(/^Record 1 of the chain of user [0-9a-f]{16} does not hold \(hash\)\.$/m)
      expect(String(told.stdout)).toContain('1 chains do not hold.')
    } finally {
      await own.kill()
      await database.drop()
    }
  })

  it('CLI-4: a limit that is no number is refused', async () => {
    const refused = await runValise(['admin', 'audit', '--limit', 'all', ...data()])
    expect(refused.exitCode).toBe(2)
    expect(refused.stderr).toContain('whole number of at least 1')
  })
})
