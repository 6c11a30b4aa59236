// Which web pages may use the public port (WEB-1): the decision case by case, then every case against every route of a
// running server: a WebSocket, preflights, mailboxes, pairing and /.well-known/valise.

import { type IncomingMessage, request } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseConfig } from '../src/config.ts'
import { judgeOrigin, parseOrigin, publicRules } from '../src/http/origins.ts'
import { createLog } from '../src/telemetry/log.ts'
import { DEFAULT_REPEATS } from '../src/telemetry/log-repeats.ts'
import { type OriginCase, SETTINGS } from './origins/table.ts'
import { startTestServer, type TestServer } from './support/server.ts'

interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** Sends the headers as they stand, Host among them. */
function ask(url: string, method: string, headers: Readonly<Record<string, string>>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, setHost: false })
    sent.on('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => {
        const body = Buffer.concat(chunks).toString()
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body })
      })
    })
    sent.on('upgrade', ({ statusCode = 0, headers: answered }, socket) => {
      socket.destroy()
      resolve({ status: statusCode, headers: answered, body: '' })
    })
    sent.on('error', reject)
    sent.end()
  })
}

const UPGRADE = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
}
const SEAT = { authorization: `Bearer ${'A'.repeat(22)}` }
const MAILBOX = `/v1/mailboxes/${'0'.repeat(32)}/0`
const PAIRING = `/v1/pairings/${'0'.repeat(32)}?reason=x`

interface Route {
  readonly says: string
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** To a program, or a page that may ask. */
  readonly status: number
}

const ROUTES: readonly Route[] = [
  { says: 'a WebSocket', method: 'GET', path: '/', headers: UPGRADE, status: 101 },
  { says: 'the key', method: 'GET', path: '/.well-known/valise', headers: {}, status: 200 },
  { says: 'no path', method: 'GET', path: '/nowhere', headers: {}, status: 404 },
  { says: 'a mailbox', method: 'GET', path: MAILBOX, headers: {}, status: 404 },
  { says: 'a pairing', method: 'DELETE', path: PAIRING, headers: SEAT, status: 400 },
]
const PREFLIGHT = { 'access-control-request-method': 'PUT', 'access-control-request-headers': 'authorization' }

/** Node refuses HTTP/1.1 without a Host by itself, and joins no empty Origin to it. */
const isSendable = ({ headers }: OriginCase): boolean => headers.host !== undefined

const headersOf = ({ headers }: OriginCase): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined))

describe('WEB-1: the decision', () => {
  for (const { says, flags, cases } of SETTINGS) {
    const { host, origins } = parseConfig(flags, {})
    const rules = publicRules(host, origins)
    for (const { says: said, headers, answer } of cases) {
      test(`WEB-1: ${says}, ${said}: ${answer}`, () => {
        const verdict = judgeOrigin(rules, headers)
        if (answer === 'page') expect(verdict).toEqual({ type: 'allowed', origin: headers.origin })
        else if (answer === 'nobody') expect(verdict).toEqual({ type: 'allowed', origin: undefined })
        else expect(verdict).toEqual({ type: 'refused', code: answer })
      })
    }
  }

  test('WEB-1: every loopback form of HOST is strict, and no other one is', () => {
    for (const host of ['127.0.0.1', '127.1.2.3', '::1', 'localhost', 'LOCALHOST'])
      expect(publicRules(host, []).pages, host).toBe('local_and_listed')
    for (const host of ['0.0.0.0', '::', '10.0.0.1', 'valise.example.org'])
      expect(publicRules(host, []).pages, host).toBe('any')
  })

  test('WEB-1: an origin is listed as browsers write it', () => {
    expect(parseOrigin('HTTPS://App.Example.org:443')).toBe('https://app.example.org')
    expect(parseConfig({ VALISE_ORIGINS: ' https://a.example , http://b:1,' }, {}).origins).toEqual([
      'https://a.example',
      'http://b:1',
    ])
    for (const bad of [
      '*',
      'null',
      'app.example.org',
      'https://a.example/',
      'https://a.example/x',
      'https://*.example',
    ])
      expect(() => parseConfig({ VALISE_ORIGINS: bad }, {}), bad).toThrow(/^VALISE_ORIGINS: expected origins such as/)
  })
})

