// The two devices of a pairing from the first screen to the last, over HTTP and a file each: as it should go, interrupted
// wherever it can be, and what both say when it comes to nothing.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { joinPairing } from '../src/pairing/ceremony.ts'
import { createPairingMailbox, joinPairingMailbox } from '../src/pairing/mailbox.ts'
import { parseOffer } from '../src/pairing/offer.ts'
import { createPairingScene, type PairingDevice, type PairingScene, SERVER } from './support/pairing-scene.ts'
import { until } from './support/until.ts'

let scene: PairingScene
beforeEach(async () => {
  scene = await createPairingScene()
})

const PARTS = ['existing', 'new'] as const
type Part = (typeof PARTS)[number]
const seatsOf = (displays: Part): { displayer: PairingDevice; joiner: PairingDevice } =>
  displays === 'existing'
    ? { displayer: scene.existing, joiner: scene.fresh }
    : { displayer: scene.fresh, joiner: scene.existing }

/** The displaying device waits for another: what it shows. */
async function show(displayer: PairingDevice, options: Parameters<PairingDevice['pair']>[0] = {}) {
  const ended = displayer.pair(options)
  await until(() => displayer.screen.includes('offered'), 'the offer')
  const { url, code } = displayer.shown!
  return { url, code, ended }
}
/** With another last digit. */
const mistyped = (code: string): string => code.replace(/\d$/, (digit) => String((Number(digit) + 1) % 10))

/** A device that took the seat with a code of its own and gives its share, and then no more. */
async function guess(code: string) {
  const offer = parseOffer(code)!
  if (offer.form !== 'code') throw new Error('a code is guessed')
  const http = { http: scene.server.http, clock: scene.clock, httpUrl: 'http://server.test' }
  const seat = { ...http, seatKey: crypto.randomBytes(16), signal: new AbortController().signal }
  const { mailboxId } = await joinPairingMailbox(seat, offer.nameplate)
  const party = { part: 'new', mailboxId, serverFingerprint: SERVER.fingerprint } as const
  const { sent } = joinPairing({ crypto }, party, { form: 'code', secret: new TextEncoder().encode(offer.digits) })
  const mailbox = createPairingMailbox(seat, mailboxId)
  await mailbox.post(0, sent[0]!)
  return mailbox
}

describe('both screens', () => {
  test.each(PARTS.flatMap((displays) => (['url', 'code'] as const).map((form) => [displays, form] as const)))(
    'PAIR-2, PAIR-4: the %s device displays, the other is given the %s: each step is told once, and nothing stays',
    async (displays, form) => {
      const { displayer, joiner } = seatsOf(displays)
      const shown = await show(displayer)
      expect(await Promise.all([shown.ended, joiner.pair({ offer: shown[form] })])).toEqual(
        displays === 'existing' ? ['added', 'admitted'] : ['admitted', 'added'],
      )
      expect(scene.isIn()).toBe(true)
      const begins = (device: PairingDevice) => (device === displayer ? ['offered', 'answered'] : ['opened'])
      expect(scene.existing.screen).toEqual([
        ...begins(scene.existing),
        'inviting',
        'awaiting_introduction',
        'deciding',
        'adding',
        'ended',
      ])
      const check = `check ${scene.fresh.check}`
      expect(scene.fresh.check).toMatch(/^\d{4}$/)
      expect(scene.fresh.screen).toEqual([
        ...begins(scene.fresh),
        'awaiting_invitation',
        check,
        'introducing',
        'awaiting_done',
        'ended',
      ])
      for (const { keeper } of [displayer, joiner]) expect(keeper.stored).toBeUndefined()
      expect(scene.server.mailbox().ending).toBe('ended')
      // Nothing is left to wait for.
      expect(scene.clock.waiting).toBe(0)
    },
  )

  test.each(PARTS)(
    'PAIR-2, PAIR-5: the %s device displays, the other is given a wrong code: both say so',
    async (displays) => {
      const { displayer, joiner } = seatsOf(displays)
      const { code, ended } = await show(displayer)
      expect(await joiner.pair({ offer: mistyped(code) })).toMatch(/^pairing_failed: .* do not share one secret/)
      expect(await ended).toMatch(/^pairing_failed: The other device ended this pairing because it failed/)
      expect(scene.server.mailbox().ending).toBe('failed')
      expect(scene.isIn()).toBe(false)
      expect(scene.fresh.check).toBeUndefined()
      for (const { keeper } of [displayer, joiner]) expect(keeper.stored).toBeUndefined()
      expect(await joiner.pair({ offer: code })).toMatch(/^pairing_refused: This code is used up/)
      // What was refused has not begun, and is not what the next call goes on with.
      expect(joiner.keeper.stored).toBeUndefined()
    },
  )

  test('PAIR-4, PAIR-5: with wrong digits both say so, and a person who declines is told of on both', async () => {
    scene.decide = async () => 'none'
    const { code, ended } = await show(scene.existing)
    const joined = scene.fresh.pair({ offer: code })
    expect(await ended).toMatch(/^pairing_failed: Those are not the four digits/)
    expect(await joined).toMatch(/^pairing_failed: The other device ended this pairing because it failed/)
    expect(scene.server.mailbox().ending).toBe('failed')

    scene.decide = async () => undefined
    const again = scene.fresh.pair()
    await until(() => scene.fresh.screen.filter((step) => step === 'offered').length === 1, 'the offer')
    expect(await Promise.all([again, scene.existing.pair({ offer: scene.fresh.shown!.url })])).toEqual([
      'declined',
      'declined',
    ])
    expect(scene.isIn()).toBe(false)
  })
})

