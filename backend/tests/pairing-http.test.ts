// Pairing's routes on the public port (PROTOCOL F), two devices at two nodes of one server; and requests that do not fit.

import { randomBytes } from 'node:crypto'
import { toBase64Url } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createLog } from '../src/telemetry/log.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

const complaints: string[] = []
let first: TestServer
let second: TestServer

beforeAll(async () => {
  const log = createLog({ level: 'warn', stream: { write: (line: string) => void complaints.push(line) } })
  first = await startTestServer({ database: 'postgres', redisUrl: testRedisUrl(), log })
  const { databaseUrl, identityFile } = first
  if (databaseUrl === undefined) throw new Error('no database')
  second = await startTestServer({ database: 'postgres', databaseUrl, identityFile, redisUrl: testRedisUrl(), log })
})
afterAll(async () => {
  await second?.close()
  await first?.close()
})

const ask = (
  server: TestServer,
  method: string,
  path: string,
  key?: Uint8Array,
  body?: Uint8Array,
): Promise<Response> =>
  fetch(`${server.url.replace('ws', 'http')}${path}`, {
    method,
    ...(key === undefined ? {} : { headers: { authorization: `Bearer ${toBase64Url(key)}` } }),
    ...(body === undefined ? {} : { body }),
  })
const outcome = async (answer: Promise<Response>): Promise<string> => {
  const response = await answer
  const { code } = JSON.parse((await response.text()) || '{}')
  return [response.status, code].filter((part) => part !== undefined).join(' ')
}
const newPath = (): string => `/v1/pairings/${randomBytes(16).toString('hex')}`

describe('two nodes', () => {
  test('PAIR-5: opened at one, joined at the other, messages and the end cross over', async () => {
    const path = newPath()
    const [displayer, joiner] = [randomBytes(16), randomBytes(16)]
    const opened = await ask(first, 'PUT', path, displayer)
    expect(opened.status).toBe(201)
    const { nameplate, lifetime_ms } = JSON.parse(await opened.text())
    expect(lifetime_ms).toBe(600_000)
    const waiting = ask(first, 'GET', `${path}/0?wait_s=20`, displayer)
    const joined = await ask(second, 'POST', `/v1/pairings/${nameplate}/join`, joiner)
    expect(JSON.parse(await joined.text())).toMatchObject({ mailbox_id: path.split('/').at(-1) })
    expect(await outcome(ask(second, 'PUT', `${path}/0`, joiner, Buffer.from('hello')))).toBe('201')
    expect(await (await waiting).text()).toBe('hello')
    expect(await outcome(ask(first, 'POST', `/v1/pairings/${nameplate}/join`, randomBytes(16)))).toBe(
      '409 pairing_taken',
    )
    const told = ask(second, 'GET', `${path}/1?wait_s=20`, joiner)
    expect(await outcome(ask(first, 'DELETE', `${path}?reason=failed`, displayer))).toBe('204')
    expect(await outcome(told)).toBe('410 pairing_failed')
    expect(await first.app.metrics.read('valise_pairings_total', { event: 'failed' })).toBe(1)
  })
})

describe('requests that do not fit', () => {
  test('PAIR-5: each has a status, a code and what was expected', async () => {
    const path = newPath()
    const key = randomBytes(16)
    expect(await outcome(ask(first, 'PUT', path))).toBe('403 pairing_not_yours')
    expect(await outcome(ask(first, 'PUT', path, randomBytes(15)))).toBe('403 pairing_not_yours')
    expect(await outcome(ask(first, 'PUT', path, key))).toBe('201')
    expect(await outcome(ask(first, 'PUT', path, randomBytes(16)))).toBe('409 pairing_taken')
    expect(await outcome(ask(first, 'PATCH', path, key))).toBe('405 method_not_allowed')
    expect(await outcome(ask(first, 'GET', `${path}/join`, key))).toBe('405 method_not_allowed')
    expect(await outcome(ask(first, 'POST', `${path}/0`, key))).toBe('405 method_not_allowed')
    expect(await outcome(ask(first, 'GET', `${path}/0?wait_s=x`, key))).toBe('400 invalid_wait')
    expect(await outcome(ask(first, 'DELETE', path, key))).toBe('400 invalid_reason')
    expect(await outcome(ask(first, 'DELETE', `${path}?reason=x`, key))).toBe('400 invalid_reason')
    expect(await outcome(ask(first, 'GET', `${path}/0`, key))).toBe('404 pairing_slot_empty')
    expect(await outcome(ask(first, 'GET', `${path}/0`, randomBytes(16)))).toBe('403 pairing_not_yours')
    expect(await outcome(ask(first, 'GET', `${newPath()}/0`, key))).toBe('404 pairing_not_found')
    expect(await outcome(ask(first, 'PUT', `${path}/1`, key, new Uint8Array(0)))).toBe('413 pairing_message_size')
    expect(await outcome(ask(first, 'PUT', `${path}/1`, key, randomBytes(8193)))).toBe('413 pairing_message_size')
    expect(await outcome(ask(first, 'PUT', `${path}/1`, key, randomBytes(8192)))).toBe('201')
    for (const wrong of ['/8', '/-1', '/x', '/0/0', '/join/0']) {
      expect(await outcome(ask(first, 'GET', `${path}${wrong}`, key)), wrong).toBe('404 not_found')
    }
    for (const wrong of ['0', '1000000', '1x', '-1', '']) {
      expect(await outcome(ask(first, 'POST', `/v1/pairings/${wrong}/join`, key)), wrong).toBe('404 not_found')
    }
  })

  test('PAIR-7: ten failed joins, then 429 with the time to wait, on both nodes', async () => {
    const answers: string[] = []
    for (let i = 0; i < 10; i++) {
      answers.push(await outcome(ask(i % 2 === 0 ? first : second, 'POST', `${newPath()}/join`, randomBytes(16))))
    }
    // One of this address's joins failed above already, and one confirmation.
    expect(answers.filter((answer) => answer === '404 pairing_not_found').length).toBeGreaterThanOrEqual(8)
    const limited = await ask(second, 'POST', `${newPath()}/join`, randomBytes(16))
    expect(limited.status).toBe(429)
    const body = JSON.parse(await limited.text())
    expect(body).toMatchObject({ code: 'rate_limited' })
    expect(body.retry_after_ms).toBeGreaterThan(0)
    expect(Number(limited.headers.get('retry-after'))).toBe(Math.ceil(body.retry_after_ms / 1000))
  })

  test('PAIR-2: the address of a QR answers a camera with what to do, and was never sent the fragment', async () => {
    const answer = await ask(first, 'GET', '/p')
    expect(answer.headers.get('content-type')).toContain('text/plain')
    expect(await answer.text()).toContain('valise pair')
  })

  test('P7: none of it is called a failure of the server', () => {
    expect(complaints).toEqual([])
  })
})
