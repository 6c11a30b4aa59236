// The ceremony of pairing, honest and with a hostile server: every message, and everything that can be done to it.

import { toHex } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { offerPairing, stepCeremony } from '../src/pairing/ceremony.ts'
import { encodeAnswer, encodeOpening, parseOpening } from '../src/pairing/messages.ts'
import type { PairingPart } from '../src/pairing/offer.ts'
import { createDeviceKeys } from '../src/sealing/device-keys.ts'
import { type Carry, NOW_MS, type Pair, runPair, SERVER } from './support/pairing-pair.ts'

const PARTS: readonly PairingPart[] = ['existing', 'new']
/** By who displays: the slots of the ceremony in the order in which they are written. */
const SLOTS: Readonly<Record<PairingPart, readonly number[]>> = {
  existing: [0, 1, 2, 3, 4, 5],
  new: [0, 1, 2, 4, 3, 6],
}

/** Neither has let the other in, and the one to whom it was done says that it failed. */
function expectNobodyIn(pair: Pair): void {
  expect(pair.hasNewDevice()).toBe(false)
  expect(pair.existing()).not.toMatchObject({ type: 'ended', outcome: { type: 'added' } })
  expect(pair.fresh()).not.toMatchObject({ type: 'ended', outcome: { type: 'admitted' } })
}

describe('an honest ceremony', () => {
  test.each(PARTS.flatMap((displays) => (['qr', 'code'] as const).map((form) => [displays, form] as const)))(
    'PAIR-2: the %s device displays, the other joins by %s, and the new one is in the log',
    async (displays, form) => {
      const pair = await runPair({ displays, form })
      expect(pair.hasNewDevice()).toBe(true)
      expect(pair.existing()).toMatchObject({ outcome: { type: 'added', seq: 1 } })
      expect(pair.fresh()).toMatchObject({
        outcome: { type: 'admitted', seq: 1, entryHash: pair.account.head },
      })
      expect([...pair.written.keys()].sort()).toEqual([...SLOTS[displays]].sort())
    },
  )

  test('PAIR-5: nothing of the secrets is left in a ceremony that has ended', async () => {
    const pair = await runPair({ displays: 'existing', digits: '918273' })
    for (const state of [pair.initiator, pair.responder]) {
      expect(Object.keys(state).sort()).toEqual(
        ['type', 'seat', 'part', 'mailboxId', 'serverFingerprint', 'sent', 'taken', 'outcome'].sort(),
      )
      expect(JSON.stringify(state)).not.toContain('918273')
    }
  })

  test('PAIR-3: the messages tell the server neither who the user is nor what the device is called', async () => {
    const pair = await runPair({ displays: 'existing' })
    for (const body of pair.written.values()) {
      const bytes = Buffer.from(body)
      expect(bytes.includes(Buffer.from(pair.account.userId))).toBe(false)
      expect(bytes.includes(Buffer.from(pair.keys.record.edPub))).toBe(false)
      expect(bytes.includes('phone')).toBe(false)
      expect(body.length).toBeLessThanOrEqual(8192)
    }
  })

  test('PAIR-4: declined, both say so, and nobody was let in', async () => {
    for (const displays of PARTS) {
      const pair = await runPair({ displays, declines: true })
      expect(pair.outcomeOf('initiator')).toEqual({ type: 'declined' })
      expect(pair.outcomeOf('responder')).toEqual({ type: 'declined' })
      expectNobodyIn(pair)
    }
  })
})

describe('what two devices do not share', () => {
  test.each([
    ['another code', { typedDigits: '305119' }, 'wrong_code'],
    ['another mailbox', { joinerMailboxId: new Uint8Array(16).fill(9) }, 'wrong_code'],
    ['another server key', { joinerServer: new Uint8Array(32).fill(6) }, 'wrong_code'],
  ])('PAIR-2: with %s the first confirmation fails, and nothing is said after it', async (_name, options, failure) => {
    for (const displays of PARTS) {
      const pair = await runPair({ displays, ...options })
      expect(pair.outcomeOf('initiator')).toEqual({ type: 'failed', failure })
      expect(pair.written.size).toBe(2)
      expectNobodyIn(pair)
    }
  })

  test.each(PARTS)('PAIR-2: two devices that are both %s are told', async (part) => {
    const pair = await runPair({ displays: part, joinerPart: part })
    expect(pair.outcomeOf('responder')).toEqual({ type: 'failed', failure: 'same_part' })
    expect(pair.hasNewDevice()).toBe(false)
  })

  test.each([
    ['qr', 120_000, 120_001],
    ['code', 300_000, 300_001],
  ] as const)('PAIR-6: a %s that was shown for too long opens nothing', async (form, lastMs, tooLateMs) => {
    expect((await runPair({ displays: 'existing', form, joinedAfterMs: lastMs })).hasNewDevice()).toBe(true)
    const late = await runPair({ displays: 'existing', form, joinedAfterMs: tooLateMs })
    expect(late.outcomeOf('responder')).toEqual({ type: 'failed', failure: 'offer_expired' })
    expectNobodyIn(late)
  })

  test('PAIR-4: other digits than those the new device shows let nobody in', async () => {
    for (const displays of PARTS) {
      // No four digits equal these.
      const pair = await runPair({ displays, typedCheck: 'none' })
      expect(pair.existing()).toMatchObject({ outcome: { type: 'failed', failure: 'wrong_digits' } })
      expectNobodyIn(pair)
    }
  })
})

