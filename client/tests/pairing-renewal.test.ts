// A screen whose code is spoiled shows another by itself: why, how often, and what becomes of it when it is interrupted or
// the server opens no more.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { MAX_RENEWALS } from '../src/account/pair-account.ts'
import { joinPairing } from '../src/pairing/ceremony.ts'
import { createPairingMailbox, joinPairingMailbox } from '../src/pairing/mailbox.ts'
import { parseOffer } from '../src/pairing/offer.ts'
import { parsePairingRecord } from '../src/pairing/record.ts'
import { createPairingScene, type PairingDevice, type PairingScene, SERVER } from './support/pairing-scene.ts'
import { answerOf, refusal } from './support/pairing-server.ts'
import { until } from './support/until.ts'

let scene: PairingScene
beforeEach(async () => {
  scene = await createPairingScene()
})

const PARTS = ['existing', 'new'] as const
const countOf = ({ screen }: PairingDevice, line: string): number => screen.filter((shown) => shown === line).length
/** The device shows its `count`th code: what it shows. */
async function codeShown(device: PairingDevice, count: number): Promise<string> {
  await until(() => countOf(device, 'offered') === count, `code ${count}`)
  return device.shown!.code
}
const newestMailbox = () => [...scene.server.mailboxes.values()].at(-1)!

describe('a code that is spoiled', () => {
  test.each(PARTS)('PAIR-12: nobody comes: the %s device shows another, and pairs by it', async (part) => {
    const [displayer, joiner] = part === 'existing' ? [scene.existing, scene.fresh] : [scene.fresh, scene.existing]
    const ended = displayer.pair({ maxRenewals: MAX_RENEWALS })
    const first = await codeShown(displayer, 1)
    scene.clock.advance(300_000)
    const second = await codeShown(displayer, 2)
    expect(second).not.toBe(first)
    expect(displayer.screen).toContain(`renewed offer_expired ${MAX_RENEWALS - 1}`)
    // The person at the other device types what they read before.
    expect(await joiner.pair({ offer: first })).toMatch(
      /^pairing_refused: .* Read the code that the other device shows now/,
    )
    expect(await Promise.all([ended, joiner.pair({ offer: second })])).toEqual(
      part === 'existing' ? ['added', 'admitted'] : ['admitted', 'added'],
    )
    expect(scene.isIn()).toBe(true)
    for (const { keeper } of [displayer, joiner]) expect(keeper.stored).toBeUndefined()
  })

  test('PAIR-12: the place is given to another address: the screen says so and shows another', async () => {
    // Without a wait at the server: the answer is read at the next request.
    let isEvicted = false
    scene.existing.http = async (request) => {
      const first = [...scene.server.mailboxes.keys()][0]
      if (isEvicted && first !== undefined && request.url.includes(first)) return refusal(410, 'pairing_evicted')
      if (request.method === 'GET' && scene.server.mailboxes.size === 1) {
        isEvicted = true
        return refusal(410, 'pairing_evicted')
      }
      return scene.server.http(request)
    }
    const ended = scene.existing.pair({ maxRenewals: MAX_RENEWALS })
    const second = await codeShown(scene.existing, 2)
    expect(scene.existing.screen).toContain(`renewed evicted ${MAX_RENEWALS - 1}`)
    expect(await Promise.all([ended, scene.fresh.pair({ offer: second })])).toEqual(['added', 'admitted'])
  })

  test('PAIR-12: a stranger takes the seat and falls silent: the screen shows another after two minutes', async () => {
    const ended = scene.existing.pair({ maxRenewals: MAX_RENEWALS })
    const first = await codeShown(scene.existing, 1)
    await guess(first)
    await until(() => scene.existing.screen.includes('answered'), 'the answer')
    await until(() => scene.clock.waiting > 0, 'the deadline')
    scene.clock.advance(120_000)
    const second = await codeShown(scene.existing, 2)
    expect(scene.existing.screen).toContain(`renewed not_confirmed ${MAX_RENEWALS - 1}`)
    expect([...scene.server.mailboxes.values()][0]!.ending).toBe('failed')
    expect(await Promise.all([ended, scene.fresh.pair({ offer: second })])).toEqual(['added', 'admitted'])
  })

  test('PAIR-12: a stranger who sends what is no message of a pairing spoils no more than one code', async () => {
    const ended = scene.existing.pair({ maxRenewals: MAX_RENEWALS })
    await codeShown(scene.existing, 1)
    const [id] = scene.server.mailboxes.keys()
    const put = { method: 'PUT', url: `http://server.test/v1/pairings/${id}/0`, body: Uint8Array.of(9) } as const
    await scene.server.http({ ...put, authorization: newestMailbox().displayer })
    const second = await codeShown(scene.existing, 2)
    expect(scene.existing.screen).toContain(`renewed message_unreadable ${MAX_RENEWALS - 1}`)
    expect(await Promise.all([ended, scene.fresh.pair({ offer: second })])).toEqual(['added', 'admitted'])
  })
})

