// What costs a place and gives nothing is sent away: connections that say nothing, connections without end, sessions that
// never register (LIM-7), and addresses that ask for mailboxes without a pause (LIM-6).

import { randomBytes } from 'node:crypto'
import { ERRORS } from '@valise/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import type { RawConfig } from '../src/config.ts'
import { createKeys, openRegistration, register, sealGenesis } from './bad-input/entries.ts'
import { sendRaw, UPGRADE } from './bad-input/raw-http.ts'
import { createAccount } from './support/account.ts'
import { waitFor } from './support/open-database.ts'
import { startTestServer, type TestServer } from './support/server.ts'

let server: TestServer
let httpUrl: string
let nowMs: number
const start = async (flags: RawConfig): Promise<void> => {
  nowMs = Date.now()
  server = await startTestServer({ database: 'postgres', flags, now: () => nowMs })
  httpUrl = server.url.replace('ws', 'http')
}
afterEach(() => server?.close())

const openConnections = (): Promise<number> => server.app.metrics.read('valise_http_connections')
const waitForConnections = (count: number): Promise<unknown> =>
  waitFor(`${count} plain connections`, openConnections, (open) => open === count)
const GET = 'GET /.well-known/valise HTTP/1.1\r\nHost: 127.0.0.1\r\n'

describe('sessions without an account', () => {
  const FLAGS = { VALISE_REGISTRATION_TIMEOUT_MS: '60000' }

  test('LIM-7: one that never registers is closed in time, with its code', async () => {
    await start(FLAGS)
    const session = await openRegistration(server, await createKeys('manager'))
    nowMs += 59_999
    session.send({ type: 'ping', id: 1 })
    await session.until('the answer', () => session.messages.some(({ type }) => type === 'pong'))
    nowMs += 1
    const { close: code, text: reason } = ERRORS.registration_timeout
    expect(await session.closed).toEqual({ code, reason })
  })

  test('LIM-7: one that was refused may try again until then, and one that registered stays', async () => {
    await start(FLAGS)
    const [keys, others] = [await createKeys('manager'), await createKeys('manager')]
    const refused = await openRegistration(server, keys)
    const registered = await openRegistration(server, others)
    expect((await register(refused, await sealGenesis(others))).type).toBe('error')
    expect((await register(registered, await sealGenesis(others))).type).toBe('registered')
    nowMs += 60_000
    expect((await refused.closed).code).toBe(ERRORS.registration_timeout.close)
    registered.send({ type: 'ping', id: 7 })
    await registered.until('the answer', () => registered.messages.some(({ type }) => type === 'pong'))
    registered.drop()
  })
})

describe('plain connections', () => {
  test('LIM-7: who says nothing, or says it without end, is gone in time; who is done may ask again', async () => {
    await start({ VALISE_HANDSHAKE_TIMEOUT_MS: '300' })
    const silent = await sendRaw(httpUrl, '')
    const slow = await sendRaw(httpUrl, GET)
    expect(await slow.status()).toBe(408)
    await Promise.all([silent.closed, slow.closed])
    const patient = await sendRaw(httpUrl, `${GET}\r\n`)
    expect(await patient.status()).toBe(200)
    await patient.closed
    await waitForConnections(0)
  })

  test('LIM-7, P5: so many have a place; one more is answered 503, and a place that is left is taken', async () => {
    await start({ VALISE_MAX_HTTP_CONNECTIONS: '3' })
    const session = await (await createAccount(server)).devices[0]!.connect(server)
    await waitForConnections(0)
    const held = [await sendRaw(httpUrl, ''), await sendRaw(httpUrl, GET), await sendRaw(httpUrl, '')]
    await waitForConnections(3)
    for (const text of [`${GET}\r\n`, UPGRADE]) {
      const refused = await sendRaw(httpUrl, text)
      expect(await refused.status()).toBe(503)
      await refused.closed
    }
    expect(await server.app.metrics.read('valise_http_connections_refused_total')).toBe(2)
    held[0]!.socket.destroy()
    await waitForConnections(2)
    const next = await sendRaw(httpUrl, UPGRADE)
    expect(await next.status()).toBe(101)
    // A WebSocket takes no place of theirs.
    await waitForConnections(2)
    expect(session.closeFrame).toBeUndefined()
    for (const { socket } of [...held, next]) socket.destroy()
    session.drop()
  })
})

describe('mailboxes', () => {
  /** A page that may read the answers. */
  const PAGE = 'http://localhost:3000'
  const FLAGS = { VALISE_MAILBOX_REQUESTS_PER_MIN: '1', VALISE_MAILBOX_REQUESTS_BURST: '3' }
  const ask = (address?: string, method = 'GET'): Promise<Response> =>
    fetch(`${httpUrl}/v1/mailboxes/${randomBytes(16).toString('hex')}/0`, {
      method,
      ...(method === 'PUT' ? { body: Buffer.of(1) } : {}),
      headers: { Origin: PAGE, ...(address === undefined ? {} : { 'X-Forwarded-For': address }) },
    })

  test('LIM-6, LIM-3: an address over the limit is answered 429 with the time to wait, and stores nothing', async () => {
    await start(FLAGS)
    const statuses: number[] = []
    for (const method of ['PUT', 'GET', 'PUT', 'PUT']) statuses.push((await ask(undefined, method)).status)
    expect(statuses).toEqual([201, 404, 201, 429])
    const refused = await ask()
    const body = JSON.parse(await refused.text())
    expect(body).toEqual({ code: 'rate_limited', retry_after_ms: expect.any(Number) })
    expect(body.retry_after_ms).toBeGreaterThan(0)
    expect(body.retry_after_ms).toBeLessThanOrEqual(60_000)
    expect(Number(refused.headers.get('retry-after'))).toBe(Math.ceil(body.retry_after_ms / 1000))
    expect(refused.headers.get('access-control-allow-origin')).toBe(PAGE)
    expect(await server.app.metrics.read('valise_rate_limited_total', { scope: 'mailbox' })).toBe(2)
    // Who the server is may be asked all the same.
    expect((await fetch(`${httpUrl}/.well-known/valise`)).status).toBe(200)
  })

  test('LIM-4, LIM-6: behind a trusted proxy each address has its own limit', async () => {
    await start({ ...FLAGS, VALISE_TRUSTED_PROXIES: '127.0.0.0/8, ::1' })
    const statuses: number[] = []
    for (const host of [1, 1, 1, 1, 2]) statuses.push((await ask(`198.51.100.${host}`)).status)
    expect(statuses).toEqual([404, 404, 404, 429, 404])
  })
})