describe('a device that waits', () => {
  test('PAIR-2, PAIR-6: a guesser that joins and then only waits is ended by time, counted as a failure, and told of', async () => {
    const { code, ended } = await show(scene.existing)
    const guesser = await guess(mistyped(code))
    await until(() => scene.existing.screen.includes('answered'), 'the answer')
    // It has the answer, and knows by it that its guess was wrong; it says nothing.
    expect(await guesser.take(1)).toMatchObject({ type: 'message' })
    expect(await scene.fresh.pair({ offer: code })).toMatch(
      /^pairing_refused: Another device has joined with this code/,
    )
    const waiting = guesser.take(3)
    await until(() => scene.clock.waiting > 0, 'the deadline')
    scene.clock.advance(119_999)
    expect(scene.server.mailbox().ending).toBeUndefined()
    scene.clock.advance(1)
    expect(await ended).toMatch(/^pairing_failed: A device joined and did not show in time that it knows the code/)
    expect(scene.server.mailbox().ending).toBe('failed')
    expect(await waiting).toEqual({ type: 'closed', failure: 'other_failed' })
    expect(scene.existing.keeper.stored).toBeUndefined()
  })

  test.each(PARTS)('PAIR-6: the %s device displays and nobody comes: it ends after five minutes', async (displays) => {
    const { displayer } = seatsOf(displays)
    const { ended } = await show(displayer, { signal: new AbortController().signal })
    scene.clock.advance(300_000)
    expect(await ended).toMatch(/^pairing_failed: No other device made itself known in time/)
    expect(scene.server.mailbox().ending).toBe('ended')
    expect(displayer.keeper.stored).toBeUndefined()
  })

  test('PAIR-6: joined while the other device is away, it ends after ten minutes', async () => {
    const displayed = new AbortController()
    const ended = scene.existing.pair({ signal: displayed.signal })
    await until(() => scene.existing.shown !== undefined, 'the offer')
    displayed.abort()
    expect(await ended).toMatch(/^aborted: /)
    const joined = scene.fresh.pair({ offer: scene.existing.shown!.code })
    await until(() => scene.fresh.screen.includes('opened') && scene.server.mailbox().slots.has(0), 'the share')
    scene.clock.advance(600_000)
    expect(await joined).toMatch(/^pairing_failed: The pairing was not finished in time/)
    expect(scene.fresh.keeper.stored).toBeUndefined()
    // Begun without a code it is a new one: nothing of the old is gone on with.
    const again = scene.existing.pair()
    await until(() => scene.server.mailboxes.size === 2, 'another mailbox')
    expect(scene.existing.screen).not.toContain('resumed')
    scene.clock.advance(300_000)
    expect(await again).toMatch(/^pairing_failed: No other device/)
  })

  test('PAIR-6: nobody types the digits: both say that time is over, and a late answer lets nobody in', async () => {
    let type: (digits: string | undefined) => void = () => {}
    scene.decide = () => new Promise((resolve) => (type = resolve))
    const { code, ended } = await show(scene.existing)
    const joined = scene.fresh.pair({ offer: code })
    await until(() => scene.existing.screen.includes('deciding'), 'the question')
    scene.clock.advance(600_000)
    type(scene.fresh.check)
    expect(await ended).toMatch(/^pairing_failed: The pairing was not finished in time/)
    expect(await joined).toMatch(/^pairing_failed: The pairing was not finished in time/)
    expect(scene.isIn()).toBe(false)
    // Each tells the server, whose clock may be behind.
    expect(scene.server.requests.filter((request) => request.startsWith('DELETE'))).toHaveLength(2)
  })

  test('PAIR-6: its machine slept while it asked for the digits: typed after the ten minutes they let nobody in', async () => {
    let type: (digits: string | undefined) => void = () => {}
    scene.decide = () => new Promise((resolve) => (type = resolve))
    const { code, ended } = await show(scene.existing)
    const joined = scene.fresh.pair({ offer: code })
    await until(() => scene.existing.screen.includes('deciding'), 'the question')
    scene.clock.sleep(600_000)
    type(scene.fresh.check)
    expect(await ended).toMatch(/^pairing_failed: The pairing was not finished in time/)
    scene.clock.advance(0)
    expect(await joined).toMatch(/^pairing_failed: /)
    expect(scene.isIn()).toBe(false)
  })

  test('PAIR-6: time is over while the device is let in: that it may be in is said', async () => {
    scene.add = (_device, signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
    const { code, ended } = await show(scene.existing)
    const joined = scene.fresh.pair({ offer: code })
    await until(() => scene.existing.screen.includes('adding'), 'the entry')
    scene.clock.advance(600_000)
    expect(await ended).toMatch(
      /^pairing_failed: The time was over while the new device was being let in: it may be one/,
    )
    expect(await joined).toMatch(/^pairing_failed: /)
  })

  test('PAIR-6: the device is in, and the other could not be told in time: it is told as in', async () => {
    const { code, ended } = await show(scene.existing)
    const joined = scene.fresh.pair({ offer: code })
    await until(() => scene.existing.screen.includes('deciding'), 'the question')
    scene.existing.http = async () => Promise.reject(new Error('the network is away'))
    await until(() => scene.existing.screen.includes('ended'), 'the entry')
    scene.clock.advance(600_000)
    expect(await ended).toBe('added')
    expect(scene.existing.outcomes).toMatchObject([{ type: 'added' }])
    expect(await joined).toMatch(/^pairing_failed: /)
    expect(scene.isIn()).toBe(true)
  })
})

describe('interrupted', () => {
  /** Goes on each time that it is interrupted, as a person does. */
  async function persist(device: PairingDevice, offer: string | undefined, interrupts: () => AbortSignal) {
    for (let given = offer; ; given = undefined) {
      const end = await device.pair({ offer: given, signal: interrupts() })
      if (!end.startsWith('aborted: Interrupted. Pair again')) return end
      expect(device.keeper.stored).toBeDefined()
    }
  }

  async function persistBoth(displays: Part, interrupts: (device: PairingDevice) => AbortSignal) {
    const { displayer, joiner } = seatsOf(displays)
    const displayed = persist(displayer, undefined, () => interrupts(displayer))
    await until(() => displayer.shown !== undefined, 'the offer')
    const joined = persist(joiner, displayer.shown!.code, () => interrupts(joiner))
    const ends = await Promise.all([displayed, joined])
    expect(ends.sort()).toEqual(['added', 'admitted'])
    expect(scene.isIn()).toBe(true)
    for (const { keeper } of [displayer, joiner]) expect(keeper.stored).toBeUndefined()
    // The same digits, however often they are shown.
    expect(scene.fresh.screen.filter((line) => line.startsWith('check '))).toHaveLength(1)
  }

  test.each(PARTS)('PAIR-8: at each step of either device, the %s one displaying, both go on', async (displays) => {
    const running = new Map<PairingDevice, AbortController>()
    const interrupted = new Set<string>()
    for (const [name, device] of Object.entries({ existing: scene.existing, fresh: scene.fresh })) {
      device.onStep = (type) => {
        if (interrupted.has(`${name} ${type}`)) return
        interrupted.add(`${name} ${type}`)
        running.get(device)?.abort()
      }
    }
    await persistBoth(displays, (device) => {
      const controller = new AbortController()
      running.set(device, controller)
      return controller.signal
    })
    expect(interrupted.size).toBe(displays === 'existing' ? 7 + 5 : 6 + 6)
  })

  const cases = PARTS.flatMap((displays) =>
    (['displayer', 'joiner'] as const).flatMap((victim) =>
      (['before', 'after'] as const).map((when) => [displays, victim, when] as const),
    ),
  )
  test.each(cases)(
    'PAIR-8: the %s device displays: the %s ends %s each of its requests is at the server, and goes on',
    async (displays, victim, when) => {
      for (let request = 1; ; request++) {
        scene = await createPairingScene()
        const device = seatsOf(displays)[victim]
        let count = 0
        let running = new AbortController()
        device.http = async (asked) => {
          count += 1
          if (count !== request) return scene.server.http(asked)
          if (when === 'after' && asked.method !== 'GET') await scene.server.http(asked)
          running.abort()
          throw new Error('the process has ended')
        }
        await persistBoth(displays, (asked) => {
          if (asked !== device) return new AbortController().signal
          running = new AbortController()
          return running.signal
        })
        if (count < request) break
        expect(count).toBeLessThan(20)
      }
    },
  )
})
