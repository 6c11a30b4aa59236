// A request over the limit of its address is sent again when the server says, and nothing else is.

import { encodeUtf8 } from '@valise/protocol'
import { expect, test } from 'vitest'
import type { HttpResponse } from '../src/http.ts'
import { createPatientHttp } from '../src/patient-http.ts'
import { createManualClock } from './support/manual-clock.ts'
import { until } from './support/until.ts'

const answer = (status: number, body: object | string = ''): HttpResponse => ({
  status,
  body: encodeUtf8(typeof body === 'string' ? body : JSON.stringify(body)),
})
const limited = (retryAfterMs: unknown): HttpResponse =>
  answer(429, { code: 'rate_limited', retry_after_ms: retryAfterMs })

function serve(...answers: HttpResponse[]) {
  const clock = createManualClock()
  const sentAtMs: number[] = []
  const startMs = clock.now()
  const http = createPatientHttp(async () => {
    sentAtMs.push(clock.now() - startMs)
    return answers[sentAtMs.length - 1] ?? answer(200)
  }, clock)
  return { clock, sentAtMs, http }
}

test('LIM-6: it waits as long as it is asked to, each time', async () => {
  const { clock, sentAtMs, http } = serve(limited(1500), limited(500))
  const done = http({ method: 'GET', url: 'http://s/v1/x' })
  for (const ms of [1500, 500]) {
    await until(() => clock.waiting === 1, 'the wait')
    clock.advance(ms - 1)
    expect(clock.waiting).toBe(1)
    clock.advance(1)
  }
  expect((await done).status).toBe(200)
  expect(sentAtMs).toEqual([0, 1500, 2000])
})

test('LIM-6: what asks for no time, or too much, is the answer', async () => {
  const others = [
    answer(429, { code: 'mailboxes_full', expected: 'try again in ten minutes' }),
    answer(429, 'no json'),
    limited('soon'),
    limited(-1),
    limited(60_001),
    answer(503, { code: 'rate_limited', retry_after_ms: 1 }),
  ]
  for (const other of others) {
    const { clock, sentAtMs, http } = serve(other)
    expect(await http({ method: 'GET', url: 'http://s/v1/x' })).toBe(other)
    expect(sentAtMs).toEqual([0])
    expect(clock.waiting).toBe(0)
  }
})

test('LIM-6: who gives up meanwhile leaves no timer behind', async () => {
  const { clock, sentAtMs, http } = serve(limited(1000), limited(1000))
  const giveUp = new AbortController()
  const done = http({ method: 'GET', url: 'http://s/v1/x', signal: giveUp.signal })
  await until(() => clock.waiting === 1, 'the wait')
  giveUp.abort(new Error('given up'))
  await expect(done).rejects.toThrow('given up')
  expect(clock.waiting).toBe(0)
  await expect(http({ method: 'GET', url: 'http://s/v1/x', signal: giveUp.signal })).rejects.toThrow('given up')
  expect(clock.waiting).toBe(0)
  expect(sentAtMs.length).toBe(2)
})

test('LIM-6: a server that asks for no time again and again is waited for a minute in all, four times a second', async () => {
  const { clock, sentAtMs, http } = serve(...Array.from({ length: 100_000 }, () => limited(0)))
  let answered: HttpResponse | undefined
  void http({ method: 'GET', url: 'http://s/v1/x' }).then((response) => {
    answered = response
  })
  await until(() => {
    clock.advance(50)
    return answered !== undefined || sentAtMs.length > 1000
  }, 'the answer')
  expect(answered?.status).toBe(429)
  expect(sentAtMs.length).toBeLessThanOrEqual(241)
})
