// When a client comes back, and when it does not.

import { ERROR_CODES, errorEntry } from '@valise/protocol'
import { describe, expect, test } from 'vitest'
import { describeStop } from '../src/alarm.ts'
import { createBackoff } from '../src/backoff.ts'
import { decideAfterEnd } from '../src/connection/reconnect-policy.ts'
import { httpUrlOf } from '../src/http.ts'

describe('backoff', () => {
  const waits = (random: number, count: number): number[] => {
    const backoff = createBackoff({ baseMs: 100, capMs: 1000, random: () => random })
    return Array.from({ length: count }, () => backoff.next())
  }

  test('each wait is uniform below a bound that doubles up to its cap', () => {
    expect(waits(0.5, 6)).toEqual([50, 100, 200, 400, 500, 500])
    expect(waits(0, 4)).toEqual([0, 0, 0, 0])
    expect(Math.max(...waits(0.999_999, 100))).toBeLessThan(1000)
  })

  test('after a success the waits begin anew', () => {
    const backoff = createBackoff({ baseMs: 100, capMs: 1000, random: () => 0.5 })
    backoff.next()
    backoff.next()
    backoff.reset()
    expect(backoff.next()).toBe(50)
  })
})

describe('after a session', () => {
  const closes = ERROR_CODES.filter((code) => errorEntry(code).close !== undefined)

  test.each(closes)('the registry decides what follows a close for %s', (code) => {
    const next = decideAfterEnd({ type: 'closed_by_server', code }, true)
    const { action } = errorEntry(code)
    if (action === 'stop' || action === 'alarm') expect(next.type).toBe('stop')
    else expect(next).toMatchObject({ type: 'reconnect', when: action === 'reconnect_now' ? 'now' : 'later' })
  })

  test('SES-2: a rotation is answered at once only by who had a session', () => {
    const end = { type: 'closed_by_server', code: 'session_rotation_required' } as const
    expect(decideAfterEnd(end, true)).toMatchObject({ when: 'now' })
    expect(decideAfterEnd(end, false)).toMatchObject({ when: 'later' })
  })

  test('SES-1: a wrong server key stops; losses, silence and failed handshakes do not', () => {
    expect(decideAfterEnd({ type: 'wrong_server_key' }, false)).toMatchObject({ type: 'stop' })
    for (const type of ['lost', 'silent', 'handshake_failed', 'handshake_timeout', 'bad_frame'] as const) {
      expect(decideAfterEnd({ type }, true)).toMatchObject({ type: 'reconnect', when: 'later' })
    }
  })

  test('every reason to stop is told with what to do about it', () => {
    for (const code of closes) {
      const next = decideAfterEnd({ type: 'closed_by_server', code }, true)
      if (next.type === 'stop') expect(describeStop(next.cause)).toMatch(/\. .+\.$/)
    }
    expect(describeStop({ type: 'closed' })).toMatch(/closed/)
  })
})

test('the HTTP address of a server is that of its WebSocket', () => {
  expect(httpUrlOf('ws://127.0.0.1:8787')).toBe('http://127.0.0.1:8787')
  expect(httpUrlOf('wss://example.org/valise/')).toBe('https://example.org/valise')
  for (const other of ['http://a', 'example.org', 'ws://a?b', 'ws://a#b', 'ws://user@a', '']) {
    expect(httpUrlOf(other)).toBeUndefined()
  }
})
