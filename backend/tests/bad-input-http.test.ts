// The public and the admin port under requests that do not fit (PROTOCOL F): a status and a code each, nothing stored, and
// no word of trouble in the log, for a peer's mistake is not the server's.

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createLog } from '../src/telemetry/log.ts'
import { type RawHttp, sendRaw } from './bad-input/raw-http.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const MAX_BODY_BYTES = 8192
const complaints: string[] = []
let server: TestServer
let httpUrl: string
/** Begun first, for it takes the longest. */
let slow: { readonly mailbox: string; readonly request: RawHttp }

beforeAll(async () => {
  const log = createLog({ level: 'warn', stream: { write: (line: string) => void complaints.push(line) } })
  server = await startTestServer({ database: 'postgres', log })
  httpUrl = server.url.replace('ws', 'http')
  const mailbox = newMailbox()
  const head = `PUT ${mailbox}/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n`
  slow = { mailbox, request: await sendRaw(httpUrl, `${head}abc`) }
})
afterAll(() => server?.close())

const newMailbox = (): string => `/v1/mailboxes/${randomBytes(16).toString('hex')}`
const put = (path: string, body: Uint8Array): Promise<Response> => fetch(`${httpUrl}${path}`, { method: 'PUT', body })
const get = (path: string): Promise<Response> => fetch(`${httpUrl}${path}`)

/** The status and the code in the answer. */
async function outcome(answer: Promise<Response>): Promise<string> {
  const response = await answer
  const { code } = JSON.parse((await response.text()) || '{}')
  return [response.status, code].filter((part) => part !== undefined).join(' ')
}

