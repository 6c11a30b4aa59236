// The admin port of a running server: whether it is ready and why not, and to whom it tells its numbers.

import { readdir } from 'node:fs/promises'
import { request } from 'node:http'
import pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { createReadiness } from '../src/http/readiness.ts'
import { readStatusPage } from '../src/http/status-page.ts'
import { parseStatus } from '../src/status/status.ts'
import { createTestDatabase } from './support/database.ts'
import { waitFor } from './support/open-database.ts'
import { startRedis } from './support/redis.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function start(options: Parameters<typeof startTestServer>[0]): Promise<TestServer> {
  const server = await startTestServer(options)
  undo.push(server.close)
  return server
}

interface Ready {
  readonly status: number
  readonly problems: readonly string[]
  readonly notes: readonly string[]
}

async function readyOf({ app }: TestServer): Promise<Ready> {
  const response = await fetch(`${app.adminUrl}/ready`)
  const { problems, notes } = (await response.json()) as Ready
  return { status: response.status, problems, notes }
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** `fetch` sets its own Host. */
function ask(
  adminUrl: string,
  path: string,
  options: { host?: string; origin?: string; method?: string } = {},
): Promise<Answer> {
  const { host, origin, method = 'GET' } = options
  return new Promise((resolve, reject) => {
    const headers = { ...(host === undefined ? {} : { host }), ...(origin === undefined ? {} : { origin }) }
    request(new URL(path, adminUrl), { method, headers }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
        }),
      )
    })
      .on('error', reject)
      .end()
  })
}

const PAGES = [...(await readStatusPage()).keys()]

describe('SEE-4: readiness', () => {
  test('SEE-4: with Redis away a node is ready, and says that it is', async () => {
    const redis = await startRedis()
    undo.push(redis.close)
    const server = await start({ database: 'postgres', redisUrl: redis.url })
    expect(await readyOf(server)).toEqual({ status: 200, problems: [], notes: [] })
    await redis.kill()
    const away = await waitFor(
      'the note',
      () => readyOf(server),
      ({ notes }) => notes.length > 0,
    )
    expect(away).toEqual({ status: 200, problems: [], notes: [expect.stringContaining('Redis is away')] })
    await redis.restart()
    await waitFor(
      'Redis to be back',
      () => readyOf(server),
      ({ notes }) => notes.length === 0,
    )
  })

  test('SEE-4: migrations that are missing, changed, or of a newer version', async () => {
    const database = await createTestDatabase()
    undo.push(database.drop)
    const server = await start({ database: 'postgres', databaseUrl: database.url })
    const sql = new pg.Client({ connectionString: database.url })
    await sql.connect()
    undo.push(() => sql.end())
    await sql.query("insert into schema_migrations (number, name, checksum) values (900, 'later', '')")
    expect(await readyOf(server)).toEqual({
      status: 200,
      problems: [],
      notes: [expect.stringContaining('the database has 900 of a newer version')],
    })
    await sql.query('delete from schema_migrations where number = 900')
    await sql.query("update schema_migrations set checksum = 'another' where number = 2")
    expect(await readyOf(server)).toMatchObject({
      status: 503,
      problems: [expect.stringContaining('2 in the database')],
    })
    await sql.query('delete from schema_migrations where number > 1')
    expect(await readyOf(server)).toMatchObject({
      status: 503,
      problems: [expect.stringContaining('the database is at 1, this version needs')],
    })
    await sql.query('drop table schema_migrations')
    expect(await readyOf(server)).toMatchObject({ status: 503, problems: [expect.stringContaining('at 0')] })
  })

  test('SEE-4: draining, a silent database, and many who ask at once', async () => {
    let isDraining = false
    let asked = 0
    const readiness = createReadiness({
      isDraining: () => isDraining,
      isBusHealthy: () => true,
      isKeyStale: () => false,
      storageLevel: () => 'ok',
      readMigrationState: () => {
        asked += 1
        return new Promise(() => {})
      },
      canStore: () => Promise.resolve(true),
      now: () => 0,
    })
    const answers = await Promise.all([readiness.check(), readiness.check(), readiness.recent()])
    expect(asked).toBe(1)
    for (const answer of answers) expect(answer.problems).toEqual(['database: no answer in 2000 ms'])
    expect(await readiness.recent()).toBe(answers[0])
    isDraining = true
    expect((await readiness.recent()).problems).toEqual(['draining: this node is stopping'])
    expect(asked).toBe(1)
  })
})