describe('the number of codes', () => {
  test('PAIR-12: three follow the first, each with secrets and a mailbox of its own, and then it fails', async () => {
    const ended = scene.existing.pair({ maxRenewals: MAX_RENEWALS })
    const codes: string[] = []
    for (let count = 1; count <= 4; count++) {
      codes.push(await codeShown(scene.existing, count))
      scene.clock.advance(300_000)
    }
    expect(await ended).toMatch(/^pairing_failed: No other device made itself known in time\. Begin a new one\./)
    expect(scene.existing.screen.filter((line) => line.startsWith('renewed'))).toEqual(
      [2, 1, 0].map((left) => `renewed offer_expired ${left}`),
    )
    expect(new Set(codes.map((code) => code.slice(0, 11))).size).toBe(4)
    expect(new Set(codes.map((code) => code.slice(-7))).size).toBeGreaterThan(1)
    expect([...scene.server.mailboxes.values()].map(({ ending }) => ending)).toEqual(Array(4).fill('ended'))
    expect(scene.existing.keeper.stored).toBeUndefined()
    expect(scene.clock.waiting).toBe(0)
  })

  test('PAIR-8, PAIR-12: interrupted, it goes on with the newest code, and the codes before it still count', async () => {
    const running = new AbortController()
    const ended = scene.existing.pair({ maxRenewals: MAX_RENEWALS, signal: running.signal })
    await codeShown(scene.existing, 1)
    scene.clock.advance(300_000)
    const second = await codeShown(scene.existing, 2)
    running.abort()
    expect(await ended).toMatch(/^aborted: /)
    expect(parsePairingRecord(scene.existing.keeper.stored!)).toMatchObject({ stage: 'running', renewals: 1 })
    const again = scene.existing.pair({ maxRenewals: 1 })
    expect(await codeShown(scene.existing, 3)).toBe(second)
    expect(scene.existing.shown!.isResumed).toBe(true)
    scene.clock.advance(300_000)
    expect(await again).toMatch(/^pairing_failed: No other device/)
  })

  test('PAIR-7, PAIR-12: the server opens no more: it says for how long, and nothing is gone on with', async () => {
    const ended = scene.existing.pair({ maxRenewals: MAX_RENEWALS })
    await codeShown(scene.existing, 1)
    scene.server.intercept = ({ method, url }) =>
      method === 'PUT' && !/\/\d$/.test(url)
        ? answerOf(429, { code: 'rate_limited', retry_after_ms: 600_000 })
        : undefined
    scene.clock.advance(300_000)
    expect(await ended).toMatch(/^pairing_limited: .* in 10 minutes\.$/)
    expect(scene.existing.screen).toContain(`renewed offer_expired ${MAX_RENEWALS - 1}`)
    expect(scene.existing.keeper.stored).toBeUndefined()
  })
})

describe('once the other has proved that it knows the code', () => {
  test('PAIR-4, PAIR-12: wrong digits end it, and no other code is shown', async () => {
    scene.decide = async () => 'none'
    const ended = scene.existing.pair({ maxRenewals: MAX_RENEWALS })
    const code = await codeShown(scene.existing, 1)
    const joined = scene.fresh.pair({ offer: code })
    expect(await ended).toMatch(/^pairing_failed: Those are not the four digits/)
    expect(await joined).toMatch(/^pairing_failed: /)
    expect(scene.existing.screen.filter((line) => line.startsWith('renewed'))).toEqual([])
    expect(scene.server.mailboxes.size).toBe(1)
    expect(scene.isIn()).toBe(false)
  })
})

/** A device that took the seat with a code of its own and gives its share, and then no more. */
async function guess(code: string): Promise<void> {
  const offer = parseOffer(code)!
  if (offer.form !== 'code') throw new Error('a code is guessed')
  const seatKey = crypto.randomBytes(16)
  const { signal } = new AbortController()
  const seat = { http: scene.server.http, clock: scene.clock, httpUrl: 'http://server.test', seatKey, signal }
  const { mailboxId } = await joinPairingMailbox(seat, offer.nameplate)
  const party = { part: 'new', mailboxId, serverFingerprint: SERVER.fingerprint } as const
  const { sent } = joinPairing({ crypto }, party, { form: 'code', secret: new TextEncoder().encode('000000') })
  await createPairingMailbox(seat, mailboxId).post(0, sent[0]!)
}