describe.each(SETTINGS)('WEB-1: a server $says', ({ flags, cases }) => {
  const lines: string[] = []
  let server: TestServer
  let httpUrl: string

  beforeAll(async () => {
    const log = createLog({
      level: 'warn',
      repeats: DEFAULT_REPEATS,
      stream: { write: (line: string) => void lines.push(line) },
    })
    server = await startTestServer({ database: 'postgres', flags, log })
    httpUrl = `http://127.0.0.1:${new URL(server.app.publicUrl).port}`
  })
  afterAll(() => server?.close())

  test.each(ROUTES)('WEB-1: $says is answered or refused as the table says', async (route) => {
    const { method, path, headers, status } = route
    for (const origin of cases.filter(isSendable)) {
      const answered = await ask(`${httpUrl}${path}`, method, { ...headersOf(origin), ...headers })
      const { answer } = origin
      if (answer === 'unknown_host' || answer === 'foreign_origin') {
        expect(answered.status, origin.says).toBe(403)
        expect(JSON.parse(answered.body), origin.says).toMatchObject({ code: answer })
        expect(answered.headers['access-control-allow-origin'], origin.says).toBeUndefined()
        continue
      }
      expect(answered.status, origin.says).toBe(status)
      if (status === 101) continue
      expect(answered.headers['access-control-allow-origin'], origin.says).toBe(
        answer === 'page' ? origin.headers.origin : undefined,
      )
      expect(answered.headers.vary, origin.says).toBe('Origin')
      expect(answered.headers['access-control-allow-credentials'], origin.says).toBeUndefined()
    }
  })

  test('WEB-1: a preflight is answered to pages that may ask, whatever the path', async () => {
    for (const path of [MAILBOX, PAIRING, '/.well-known/valise', '/.well-known/valise/keys']) {
      for (const origin of cases.filter(isSendable)) {
        const answered = await ask(`${httpUrl}${path}`, 'OPTIONS', { ...headersOf(origin), ...PREFLIGHT })
        if (origin.answer === 'nobody') expect(answered.status, origin.says).not.toBe(204)
        else if (origin.answer !== 'page') expect(answered.status, origin.says).toBe(403)
        else {
          expect(answered.status, origin.says).toBe(204)
          expect(answered.headers, origin.says).toMatchObject({
            'access-control-allow-origin': origin.headers.origin,
            'access-control-allow-methods': 'GET, PUT, POST, DELETE',
            'access-control-allow-headers': 'Authorization, Content-Type',
            vary: 'Origin',
          })
        }
      }
    }
  })

  test('WEB-1: what is refused is counted by its code, and logged a few times', async () => {
    for (const code of ['unknown_host', 'foreign_origin'] as const) {
      const refusedCases = cases.filter((origin) => isSendable(origin) && origin.answer === code).length
      const count = await server.app.metrics.read('valise_http_foreign_requests_total', { code })
      expect(count, code).toBe(refusedCases * (ROUTES.length + 4))
    }
    const logged = lines.map((line) => JSON.parse(line)).filter(({ event }) => event === 'http.origin.refuse')
    const isAnyRefused = cases.some(({ answer }) => answer === 'unknown_host' || answer === 'foreign_origin')
    expect(logged.length > 0).toBe(isAnyRefused)
    expect(logged.length).toBeLessThan(100)
    for (const line of logged) expect(line).toMatchObject({ port: 'public', code: expect.any(String) })
  })
})

describe('WEB-1: limits', () => {
  test('WEB-1, LIM-2, LIM-6: a refused page uses up nothing of its address', async () => {
    const server = await startTestServer({
      database: 'postgres',
      flags: {
        VALISE_HANDSHAKES_PER_MIN: '1',
        VALISE_HANDSHAKES_BURST: '1',
        VALISE_MAILBOX_REQUESTS_PER_MIN: '1',
        VALISE_MAILBOX_REQUESTS_BURST: '1',
      },
    })
    try {
      const httpUrl = server.url.replace('ws', 'http')
      const foreign = { host: '127.0.0.1', origin: 'https://evil.example' }
      const image = { host: '127.0.0.1', 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'image' }
      for (let n = 0; n < 5; n++) {
        expect((await ask(httpUrl, 'GET', { ...foreign, ...UPGRADE })).status).toBe(403)
        expect((await ask(`${httpUrl}${MAILBOX}`, 'GET', foreign)).status).toBe(403)
        expect((await ask(`${httpUrl}${MAILBOX}`, 'GET', image)).status).toBe(403)
      }
      expect((await ask(httpUrl, 'GET', { host: '127.0.0.1', ...UPGRADE })).status).toBe(101)
      expect((await ask(`${httpUrl}${MAILBOX}`, 'GET', { host: '127.0.0.1' })).status).toBe(404)
    } finally {
      await server.close()
    }
  })
})
