// Where a network address goes (OPS-3): a server that says all it can is asked in many ways from two addresses, and neither
// stands in its log, its metrics or its audit log. Two tables have them, and forget them.

import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import WebSocket from 'ws'
import { createLog } from '../src/telemetry/log.ts'
import { sendRaw } from './bad-input/raw-http.ts'
import { createTestDatabase } from './support/database.ts'
import { waitFor } from './support/open-database.ts'
import { startTestServer, type TestServer } from './support/server.ts'

/** As the proxy names them, and as they are counted, with the networks around them. */
const ADDRESSES = ['198.51.100.77', '2001:db8:77:1:aa::1'] as const
const COUNTED = ['198.51.100.0/24', '198.51.100.77', '2001:db8:77:0::/56', '2001:db8:77:1::/64', '2001:db8:77::/48']
const TRACE = /198\.51\.100\.|2001:db8:77/
const lines: string[] = []

let server: TestServer
let sql: pg.Client
let httpUrl: string
const undo: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  const database = await createTestDatabase()
  undo.push(database.drop)
  const log = createLog({ level: 'trace', stream: { write: (line: string) => void lines.push(line) } })
  server = await startTestServer({
    database: 'postgres',
    databaseUrl: database.url,
    log,
    flags: {
      VALISE_TRUSTED_PROXIES: '127.0.0.0/8',
      VALISE_HANDSHAKES_PER_MIN: '1',
      VALISE_HANDSHAKES_BURST: '2',
      VALISE_MAILBOX_REQUESTS_PER_MIN: '60',
      VALISE_MAILBOX_REQUESTS_BURST: '5',
    },
  })
  undo.push(server.close)
  sql = new pg.Client({ connectionString: database.url })
  await sql.connect()
  undo.push(() => sql.end())
  httpUrl = server.url.replace('ws', 'http')
})
afterAll(async () => {
  for (const step of undo.reverse()) await step()
})

/** Resolves when the socket has ended, whatever came of it. */
const misuseSocket = (address: string): Promise<void> =>
  new Promise((resolve) => {
    const socket = new WebSocket(server.url, { headers: { 'x-forwarded-for': address } })
    socket.on('error', () => {})
    socket.on('open', () => socket.send('no hello'))
    socket.on('close', () => resolve())
  })

async function ask(address: string): Promise<void> {
  const headers = { 'x-forwarded-for': address }
  const seat = { authorization: `Bearer ${randomBytes(16).toString('base64url')}` }
  for (let n = 0; n < 3; n++) await misuseSocket(address)
  for (let n = 0; n < 2; n++) {
    const pairing = `${httpUrl}/v1/pairings/${randomBytes(16).toString('hex')}`
    await fetch(pairing, { method: 'PUT', headers: { ...headers, ...seat } })
    await fetch(`${pairing.slice(0, -1)}g/join`, { method: 'POST', headers: { ...headers, ...seat } })
    await fetch(`${httpUrl}/v1/pairings/999999999/join`, { method: 'POST', headers: { ...headers, ...seat } })
  }
  await fetch(`${httpUrl}/.well-known/valise`, { headers: { ...headers, origin: 'https://evil.example' } })
  const raw = await sendRaw(httpUrl, `GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-For: ${address}\r\n\r\n`)
  await raw.status()
  raw.socket.resetAndDestroy()
}

test('OPS-3: no line of the log, no metric and no audit record holds the address of a device', async () => {
  for (const address of ADDRESSES) await ask(address)
  const counted = await waitFor(
    'the addresses in the table of uses',
    () => sql.query<{ address: string }>('select distinct address from pairing_addresses'),
    ({ rows }) => rows.length === COUNTED.length,
  )
  expect(counted.rows.map(({ address }) => address).sort()).toEqual([...COUNTED].sort())
  expect(await server.app.metrics.read('valise_rate_limited_total', { scope: 'address' })).toBeGreaterThan(0)
  await server.restart()
  expect(lines.length).toBeGreaterThan(3)
  expect(lines.filter((line) => TRACE.test(line))).toEqual([])
  expect(await server.app.metrics.render()).not.toMatch(TRACE)
  const audit = await sql.query<{ record: string }>('select row_to_json(a)::text as record from audit_log as a')
  expect(audit.rows.length).toBeGreaterThan(0)
  expect(audit.rows.filter(({ record }) => TRACE.test(record))).toEqual([])
})

test('OPS-3: no other table has an address', async () => {
  const tables = await sql.query<{ name: string }>(
    "select table_name as name from information_schema.tables where table_schema = 'public'",
  )
  const found: string[] = []
  for (const { name } of tables.rows) {
    const { rows } = await sql.query<{ record: string }>(`select row_to_json(t)::text as record from ${name} as t`)
    if (rows.some(({ record }) => TRACE.test(record))) found.push(name)
  }
  expect(found.sort()).toEqual(['pairing_addresses', 'pairing_mailboxes'])
})