describe('F: mailboxes', () => {
  test('F: a message of no bytes, of 8 KiB, of one byte more, without end', async () => {
    const mailbox = newMailbox()
    expect(await outcome(put(`${mailbox}/0`, new Uint8Array(0)))).toBe('413 mailbox_message_size')
    expect(await outcome(put(`${mailbox}/0`, randomBytes(MAX_BODY_BYTES + 1)))).toBe('413 mailbox_message_size')
    const endless = await sendRaw(
      httpUrl,
      `PUT ${mailbox}/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n${'x'.repeat(0x8000)}\r\n`,
    )
    expect(await endless.status()).toBe(413)
    await endless.closed
    expect(await outcome(get(`${mailbox}/0`))).toBe('404 mailbox_slot_empty')
    const whole = randomBytes(MAX_BODY_BYTES)
    expect(await outcome(put(`${mailbox}/0`, whole))).toBe('201')
    expect(Buffer.from(await (await get(`${mailbox}/0`)).arrayBuffer())).toEqual(whole)
  })

  test('SEE-5: every answer names its request, each another', async () => {
    const ids = await Promise.all(['/', '/v1'].map(async (path) => (await get(path)).headers.get('x-request-id')))
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{16}$/)
    expect(new Set(ids).size).toBe(2)
  })

  test('F: a slot is written once', async () => {
    const mailbox = newMailbox()
    expect(await outcome(put(`${mailbox}/3`, Buffer.from('first')))).toBe('201')
    expect(await outcome(put(`${mailbox}/3`, Buffer.from('second')))).toBe('409 mailbox_slot_taken')
    expect(await (await get(`${mailbox}/3`)).text()).toBe('first')
  })

  test('F: eight slots and no ninth', async () => {
    const mailbox = newMailbox()
    for (let slot = 0; slot < 8; slot++) expect(await outcome(put(`${mailbox}/${slot}`, Buffer.of(1)))).toBe('201')
    for (const slot of ['8', '9', '10', '-1', '1.0', '00', '', 'x', '0/0']) {
      expect(await outcome(put(`${mailbox}/${slot}`, Buffer.of(1))), slot).toBe('404 not_found')
    }
  })

  test('F: paths that are none', async () => {
    const id = randomBytes(16).toString('hex')
    const paths = [
      '/',
      '/v1',
      '/v1/mailboxes',
      `/v1/mailboxes/${id}`,
      `/v1/mailboxes/${id}/`,
      `/v1/mailboxes/${id}/0/`,
      `/v1/mailboxes/${id.slice(1)}/0`,
      `/v1/mailboxes/${id}0/0`,
      `/v1/mailboxes/g${id.slice(1)}/0`,
      `/v1/mailboxes/%00${id.slice(2)}/0`,
      `/v2/mailboxes/${id}/0`,
      `/v1//mailboxes/${id}/0`,
      '/.well-known/valise/',
      '/.well-known/../etc/passwd',
      '/metrics',
      '/live',
    ]
    for (const path of paths) expect(await outcome(get(path)), path).toBe('404 not_found')
  })

  test('F: request targets that are no path', async () => {
    for (const target of ['//', '///', '//[', 'http://[', '*', '/%', '/\\', `/${'a'.repeat(4000)}`]) {
      const request = await sendRaw(httpUrl, `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)
      expect([400, 404], target).toContain(await request.status())
      request.socket.destroy()
    }
  })

  test('F: other methods', async () => {
    const path = `${newMailbox()}/0`
    for (const method of ['POST', 'DELETE', 'PATCH', 'TRACEROUTE']) {
      const request = await sendRaw(httpUrl, `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)
      expect([400, 405], method).toContain(await request.status())
      request.socket.destroy()
    }
    expect(await outcome(fetch(`${httpUrl}${path}`, { method: 'DELETE' }))).toBe('405 method_not_allowed')
  })

  test('F: times to wait that are none', async () => {
    const path = `${newMailbox()}/0`
    for (const wait of ['', 'x', '-1', '1.5', '1e3', '0x1', ' 1', '1000', '٣', '1;2']) {
      const answer = get(`${path}?wait_s=${encodeURIComponent(wait)}`)
      expect(await outcome(answer), wait).toBe('400 invalid_wait')
    }
    expect(await outcome(get(`${path}?wait_s=0`))).toBe('404 mailbox_slot_empty')
  })

  test('F: who waits and leaves, or waits and gets it', async () => {
    const path = `${newMailbox()}/0`
    const impatient = new AbortController()
    const left = fetch(`${httpUrl}${path}?wait_s=25`, { signal: impatient.signal })
    const waiting = get(`${path}?wait_s=25`)
    impatient.abort()
    await expect(left).rejects.toThrow()
    expect(await outcome(put(path, Buffer.from('here')))).toBe('201')
    expect(await (await waiting).text()).toBe('here')
  })

  test('F: who leaves in the middle of a message leaves nothing', async () => {
    const mailbox = newMailbox()
    for (const body of ['', 'abc']) {
      const head = `PUT ${mailbox}/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n`
      const request = await sendRaw(httpUrl, head + body)
      request.socket.resetAndDestroy()
      await request.closed
    }
    expect(await outcome(put(`${mailbox}/0`, Buffer.of(1)))).toBe('201')
  })
})

test('F: what is no HTTP, or too much of it', async () => {
  const noise: [string | Uint8Array, number][] = [
    ['GARBAGE\r\n\r\n', 400],
    [randomBytes(100).fill(0xff, 0, 1), 400],
    [`GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`, 431],
    ['GET / HTTP/1.1\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n', 400],
    ['POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n', 405],
    ['GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n', 400],
  ]
  for (const [text, status] of noise) {
    const request = await sendRaw(httpUrl, text)
    expect(await request.status(), String(text).slice(0, 60)).toBe(status)
    request.socket.destroy()
  }
})

test('P7: the admin port knows its paths and no other', async () => {
  const { adminUrl } = server.app
  for (const path of [
    '/index.html',
    '/status-page',
    '/status-page/../package.json',
    '/__proto__',
    '/metrics/',
    '/ready/x',
    '/Live',
    '/.well-known/valise',
  ]) {
    expect(await outcome(fetch(`${adminUrl}${path}`)), path).toBe('404 not_found')
  }
  const request = await sendRaw(adminUrl, 'GET // HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
  expect(await request.status()).toBe(404)
  request.socket.destroy()
})

test('F: a message that trickles in is not waited for, and nothing of it is kept', async () => {
  expect(await slow.request.status()).toBe(408)
  await slow.request.closed
  expect(await outcome(put(`${slow.mailbox}/0`, Buffer.of(1)))).toBe('201')
})

test('P7: none of it is called a failure of the server', () => {
  expect(complaints).toEqual([])
})
