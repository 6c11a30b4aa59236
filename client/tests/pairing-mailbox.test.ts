// A mailbox as a device uses it, with a server that the test plays: what each answer means, what is asked again and after
// how long, and when it is given up.

import { describe, expect, test } from 'vitest'
import { SetupError } from '../src/account/setup-error.ts'
import type { HttpRequest, HttpResponse } from '../src/http.ts'
import { createPairingMailbox, joinPairingMailbox, openPairingMailbox } from '../src/pairing/mailbox.ts'
import { createManualClock } from './support/manual-clock.ts'
import { answerOf, refusal } from './support/pairing-server.ts'
import { until } from './support/until.ts'

const ID = new Uint8Array(16).fill(0xab)
const PATH = `http://s/v1/pairings/${'ab'.repeat(16)}`
const AWAY = new Error('the server is away')
const GIVEN_UP = new Error('given up')

type Answer = HttpResponse | Error

/** The server gives these answers, one a request, and the last for ever. */
function createScene(...answers: Answer[]) {
  const clock = createManualClock()
  const ending = new AbortController()
  const asked: HttpRequest[] = []
  const parts = {
    http: async (request: HttpRequest) => {
      asked.push(request)
      const answer = answers[Math.min(asked.length, answers.length) - 1]!
      if (answer instanceof Error) throw answer
      return answer
    },
    clock,
    httpUrl: 'http://s',
    seatKey: new Uint8Array(16).fill(1),
    signal: ending.signal,
  }
  /** The time at which each further request came, in ms from the first. */
  const waits = async (count: number): Promise<number[]> => {
    const startMs = clock.now()
    const times: number[] = []
    for (let at = 1; at <= count; at++) {
      await until(() => clock.waiting > 0, 'a pause')
      while (asked.length === at) {
        clock.advance(50)
        await new Promise((resolve) => setImmediate(resolve))
      }
      times.push(clock.now() - startMs)
    }
    return times
  }
  return { parts, clock, asked, ending, waits, mailbox: createPairingMailbox(parts, ID) }
}

const codeOf = async (attempt: Promise<unknown>): Promise<string> => {
  const failure = await attempt.then(
    () => undefined,
    (error: unknown) => error,
  )
  return failure instanceof SetupError ? `${failure.code}: ${failure.message}` : String(failure)
}

describe('opening', () => {
  test('PAIR-5: asks with the seat’s key, and is told the number', async () => {
    const { parts, asked } = createScene(answerOf(201, { nameplate: 412_730_958, lifetime_ms: 600_000 }))
    expect(await openPairingMailbox(parts, ID)).toEqual({ nameplate: 412_730_958, lifetimeMs: 600_000 })
    expect(asked).toEqual([
      { method: 'PUT', url: PATH, authorization: 'Bearer AQEBAQEBAQEBAQEBAQEBAQ', signal: parts.signal },
    ])
  })

  test.each([
    ['a refusal', refusal(409, 'pairing_taken')],
    ['no number', answerOf(201, { lifetime_ms: 1 })],
    ['a number too short', answerOf(201, { nameplate: 99_999_999, lifetime_ms: 1 })],
    ['a number too long', answerOf(201, { nameplate: 1_000_000_000, lifetime_ms: 1 })],
    ['no life', answerOf(201, { nameplate: 412_730_958, lifetime_ms: -1 })],
    ['another status', answerOf(200, { nameplate: 412_730_958, lifetime_ms: 1 })],
    ['no JSON', answerOf(201, '<html>')],
  ])('PAIR-5: %s opens nothing', async (_name, answer) => {
    expect(await codeOf(openPairingMailbox(createScene(answer).parts, ID))).toMatch(/^pairing_refused: /)
  })
})

describe('joining', () => {
  const joined = answerOf(200, { mailbox_id: 'ab'.repeat(16), lifetime_ms: 5000 })

  test('PAIR-5: by number or by id, and is told the id', async () => {
    for (const [target, place] of [
      [412, '412'],
      [ID, 'ab'.repeat(16)],
    ] as const) {
      const { parts, asked } = createScene(joined)
      expect(await joinPairingMailbox(parts, target)).toEqual({ mailboxId: ID, lifetimeMs: 5000 })
      expect(asked[0]).toMatchObject({ method: 'POST', url: `http://s/v1/pairings/${place}/join` })
    }
  })

  test.each([
    ['pairing_not_found', 'No pairing waits under this code'],
    ['pairing_taken', 'Another device has joined with this code already'],
    ['pairing_failed', 'This code is used up'],
    ['pairing_ended', 'This code is not good any more: the device that showed it'],
    ['pairing_evicted', 'This code is not good any more: the server had no place left'],
    ['anything', 'The server lets nobody join this pairing (HTTP 410)'],
  ])('PAIR-5: %s is told in words', async (code, text) => {
    const told = await codeOf(joinPairingMailbox(createScene(refusal(410, code)).parts, 412))
    expect(told).toContain(`pairing_refused: ${text}`)
    if (code !== 'anything') expect(told).toContain('Read the code that the other device shows now')
  })

  test.each([
    ['of another length', 'ab'.repeat(15)],
    ['that is none', 'zz'.repeat(16)],
    ['that is a number', 12],
  ])('PAIR-5: an id %s is no id', async (_name, id) => {
    const answer = answerOf(200, { mailbox_id: id, lifetime_ms: 5000 })
    expect(await codeOf(joinPairingMailbox(createScene(answer).parts, 412))).toContain('pairing_refused: ')
  })

  test.each([
    [1, '1 minute'],
    [60_000, '1 minute'],
    [60_001, '2 minutes'],
    [2 ** 40, '60 minutes'],
  ])('PAIR-7: limited for %i ms it is told at once when to come again, in %s', async (retryAfterMs, text) => {
    const { parts, asked } = createScene(answerOf(429, { code: 'rate_limited', retry_after_ms: retryAfterMs }))
    expect(await codeOf(joinPairingMailbox(parts, 412))).toMatch(new RegExp(`^pairing_limited: .* in ${text}\\.$`))
    expect(asked).toHaveLength(1)
  })
})

