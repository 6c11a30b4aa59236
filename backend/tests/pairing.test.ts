// Pairing's mailboxes as the server keeps them, on both databases (PROTOCOL F): seats, messages, ends, times and limits.
// Time is moved in the database, whose clock counts.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { deleteOldUses } from '../src/db/queries/pairing-limits.ts'
import { deleteExpiredPairings } from '../src/db/queries/pairing-mailboxes.ts'
import { deleteAccount } from '../src/db/queries/users.ts'
import { createPairings, type Pairings } from '../src/devices/pairing.ts'
import type { Opener } from '../src/devices/pairing-uses.ts'
import { addUser, DATABASE_KINDS, id, type OpenedDatabase, openDatabase } from './support/open-database.ts'

describe.each(DATABASE_KINDS)('pairing on %s', (kind) => {
  let opened: OpenedDatabase
  let pairings: Pairings
  let addressCount = 0
  beforeAll(async () => {
    opened = await openDatabase(kind)
    pairings = createPairings({ crypto, db: opened.db, count: opened.metrics.pairing.countPairing })
  })
  afterAll(() => opened.close())

  const run = <Row extends object>(text: string, values: readonly unknown[] = []) =>
    opened.db.query<Row>({ name: '', text }, values)
  /** Each in a network of its own. */
  const newAddress = (): string => `10.${++addressCount >> 8}.${addressCount & 255}.1`
  const anyone = (): Opener => ({ type: 'address', address: newAddress() })
  const open = async () => {
    const seat = { mailboxId: id(), seatKey: id() }
    const result = await pairings.open(anyone(), seat)
    if (result.type !== 'opened') throw new Error(result.type)
    return { ...seat, nameplate: result.nameplate }
  }
  const age = (mailboxId: Uint8Array, ms: number) =>
    run(
      `update pairing_mailboxes
       set opened_at = opened_at - make_interval(secs => $2), expires_at = expires_at - make_interval(secs => $2)
       where mailbox_id = $1`,
      [mailboxId, ms / 1000],
    )
  const join = (target: Uint8Array | number, seatKey = id(), address = newAddress()) =>
    pairings.join(target, seatKey, address)
  /** A mailbox that is joined from the address, and how its two devices go on to where the guess was right. */
  const openAndJoin = async (address: string) => {
    const displayer = await open()
    const joiner = { mailboxId: displayer.mailboxId, seatKey: id() }
    const joined = await join(displayer.nameplate, joiner.seatKey, address)
    const confirm = async () => {
      for (const [slot, seat] of [joiner, displayer, joiner, displayer].entries()) {
        expect(await pairings.post(seat, slot, Buffer.from('m'))).toEqual({ type: 'stored' })
      }
    }
    return { joined: joined.type, displayer, joiner, confirm }
  }

  test('PAIR-5: by its number the joiner finds the mailbox, and each writes his own slots and reads the other’s', async () => {
    const displayer = await open()
    const joinerKey = id()
    const joined = await join(displayer.nameplate, joinerKey)
    expect(joined).toMatchObject({ type: 'joined', mailboxId: displayer.mailboxId })
    const joiner = { mailboxId: displayer.mailboxId, seatKey: joinerKey }
    expect(await pairings.read(displayer, 0)).toEqual({ type: 'empty' })
    expect(await pairings.post(joiner, 0, Buffer.from('m1'))).toEqual({ type: 'stored' })
    expect(await pairings.read(displayer, 0)).toMatchObject({ type: 'message', body: Buffer.from('m1') })
    expect(await pairings.post(displayer, 1, Buffer.from('m2'))).toEqual({ type: 'stored' })
    expect(await pairings.read(joiner, 1)).toMatchObject({ body: Buffer.from('m2') })
    expect(await pairings.post(joiner, 1, Buffer.from('x'))).toEqual({ type: 'no_seat' })
    expect(await pairings.post(displayer, 2, Buffer.from('x'))).toEqual({ type: 'no_seat' })
  })

  test('PAIR-5: opening, joining and posting again do nothing more, and another message for the slot is refused', async () => {
    const opener = anyone()
    const seat = { mailboxId: id(), seatKey: id() }
    const first = await pairings.open(opener, seat)
    expect(await pairings.open(opener, seat)).toMatchObject({ nameplate: 'nameplate' in first ? first.nameplate : 0 })
    expect(await pairings.open(opener, { ...seat, seatKey: id() })).toEqual({ type: 'taken' })
    const key = id()
    expect(await join(seat.mailboxId, key)).toMatchObject({ type: 'joined' })
    expect(await join(seat.mailboxId, key)).toMatchObject({ type: 'joined' })
    const joiner = { ...seat, seatKey: key }
    for (let i = 0; i < 2; i++) expect(await pairings.post(joiner, 0, Buffer.from('a'))).toEqual({ type: 'stored' })
    expect(await pairings.post(joiner, 0, Buffer.from('b'))).toEqual({ type: 'slot_taken' })
    expect(await pairings.read(seat, 0)).toMatchObject({ body: Buffer.from('a') })
  })

  test('PAIR-6: one joiner, of many at once, and no other after him', async () => {
    const { mailboxId } = await open()
    const results = await Promise.all(Array.from({ length: 6 }, () => join(mailboxId)))
    expect(results.map(({ type }) => type).sort()).toEqual(['joined', 'taken', 'taken', 'taken', 'taken', 'taken'])
    expect(await join(mailboxId)).toEqual({ type: 'taken' })
  })

  test('PAIR-5: without the key of a seat nothing is read, written or ended', async () => {
    const { mailboxId } = await open()
    const stranger = { mailboxId, seatKey: id() }
    expect(await pairings.read(stranger, 0)).toEqual({ type: 'no_seat' })
    expect(await pairings.post(stranger, 0, Buffer.from('x'))).toEqual({ type: 'no_seat' })
    expect(await pairings.end(stranger, 'failed')).toBe('no_seat')
    expect(await pairings.read({ mailboxId: id(), seatKey: id() }, 0)).toEqual({ type: 'not_found' })
  })

  test('PAIR-6: by its id it is joined for two minutes, by its number for five, and nothing is left after ten', async () => {
    const first = await open()
    await age(first.mailboxId, 121_000)
    expect(await join(first.mailboxId)).toEqual({ type: 'not_found' })
    expect(await join(first.nameplate)).toMatchObject({ type: 'joined' })
    const second = await open()
    await age(second.mailboxId, 301_000)
    expect(await join(second.nameplate)).toEqual({ type: 'not_found' })
    const third = await open()
    const key = id()
    await join(third.nameplate, key)
    await pairings.post({ ...third, seatKey: key }, 0, Buffer.from('m1'))
    await age(third.mailboxId, 301_000)
    // Who has the seat goes on.
    expect(await join(third.nameplate, key)).toMatchObject({ type: 'joined' })
    expect(await pairings.read(third, 0)).toMatchObject({ type: 'message' })
    await age(third.mailboxId, 300_000)
    expect(await pairings.read(third, 0)).toEqual({ type: 'not_found' })
    expect(await join(third.nameplate, key)).toEqual({ type: 'not_found' })
    expect(await pairings.post(third, 1, Buffer.from('m2'))).toEqual({ type: 'not_found' })
    expect(await deleteExpiredPairings(opened.db)).toBe(1)
    const left = 'select 1 from pairing_messages where mailbox_id = $1'
    expect(await run(left, [third.mailboxId])).toEqual([])
  })

  test('PAIR-5: the first failure destroys the mailbox: its messages go, both are told, and its number stays taken', async () => {
    const displayer = await open()
    const key = id()
    await join(displayer.nameplate, key)
    const joiner = { ...displayer, seatKey: key }
    await pairings.post(joiner, 0, Buffer.from('m1'))
    expect(await pairings.end(displayer, 'failed')).toBe('done')
    expect(await pairings.end(joiner, 'ended')).toBe('failed')
    for (const seat of [displayer, joiner]) {
      expect(await pairings.read(seat, 0)).toEqual({ type: 'failed' })
      expect((await pairings.post(seat, seat === joiner ? 2 : 1, Buffer.from('x'))).type).toBe('failed')
    }
    expect(await join(displayer.nameplate)).toEqual({ type: 'failed' })
    expect(await run('select 1 from pairing_messages where mailbox_id = $1', [displayer.mailboxId])).toEqual([])
    const numbers = await run('select 1 from pairing_mailboxes where nameplate = $1', [displayer.nameplate])
    expect(numbers).toHaveLength(1)
  })

  test('PAIR-7: a user opens ten an hour, at once or one by one, and is told when the next may come', async () => {
    const { devices } = await addUser(opened.db)
    const { userId } = devices[0]!
    const openOne = () =>
      pairings.open({ type: 'user', userId, address: newAddress() }, { mailboxId: id(), seatKey: id() })
    const results = await Promise.all(Array.from({ length: 13 }, openOne))
    expect(results.filter(({ type }) => type === 'opened')).toHaveLength(10)
    const limited = await openOne()
    expect(limited.type).toBe('limited')
    const retryAfterMs = 'retryAfterMs' in limited ? limited.retryAfterMs : 0
    expect(retryAfterMs).toBeGreaterThan(3_500_000)
    expect(retryAfterMs).toBeLessThanOrEqual(3_600_000)
    const past = `update pairing_openings
      set opened_at = array(select t - interval '61 minutes' from unnest(opened_at) as u (t)) where user_id = $1`
    await run(past, [userId])
    expect(await openOne()).toMatchObject({ type: 'opened' })
    await run(past, [userId])
    await deleteOldUses(opened.db)
    expect(await run('select 1 from pairing_openings where user_id = $1', [userId])).toEqual([])
  })

  test('PAIR-7: what a user has used goes with his account', async () => {
    const { devices } = await addUser(opened.db)
    const { userId } = devices[0]!
    await pairings.open({ type: 'user', userId, address: newAddress() }, { mailboxId: id(), seatKey: id() })
    await opened.db.transaction({ name: 'test' }, (tx) => deleteAccount(tx, userId))
    expect(await run('select 1 from pairing_openings where user_id = $1', [userId])).toEqual([])
  })

  test('PAIR-7: an address fails ten times in ten minutes; those whose guess was right are not counted', async () => {
    const address = newAddress()
    for (let i = 0; i < 12; i++) {
      const { joined, confirm } = await openAndJoin(address)
      expect(joined).toBe('joined')
      await confirm()
    }
    const guesses = await Promise.all(Array.from({ length: 14 }, () => join(id(), id(), address)))
    expect(guesses.filter(({ type }) => type === 'not_found')).toHaveLength(10)
    expect(guesses.filter(({ type }) => type === 'limited')).toHaveLength(4)
    // Not even the right number helps now.
    expect((await join((await open()).nameplate, id(), address)).type).toBe('limited')
    const past = `update pairing_addresses
      set used_at = array(select t - interval '10 minutes' from unnest(used_at) as u (t)) where address = $1`
    await run(past, [address])
    expect((await join((await open()).nameplate, id(), address)).type).toBe('joined')
  })

  test('PAIR-7: a failed confirmation counts as a failed join of the address that joined, whoever ends the pairing', async () => {
    const address = newAddress()
    for (let i = 0; i < 10; i++) {
      const { joined, displayer, joiner } = await openAndJoin(address)
      expect(joined).toBe('joined')
      // Who guessed may know from the second message that it was wrong, and say so to nobody.
      const ended = i % 2 === 0 ? pairings.end(displayer, 'failed') : pairings.end(joiner, 'ended')
      expect(await ended).toBe('done')
    }
    expect((await openAndJoin(address)).joined).toBe('limited')
  })

  test('PAIR-7: guesses at many mailboxes at once are as many as one by one; who is under way goes on', async () => {
    const address = newAddress()
    const pairs = await Promise.all(Array.from({ length: 12 }, () => openAndJoin(address)))
    const [first, ...others] = pairs.filter(({ joined }) => joined === 'joined')
    expect(others).toHaveLength(9)
    expect(await join(first!.displayer.mailboxId, first!.joiner.seatKey, address)).toMatchObject({ type: 'joined' })
    await first!.confirm()
    await first!.confirm()
    expect((await openAndJoin(address)).joined).toBe('joined')
    expect((await openAndJoin(address)).joined).toBe('limited')
  })

  test('PAIR-7: an address without a user opens twenty an hour', async () => {
    const opener = anyone()
    const openOne = () => pairings.open(opener, { mailboxId: id(), seatKey: id() })
    const results = await Promise.all(Array.from({ length: 22 }, openOne))
    expect(results.filter(({ type }) => type === 'opened')).toHaveLength(20)
    expect(results.filter(({ type }) => type === 'limited')).toHaveLength(2)
  })

  test('PAIR-6, PAIR-11: numbers have nine digits, and none is two mailboxes’ at a time', async () => {
    const seats = await Promise.all(Array.from({ length: 30 }, open))
    const numbers = seats.map(({ nameplate }) => nameplate)
    expect(new Set(numbers).size).toBe(numbers.length)
    for (const number of numbers) expect(String(number)).toMatch(/^[1-9]\d{8}$/)
  })
})
