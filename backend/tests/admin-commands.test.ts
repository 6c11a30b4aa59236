// The operator's commands (DEV-4, P8): on PostgreSQL directly, in an embedded database that nobody holds, and through
// the admin port of the server that holds it; which obeys nobody who cannot read its data folder, and no web page.

import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { inviteCommand } from '../src/admin/commands.ts'
import { operate } from '../src/admin/operator.ts'
import { type Config, parseConfig, type RawConfig } from '../src/config.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const INVITATION = /^([0-9a-f]{4}-){7}[0-9a-f]{4}$/
const input = { count: 2, lifetimeMs: 3_600_000 }
const folderOf = (server: TestServer): string => dirname(server.identityFile)

const configOf = (server: TestServer): Config => {
  const flags: RawConfig = {
    VALISE_LOG_LEVEL: 'silent',
    VALISE_DATA_DIR: folderOf(server),
    ...(server.databaseUrl === undefined ? {} : { DATABASE_URL: server.databaseUrl }),
  }
  return parseConfig(flags, {})
}

const expectInvited = async (server: TestServer): Promise<void> => {
  const { invitations, expiresAtMs } = await operate(configOf(server), inviteCommand, input)
  expect(invitations).toEqual([expect.stringMatching(INVITATION), expect.stringMatching(INVITATION)])
  expect(new Set(invitations).size).toBe(2)
  expect(expiresAtMs).toBeGreaterThan(0)
}

describe('DEV-4: an operator makes invitations', () => {
  test('DEV-4: on PostgreSQL, beside the server', async () => {
    const server = await startTestServer({ database: 'postgres' })
    try {
      await expectInvited(server)
      // The database needs no way round by the admin port, so there is none.
      expect(existsSync(join(folderOf(server), 'admin-access.json'))).toBe(false)
      expect((await fetch(`${server.app.adminUrl}/admin/invite`, { method: 'POST' })).status).toBe(404)
    } finally {
      await server.close()
    }
  })

  test('DEV-4: in an embedded database: through the server that holds it, and without one; nowhere else', async () => {
    const server = await startTestServer({ database: 'pglite' })
    try {
      await expectInvited(server)
      await server.stop()
      expect(existsSync(join(folderOf(server), 'admin-access.json'))).toBe(false)
      await expectInvited(server)
      const elsewhere = { ...configOf(server), dataDir: join(folderOf(server), 'elsewhere') }
      await expect(operate(elsewhere, inviteCommand, input)).rejects.toThrow('holds no database yet')
      expect(existsSync(elsewhere.dataDir)).toBe(false)
    } finally {
      await server.close()
    }
  })
})

describe('DEV-4: the admin port of a server with an embedded database', () => {
  let server: TestServer
  let accessFile: string
  let token: string

  beforeAll(async () => {
    server = await startTestServer({ database: 'pglite' })
    accessFile = join(folderOf(server), 'admin-access.json')
    token = JSON.parse(readFileSync(accessFile, 'utf8')).token
  })
  afterAll(() => server?.close())

  interface Asked {
    readonly method?: string
    readonly headers?: Record<string, string>
    readonly path?: string
    readonly body?: string
  }
  /** By hand, because `fetch` sets headers of its own. */
  const ask = ({ method = 'POST', headers = {}, path = '/admin/invite', body = JSON.stringify(input) }: Asked) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const asked = request(`${server.app.adminUrl}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
      })
      asked.on('error', reject)
      asked.on('response', (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => resolve({ status: response.statusCode!, text: Buffer.concat(chunks).toString() }))
      })
      asked.end(body)
    })

  test('DEV-4: its token is new at each start, in a file for its owner alone', async () => {
    expect(statSync(accessFile).mode & 0o777).toBe(0o600)
    await server.restart()
    const next = JSON.parse(readFileSync(accessFile, 'utf8')).token
    expect(next).not.toBe(token)
    expect((await ask({})).status).toBe(401)
    token = next
    expect((await ask({})).status).toBe(200)
  })

  test.each<[string, Asked, number, string]>([
    ['another method', { method: 'GET' }, 405, 'method_not_allowed'],
    ['a preflight', { method: 'OPTIONS', headers: { origin: 'http://evil.example' } }, 405, 'method_not_allowed'],
    ['a web page', { headers: { origin: 'http://evil.example' } }, 403, 'not_a_command'],
    ['a page without an origin', { headers: { origin: 'null' } }, 403, 'not_a_command'],
    ['a name that points here', { headers: { host: 'evil.example' } }, 403, 'not_a_command'],
    ['a form', { headers: { 'content-type': 'text/plain' } }, 415, 'bad_content_type'],
    ['no token', { headers: { authorization: '' } }, 401, 'bad_token'],
    ['a wrong token', { headers: { authorization: `Bearer ${'0'.repeat(64)}` } }, 401, 'bad_token'],
    ['an unknown command', { path: '/admin/nothing' }, 404, 'unknown_command'],
    ['no JSON', { body: '{' }, 400, 'bad_input'],
    ['none at all', { body: JSON.stringify({ ...input, count: 0 }) }, 400, 'bad_input'],
    ['too many', { body: JSON.stringify({ ...input, count: 1001 }) }, 400, 'bad_input'],
    ['for too long', { body: JSON.stringify({ ...input, lifetimeMs: 366 * 86_400_000 }) }, 400, 'bad_input'],
    ['a field too many', { body: JSON.stringify({ ...input, topsecret: 1 }) }, 400, 'bad_input'],
    ['a body too long', { body: ' '.repeat(5000) }, 413, 'body_too_long'],
  ])('DEV-4: %s → refused, with what was expected and nothing that was sent', async (_name, asked, status, code) => {
    const answer = await ask(asked)
    expect(answer.status).toBe(status)
    expect(JSON.parse(answer.text)).toEqual({ code, expected: expect.any(String) })
    expect(answer.text).not.toMatch(/evil|topsecret/)
  })

  test('DEV-4: the command refuses a file that others can read, or that holds something else', async () => {
    chmodSync(accessFile, 0o644)
    await expect(operate(configOf(server), inviteCommand, input)).rejects.toThrow('chmod 600')
    chmodSync(accessFile, 0o600)
    writeFileSync(accessFile, '{"url":"ftp://127.0.0.1"}')
    await expect(operate(configOf(server), inviteCommand, input)).rejects.toThrow('is not what a server writes')
  })
})