describe('messages', () => {
  const CLOSED = [
    ['pairing_not_found', 'expired'],
    ['pairing_not_yours', 'other_ended'],
    ['pairing_ended', 'other_ended'],
    ['pairing_failed', 'other_failed'],
    ['pairing_evicted', 'evicted'],
    ['pairing_slot_taken', 'message_altered'],
    ['something new', 'other_ended'],
  ] as const

  test.each(CLOSED)('PAIR-5: %s closes the mailbox: %s', async (code, failure) => {
    const closed = { type: 'closed', failure }
    expect(await createScene(refusal(410, code)).mailbox.post(0, ID)).toEqual(closed)
    expect(await createScene(refusal(410, code)).mailbox.take(1)).toEqual(closed)
  })

  test('PAIR-5: one is written to its slot, and one is waited for in the other’s', async () => {
    const posting = createScene(answerOf(201))
    expect(await posting.mailbox.post(2, Uint8Array.of(7))).toEqual({ type: 'stored' })
    expect(posting.asked[0]).toMatchObject({ method: 'PUT', url: `${PATH}/2`, body: Uint8Array.of(7) })
    const waiting = createScene(refusal(404, 'pairing_slot_empty'), { status: 200, body: Uint8Array.of(8) })
    const taken = waiting.mailbox.take(3)
    expect(await waiting.waits(1)).toEqual([1000])
    expect(await taken).toEqual({ type: 'message', body: Uint8Array.of(8) })
    expect(waiting.asked.map(({ method, url }) => `${method} ${url}`)).toEqual(Array(2).fill(`GET ${PATH}/3?wait_s=20`))
  })

  test('PAIR-5: a server that is away or fails is asked again every second, twenty times in all', async () => {
    const { mailbox, waits, asked } = createScene(AWAY, answerOf(500), answerOf(503), answerOf(201))
    const posted = mailbox.post(0, ID)
    expect(await waits(3)).toEqual([1000, 2000, 3000])
    expect(await posted).toEqual({ type: 'stored' })
    expect(asked).toHaveLength(4)
    const lost = createScene(AWAY)
    const failing = codeOf(lost.mailbox.take(1))
    expect((await lost.waits(19)).at(-1)).toBe(19_000)
    expect(await failing).toBe('server_unreachable: The server cannot be reached.')
    expect(lost.asked).toHaveLength(20)
  })

  test('PAIR-7: a limit is waited out, between a quarter of a second and ten seconds at a time', async () => {
    const limited = (ms?: number) => answerOf(429, { code: 'rate_limited', retry_after_ms: ms })
    const { mailbox, waits } = createScene(limited(2000), limited(3_600_000), limited(), answerOf(201))
    const posted = mailbox.post(0, ID)
    expect(await waits(3)).toEqual([2000, 12_000, 13_000])
    expect(await posted).toEqual({ type: 'stored' })
    const hurried = createScene(limited(0), limited(0), answerOf(201))
    const soon = hurried.mailbox.post(0, ID)
    expect(await hurried.waits(2)).toEqual([250, 500])
    expect(await soon).toEqual({ type: 'stored' })
    // Asked in vain as often as it may be, and limited in between: the server is there.
    const busy = createScene(...Array(19).fill(AWAY), limited(), AWAY, answerOf(201))
    const late = busy.mailbox.post(0, ID)
    await busy.waits(21)
    expect(await late).toEqual({ type: 'stored' })
  })

  test('PAIR-8: given up, it asks no more, be it waiting or asking', async () => {
    const pausing = createScene(AWAY)
    const posted = codeOf(pausing.mailbox.post(0, ID))
    await until(() => pausing.clock.waiting === 1, 'a pause')
    pausing.ending.abort(GIVEN_UP)
    expect(await posted).toBe('Error: given up')
    expect(pausing.clock.waiting).toBe(0)
    // As an HTTP does that is aborted while it asks, and as one that hears of it before.
    const asking = createScene(AWAY)
    asking.ending.abort(GIVEN_UP)
    expect(await codeOf(asking.mailbox.take(1))).toBe('Error: given up')
    const empty = createScene(refusal(404, 'pairing_slot_empty'))
    empty.ending.abort(GIVEN_UP)
    expect(await codeOf(empty.mailbox.take(1))).toBe('Error: given up')
  })

  test('PAIR-5: it is ended with one request that nothing stops, and whose failure is none', async () => {
    for (const answer of [answerOf(204), answerOf(500), AWAY]) {
      const { mailbox, asked, ending } = createScene(answer)
      ending.abort(GIVEN_UP)
      await mailbox.end('failed')
      expect(asked).toEqual([
        { method: 'DELETE', url: `${PATH}?reason=failed`, authorization: 'Bearer AQEBAQEBAQEBAQEBAQEBAQ' },
      ])
    }
  })
})