describe('a hostile server', () => {
  const other: Partial<Record<PairingPart, Pair>> = {}
  const rerun: Partial<Record<PairingPart, Pair>> = {}
  const mailboxId = new Uint8Array(16).fill(3)
  beforeAll(async () => {
    for (const displays of PARTS) {
      other[displays] = await runPair({ displays })
      // The same code and the same mailbox id: only the shares are fresh.
      rerun[displays] = await runPair({ displays, mailboxId })
    }
  })

  const cases = PARTS.flatMap((displays) => SLOTS[displays].map((slot) => [displays, slot] as const))

  /** Does something to one slot and leaves the others alone. */
  const at =
    (
      slot: number,
      change: (body: Uint8Array, written: ReadonlyMap<number, Uint8Array>) => Uint8Array | undefined,
    ): Carry =>
    (asked, written) => {
      const body = written.get(asked)
      return asked === slot && body !== undefined ? change(body, written) : body
    }

  /** Whoever is given the message notices; nobody is let in, but by a last message that only tells that it was done. */
  async function expectNoticed(displays: PairingPart, slot: number, carry: Carry): Promise<void> {
    const pair = await runPair({ displays, mailboxId }, carry)
    const reader = slot % 2 === 0 ? 'responder' : 'initiator'
    const isLast = slot === SLOTS[displays].at(-1)
    const ends = [pair.outcomeOf(reader), pair.outcomeOf(reader === 'initiator' ? 'responder' : 'initiator')]
    expect(ends.map(({ type }) => type)).toContain('failed')
    expect(pair.fresh()).not.toMatchObject({ outcome: { type: 'admitted' } })
    if (!isLast) expectNobodyIn(pair)
    else expect(pair.fresh()).toMatchObject({ outcome: { type: 'failed' } })
  }

  test.each(cases)('PAIR-3: %s device displays: any bit of message %i changed is noticed', async (displays, slot) => {
    const { length } = (other[displays] as Pair).written.get(slot)!
    // The version and form bytes of the first message are judged by what follows from them.
    const positions = [0, 1, 2, 33, Math.floor(length / 2), length - 1].filter((position) => position < length)
    for (const position of new Set(positions)) {
      const flip = (body: Uint8Array) => body.map((byte, index) => (index === position ? byte ^ 1 : byte))
      await expectNoticed(displays, slot, at(slot, flip))
    }
  })

  test.each(cases)(
    'PAIR-3: %s device displays: message %i cut, lengthened, emptied is noticed',
    async (displays, slot) => {
      for (const change of [
        (body: Uint8Array) => body.subarray(1),
        (body: Uint8Array) => body.subarray(0, -1),
        (body: Uint8Array) => Uint8Array.of(...body, 0),
        () => new Uint8Array(0),
        () => crypto.randomBytes(200),
      ]) {
        await expectNoticed(displays, slot, at(slot, change))
      }
    },
  )

  test.each(cases)('PAIR-3: %s device displays: message %i of another mailbox is noticed', async (displays, slot) => {
    await expectNoticed(
      displays,
      slot,
      at(slot, () => (other[displays] as Pair).written.get(slot)),
    )
  })

  test.each(cases)(
    'PAIR-3: %s device displays: message %i replayed from a run with the same code is noticed',
    async (displays, slot) => {
      await expectNoticed(
        displays,
        slot,
        at(slot, () => (rerun[displays] as Pair).written.get(slot)),
      )
    },
  )

  test.each(cases)(
    'PAIR-3: %s device displays: each other message in the place of message %i is noticed',
    async (displays, slot) => {
      for (const instead of SLOTS[displays]) {
        // What is not written yet cannot be swapped in.
        if (SLOTS[displays].indexOf(instead) >= SLOTS[displays].indexOf(slot)) continue
        await expectNoticed(
          displays,
          slot,
          at(slot, (_body, written) => written.get(instead)),
        )
      }
    },
  )

  test.each(cases)('PAIR-3: %s device displays: without message %i nobody goes on', async (displays, slot) => {
    const pair = await runPair(
      { displays },
      at(slot, () => undefined),
    )
    const reader = slot % 2 === 0 ? pair.responder : pair.initiator
    expect(reader.type).not.toBe('ended')
    expect(pair.fresh()).not.toMatchObject({ outcome: { type: 'admitted' } })
    if (slot !== SLOTS[displays].at(-1)) expectNobodyIn(pair)
  })

  test.each(PARTS)(
    'PAIR-3: %s device displays: messages given in another order than they were written are noticed',
    async (displays) => {
      // Where the reader asks for his next message he gets the one after it, as soon as that is there.
      const ahead: Carry = (slot, written) => written.get(slot + 2) ?? written.get(slot)
      const swapped: Carry = (slot, written) =>
        slot > 2 && written.has(slot - 2) ? written.get(slot - 2) : written.get(slot)
      expectNobodyIn(await runPair({ displays }, swapped))
      expect((await runPair({ displays }, ahead)).hasNewDevice()).toBe(true)
    },
  )

  test('PAIR-1: shares that are no element, or the identity, are refused by both', async () => {
    for (const share of [new Uint8Array(32), new Uint8Array(32).fill(0xff)]) {
      const toResponder = at(0, (body) => encodeOpening({ ...parseOpening(body)!, share }))
      expect((await runPair({ displays: 'existing' }, toResponder)).outcomeOf('responder')).toMatchObject({
        type: 'failed',
      })
      const answer = encodeAnswer({ share, associatedData: Buffer.from('Re'), confirmation: new Uint8Array(32) })
      expect(
        (
          await runPair(
            { displays: 'existing' },
            at(1, () => answer),
          )
        ).outcomeOf('initiator'),
      ).toMatchObject({
        type: 'failed',
      })
    }
  })

  test('PAIR-2: a server that guesses the code and joins itself is found out at its confirmation', async () => {
    // It plays the joiner with a guess: all that it can do with the answer is to confirm wrongly.
    const guess = await runPair({ displays: 'existing', typedDigits: '000000', mailboxId })
    const pair = await runPair({ displays: 'existing', mailboxId }, (slot, written) =>
      slot === 0 ? guess.written.get(0) : slot === 2 ? crypto.randomBytes(32) : written.get(slot),
    )
    expect(pair.outcomeOf('responder')).toEqual({ type: 'failed', failure: 'wrong_code' })
    expectNobodyIn(pair)
  })

  test('PAIR-4: whoever joins with the stolen secret in place of the device meant has other digits than it', async () => {
    // The device meant ran with the same secret, and stands where it shows its digits.
    const secretOfAll = { displays: 'existing', form: 'qr', mailboxId, secret: new Uint8Array(32).fill(8) } as const
    const meant = await runPair(secretOfAll, (slot, written) => (slot > 3 ? undefined : written.get(slot)))
    expect(meant.fresh().type).toBe('awaiting_done')
    const typedCheck = checkOf(meant.fresh())
    const thief = await runPair({ ...secretOfAll, typedCheck })
    expect(thief.existing()).toMatchObject({ outcome: { type: 'failed', failure: 'wrong_digits' } })
    expectNobodyIn(thief)
  })

  test('DEV-1: keys that are not its own, or more than a member’s rights, are refused before anybody is asked', async () => {
    const thief = await createDeviceKeys(crypto, 'member')
    for (const displays of PARTS) {
      const borrowed = await runPair({ displays, proofBy: thief })
      expect(borrowed.existing()).toMatchObject({ outcome: { failure: 'keys_not_proved' } })
      const manager = await createDeviceKeys(crypto, 'manager')
      const greedy = await runPair({ displays, keys: manager })
      expect(greedy.existing()).toMatchObject({ outcome: { failure: 'role_refused' } })
      expectNobodyIn(borrowed)
      expectNobodyIn(greedy)
    }
  })
})

