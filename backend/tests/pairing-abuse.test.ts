// Strangers who want nobody else to pair: they fill the places, or try numbers until they meet one. Somebody honest pairs
// all the same, on both databases.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { afterEach, describe, expect, test } from 'vitest'
import { drawNameplate } from '../src/devices/nameplate.ts'
import { createPairings } from '../src/devices/pairing.ts'
import { chooseLoser } from '../src/devices/pairing-shares.ts'
import { JOINS_BY_NUMBER, OPENINGS_OF_ADDRESS } from '../src/devices/pairing-uses.ts'
import { addUser, DATABASE_KINDS, id, openDatabase } from './support/open-database.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const MAX_OPEN = 200

describe.each(DATABASE_KINDS)('strangers at the places of pairing, on %s', (kind) => {
  const openScene = async () => {
    const opened = await openDatabase(kind)
    undo.push(opened.close)
    const pairings = createPairings({
      crypto,
      db: opened.db,
      count: opened.metrics.pairing.countPairing,
      maxOpen: MAX_OPEN,
    })
    const newUser = async () => (await addUser(opened.db)).genesis.userId
    return { ...opened, pairings, newUser }
  }

  test('PAIR-10: places filled by 34 addresses with free accounts leave one to everybody else', async () => {
    const { pairings, newUser, metrics } = await openScene()
    let filled = 0
    for (let address = 1; address <= 34; address++) {
      const opener = { type: 'user' as const, userId: await newUser(), address: `10.${address}.0.1` }
      for (let i = 0; i < 8; i++) {
        const { type } = await pairings.open(opener, { mailboxId: id(), seatKey: id() })
        if (type === 'opened') filled++
      }
    }
    expect(filled).toBeGreaterThanOrEqual(MAX_OPEN)

    const seat = { mailboxId: id(), seatKey: id() }
    const honest = { type: 'user' as const, userId: await newUser(), address: '192.0.2.1' }
    const opened = await pairings.open(honest, seat)
    expect(opened.type).toBe('opened')
    expect(await metrics.read('valise_pairings_total', { event: 'evicted' })).toBeGreaterThan(0)
    // Whoever goes on filling displaces one of their own.
    for (let address = 1; address <= 34; address++) {
      const again = { type: 'address' as const, address: `10.${address}.0.1` }
      await pairings.open(again, { mailboxId: id(), seatKey: id() })
    }
    expect(await pairings.read(seat, 0)).toEqual({ type: 'empty' })
    const number = opened.type === 'opened' ? opened.nameplate : 0
    expect(await pairings.join(number, id(), '198.51.100.1')).toMatchObject({ type: 'joined' })
  })

  test('PAIR-10: openings of a user count against the address, whichever of its free accounts asks', async () => {
    const { pairings, newUser } = await openScene()
    const types: string[] = []
    for (let i = 0; i < OPENINGS_OF_ADDRESS.user.max + 5; i++) {
      const opener = { type: 'user' as const, userId: await newUser(), address: '10.9.9.9' }
      types.push((await pairings.open(opener, { mailboxId: id(), seatKey: id() })).type)
    }
    expect(types.slice(0, OPENINGS_OF_ADDRESS.user.max)).not.toContain('limited')
    expect(new Set(types.slice(OPENINGS_OF_ADDRESS.user.max))).toEqual(new Set(['limited']))
  })

  test('PAIR-11: a hundred addresses that try numbers use up no try of somebody who has not failed', async () => {
    const { pairings, newUser } = await openScene()
    const opened = await pairings.open(
      { type: 'user', userId: await newUser(), address: '192.0.2.1' },
      { mailboxId: id(), seatKey: id() },
    )
    const answers = new Map<string, number>()
    for (let round = 0; round < 10; round++) {
      await Promise.all(
        Array.from({ length: 100 }, async (_, index) => {
          const { type } = await pairings.join(drawNameplate(crypto), id(), `10.${index}.0.1`)
          answers.set(type, (answers.get(type) ?? 0) + 1)
        }),
      )
    }
    // Most of what they tried was never looked at.
    expect(answers.get('limited')).toBeGreaterThan(300)
    expect(answers.get('not_found') ?? 0).toBeLessThanOrEqual(JOINS_BY_NUMBER.burst + 200)
    expect(answers.get('taken')).toBeUndefined()
    const number = opened.type === 'opened' ? opened.nameplate : 0
    expect(await pairings.join(number, id(), '198.51.100.1')).toMatchObject({ type: 'joined' })
  })

  test('PAIR-11: tries at once are kept out for those before them: eighty addresses with ten each leave a quarter', async () => {
    const { pairings, newUser, db } = await openScene()
    const opened = await pairings.open(
      { type: 'user', userId: await newUser(), address: '192.0.2.1' },
      { mailboxId: id(), seatKey: id() },
    )
    const tries = Array.from({ length: 800 }, (_, i) => pairings.join(drawNameplate(crypto), id(), `10.${i % 80}.0.1`))
    const answers = await Promise.all(tries)
    expect(new Set(answers.map(({ type }) => type))).toEqual(new Set(['not_found', 'limited']))
    // Each address has one try without a failure, and there are fewer of them than tokens in a quarter.
    const [rate] = await db.query<{ tokens: number }>({ name: '', text: 'select tokens from pairing_rates' }, [])
    expect(rate!.tokens).toBeGreaterThan(JOINS_BY_NUMBER.burst / 4 - 80 - 1)
    const number = opened.type === 'opened' ? opened.nameplate : 0
    expect(await pairings.join(number, id(), '198.51.100.1')).toMatchObject({ type: 'joined' })
  }, 60_000)
})

describe('who gives a place up', () => {
  test('PAIR-10: the address that holds most of the network that holds most, and never one that holds fewer', () => {
    const holders = [
      { address: '10.0.0.1', placeCount: 5 },
      { address: '10.0.0.2', placeCount: 6 },
      { address: '10.0.1.1', placeCount: 9 },
      { address: '192.0.2.1', placeCount: 1 },
    ]
    expect(chooseLoser(holders, '198.51.100.1')).toBe('10.0.0.2')
    expect(chooseLoser(holders, '10.0.1.1')).toBe('10.0.0.2')
    expect(chooseLoser([{ address: '10.0.0.1', placeCount: 3 }], '10.0.0.1')).toBeUndefined()
    expect(chooseLoser([], '10.0.0.1')).toBeUndefined()
  })

  test('PAIR-10: of many who hold one each, one gives it up, so a newcomer always gets a place', () => {
    const holders = Array.from({ length: 50 }, (_, i) => ({ address: `10.${i}.0.1`, placeCount: 1 }))
    expect(chooseLoser(holders, '192.0.2.1')).toBe('10.0.0.1')
  })
})

test('PAIR-11: numbers have nine digits, are drawn evenly, and are seldom alike', () => {
  const drawn = Array.from({ length: 20_000 }, () => drawNameplate(crypto))
  for (const number of drawn) expect(String(number)).toMatch(/^[1-9]\d{8}$/)
  expect(new Set(drawn).size).toBeGreaterThan(19_990)
  const low = drawn.filter((number) => number < 550_000_000).length
  expect(low).toBeGreaterThan(9500)
  expect(low).toBeLessThan(10_500)
})