describe('SEE-3: who is told', () => {
  test('SEE-3, WEB-2: a foreign name gets neither numbers nor page, and a balancer its answer', async () => {
    const server = await start({
      database: 'postgres',
      flags: { ADMIN_HOST: '0.0.0.0', VALISE_ADMIN_NAMES: 'Node1.example.org, node2.example.org' },
    })
    const { adminUrl } = server.app
    for (const path of [...PAGES, '/status.json', '/metrics']) {
      expect(await ask(adminUrl, path, { host: 'evil.example' }), path).toMatchObject({
        status: 403,
        body: expect.stringContaining('"code":"unknown_host"'),
      })
      expect((await ask(adminUrl, path, { host: 'node1.example.org:8788' })).status, path).toBe(200)
    }
    for (const path of ['/live', '/ready'])
      expect((await ask(adminUrl, path, { host: 'evil.example' })).status).toBe(200)
  })

  test('WEB-2: on a loopback address a foreign page reads neither liveness nor readiness', async () => {
    const server = await start({ database: 'postgres', flags: { VALISE_ADMIN_NAMES: 'node1' } })
    const { adminUrl, metrics } = server.app
    for (const path of ['/live', '/ready', '/metrics']) {
      for (const host of ['evil.example', 'dotless']) {
        expect(await ask(adminUrl, path, { host }), path).toMatchObject({
          status: 403,
          body: expect.stringContaining('"code":"unknown_host"'),
        })
      }
      expect(await ask(adminUrl, path, { origin: 'https://evil.example' }), path).toMatchObject({
        status: 403,
        body: expect.stringContaining('"code":"foreign_origin"'),
      })
      expect((await ask(adminUrl, path, { host: 'node1:8788', origin: 'http://localhost:3000' })).status).toBe(200)
    }
    expect(await metrics.read('valise_http_foreign_requests_total', { code: 'unknown_host' })).toBe(6)
  })

  test('SEE-3: everything is read only, kept by nobody, and for this origin alone', async () => {
    const server = await start({ database: 'postgres' })
    const { adminUrl } = server.app
    for (const path of [...PAGES, '/status.json', '/metrics', '/live', '/ready', '/nowhere']) {
      const { headers, body } = await ask(adminUrl, path)
      expect(headers['access-control-allow-origin'], path).toBeUndefined()
      expect(headers['cache-control'], path).toBe('no-store')
      expect(headers['cross-origin-resource-policy'], path).toBe('same-origin')
      expect(headers['content-security-policy'], path).toContain("default-src 'none'")
      expect(headers['content-security-policy'], path).not.toContain('unsafe')
      expect(body, path).not.toMatch(/https?:\/\/(?!www\.w3\.org\/2000\/svg)/)
      if (path === '/nowhere') continue
      expect(await ask(adminUrl, path, { method: 'POST' }), path).toMatchObject({ status: 405 })
      expect(await ask(adminUrl, path, { method: 'HEAD' }), path).toMatchObject({ status: 200, body: '' })
    }
  })

  test('SEE-2: every file of the page is served', async () => {
    const files = await readdir(new URL('../status-page/', import.meta.url))
    const paths = files.map((name) => (name === 'index.html' ? '/' : `/status-page/${name}`))
    expect(PAGES.sort()).toEqual(paths.filter((path) => !path.endsWith('/tsconfig.json')).sort())
  })

  test('SEE-1: /status.json and /metrics say the same', async () => {
    const server = await start({ database: 'postgres' })
    const { adminUrl, metrics } = server.app
    metrics.log.countStored(12_345)
    metrics.gateway.countRateLimited('mailbox', 3)
    const status = await waitFor(
      'the next reading',
      async () => parseStatus(JSON.parse((await ask(adminUrl, '/status.json')).body)),
      (read) => read?.total.events_stored === 12_345,
    )
    const text = expect.stringContaining('VALISE_MAILBOX_REQUESTS_PER_MIN')
    expect(status?.errors).toEqual([expect.objectContaining({ kind: 'limit', code: 'mailbox', text, total: 3 })])
    expect((await ask(adminUrl, '/metrics')).body).toContain('valise_events_stored_total 12345')
  })
})