const checkOf = (state: Pair['initiator']): string => ('channel' in state ? state.channel.check : 'ended')

describe('brute force', () => {
  test('PAIR-2: a code is guessed once: of all guesses a mailbox takes one, and each needs a new code to be shown', () => {
    const offered = offerPairing(
      { nowMs: NOW_MS },
      { part: 'existing', mailboxId: SERVER.slice(0, 16), serverFingerprint: SERVER },
      {
        secret: crypto.randomBytes(32),
        digits: '305118',
      },
    )
    const opening = encodeOpening({ form: 'code', share: bytesOfElement(), associatedData: Buffer.from('In') })
    const answered = stepCeremony({ crypto, nowMs: NOW_MS }, offered, { type: 'message', body: opening })
    const failed = stepCeremony({ crypto, nowMs: NOW_MS }, answered, { type: 'message', body: new Uint8Array(32) })
    expect(failed).toMatchObject({ type: 'ended', outcome: { type: 'failed', failure: 'wrong_code' } })
    // Whatever comes after it changes nothing.
    for (const body of [opening, crypto.randomBytes(32)]) {
      expect(stepCeremony({ crypto, nowMs: NOW_MS }, failed, { type: 'message', body })).toBe(failed)
    }
  })
})

/** The generator of ristretto255 (RFC 9496 A.1). */
const bytesOfElement = (): Uint8Array =>
  new Uint8Array(Buffer.from('e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76', 'hex'))

test('PAIR-3: a counter and a slot are in every seal', async () => {
  const pair = await runPair({ displays: 'existing' })
  const sealed = [3, 4, 5].map((slot) => toHex(pair.written.get(slot)!))
  expect(new Set(sealed).size).toBe(3)
})
