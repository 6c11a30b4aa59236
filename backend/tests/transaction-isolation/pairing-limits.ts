// The limits of pairing: the last place asked for by two, guesses and what is given back, and the end of an account.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../../src/db/postgres.ts'
import { takeOpeningOfUser, takeUseOfAddress } from '../../src/db/queries/pairing-limits.ts'
import { deleteAccount } from '../../src/db/queries/users.ts'
import { JOINS_BY_NUMBER, returnTry } from '../../src/devices/pairing-uses.ts'
import { addUser, id } from '../support/open-database.ts'
import { newAddress, newNameplate, openJoinedMailbox, openMailbox, pairingsIn } from './pairing-scene.ts'
import { asItIs, interleave, openScene, replacing, rewriting, type Scene, type Wrap } from './scene.ts'

const WINDOW_MS = 3_600_000

export function describePairingLimits(): void {
  describe('limits of pairing', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    const usesOfAddress = async (address: string): Promise<number> => {
      const sql = 'select cardinality(used_at) as uses from pairing_addresses where address = $1'
      return (await scene.run<{ uses: number }>(sql, [address]))[0]?.uses ?? 0
    }
    const usesOfUser = async (userId: Uint8Array): Promise<number> => {
      const sql = 'select cardinality(opened_at) as uses from pairing_openings where user_id = $1'
      return (await scene.run<{ uses: number }>(sql, [userId]))[0]?.uses ?? 0
    }

    const ofUser = async () => {
      const { userId } = (await addUser(scene.db)).devices[0]!
      return {
        take: (tx: Queryable, max: number) => takeOpeningOfUser(tx, userId, { max, windowMs: WINDOW_MS }),
        count: () => usesOfUser(userId),
      }
    }
    const ofAddress = async () => {
      const address = newAddress()
      return {
        take: (tx: Queryable, max: number) => takeUseOfAddress(tx, 'opening', address, { max, windowMs: WINDOW_MS }),
        count: () => usesOfAddress(address),
      }
    }
    const limits = [
      {
        whose: 'a user',
        prepare: ofUser,
        name: 'take_pairing_opening',
        row: 'o.opened_at',
        before: '(select x.opened_at from pairing_openings as x where x.user_id = $1)',
      },
      {
        whose: 'an address',
        prepare: ofAddress,
        name: 'take_pairing_address_use',
        row: 'a.used_at',
        before: '(select x.used_at from pairing_addresses as x where x.kind = $1 and x.address = $2)',
      },
    ]

    describe.each(limits)('of $whose', ({ prepare, name, row, before }) => {
      /** Two uses at once, after `used` of `max`. */
      const takeTwice = async (used: number, max: number, wrap = asItIs) => {
        const { take, count } = await prepare()
        for (let i = 0; i < used; i++) await take(scene.db, max)
        const { first, second, met } = await interleave(scene, {
          first: (tx) => take(wrap(tx), max),
          second: (tx) => take(wrap(tx), max),
        })
        const answers = [first, second].map((retryAfterMs) => (retryAfterMs === undefined ? 'taken' : 'limited'))
        return { met, answers, uses: await count() }
      }

      test('ISO-40, PAIR-7: the last place of a limit asked for twice at once is one’s', async () => {
        expect(await takeTwice(4, 5)).toEqual({ met: 'waits', answers: ['taken', 'limited'], uses: 5 })
        expect(await takeTwice(0, 1)).toEqual({ met: 'waits', answers: ['taken', 'limited'], uses: 1 })
      })

      test('ISO-40, PAIR-7: of two uses at once both are counted', async () => {
        expect(await takeTwice(1, 5)).toEqual({ met: 'waits', answers: ['taken', 'taken'], uses: 3 })
        expect(await takeTwice(0, 5)).toEqual({ met: 'waits', answers: ['taken', 'taken'], uses: 2 })
      })

      test('ISO-40: counted before the wait, the last place is given twice', async () => {
        const [from, to] = [row, before].map(
          (uses) => `cardinality(array(\n      select used.at\n      from unnest(${uses})`,
        )
        const wrap: Wrap = (tx) => rewriting(tx, name, from!, to!)
        expect(await takeTwice(4, 5, wrap)).toEqual({ met: 'waits', answers: ['taken', 'taken'], uses: 6 })
      })

      test('ISO-40: continued from what was there before the wait, one of two uses is not counted', async () => {
        const [from, to] = [row, before].map((uses) => `_at = array(\n      select used.at\n      from unnest(${uses})`)
        const wrap: Wrap = (tx) => rewriting(tx, name, from!, to!)
        expect(await takeTwice(1, 5, wrap)).toEqual({ met: 'waits', answers: ['taken', 'taken'], uses: 2 })
      })
    })

    const fail = async (address: string, times: number, db: Queryable = scene.db) => {
      for (let i = 0; i < times; i++) await pairingsIn(db).join(id(), id(), address)
    }

    /** Two mailboxes are joined at once from an address that has one guess left. */
    const guessTwice = async (wrap = asItIs) => {
      const address = newAddress()
      await fail(address, 9)
      const mailboxes = [await openMailbox(scene.db), await openMailbox(scene.db)]
      const guess = (i: number) => (tx: Queryable) => pairingsIn(wrap(tx)).join(mailboxes[i]!.mailboxId, id(), address)
      const { first, second, met } = await interleave(scene, { first: guess(0), second: guess(1) })
      return { met, answers: [first, second].map((joined) => ('type' in joined ? joined.type : joined)) }
    }

    test('ISO-41, PAIR-7: of two guesses at once where one is left, one is made', async () => {
      expect(await guessTwice()).toEqual({ met: 'waits', answers: ['joined', 'limited'] })
    })

    test('ISO-41: when a join is given back before its guess was seen to be right, both are made', async () => {
      const wrap: Wrap = (tx) =>
        replacing(tx, 'seat_pairing_joiner', async (asked, values) => {
          const seated = await tx.query(asked, values)
          await returnTry(tx, String(values[2]), 'newest')
          return seated
        })
      expect(await guessTwice(wrap)).toEqual({ met: 'waits', answers: ['joined', 'joined'] })
    })

    /** Two numbers are tried at once from an address that has not failed, while the tries saved up are fewer than a quarter. */
    const tryNumbersAtOnce = async (wrap = asItIs) => {
      const address = newAddress()
      const tryNumber = (tx: Queryable) => pairingsIn(tx).join(newNameplate(), id(), address)
      await fail(newAddress(), 1)
      const save = (tokens: number) =>
        scene.run('update pairing_rates set tokens = $1, filled_at = clock_timestamp()', [tokens])
      await save(JOINS_BY_NUMBER.burst / 8)
      const { first, second, met } = await interleave(scene, {
        first: tryNumber,
        second: (tx) => tryNumber(wrap(tx)),
      })
      await save(JOINS_BY_NUMBER.burst)
      return { met, answers: [first, second].map((joined) => ('type' in joined ? joined.type : joined)) }
    }

    test('ISO-41, PAIR-11: of two numbers tried at once the second is kept out for the first', async () => {
      expect(await tryNumbersAtOnce()).toEqual({ met: 'waits', answers: ['not_found', 'limited'] })
    })

    test('ISO-41: with the failures that were read before the wait, both are tried', async () => {
      const wrap: Wrap = (tx) => replacing(tx, 'count_pairing_address_uses', async () => [])
      expect(await tryNumbersAtOnce(wrap)).toEqual({ met: 'waits', answers: ['not_found', 'not_found'] })
    })

    /** One join sent twice at once. */
    const joinTwice = async (wrap = asItIs) => {
      const address = newAddress()
      const { mailboxId } = await openMailbox(scene.db)
      const seatKey = id()
      const join = (tx: Queryable) => pairingsIn(wrap(tx)).join(mailboxId, seatKey, address)
      const { first, second, met } = await interleave(scene, { first: join, second: join })
      const answers = [first, second].map((joined) => ('type' in joined ? joined.type : joined))
      return { met, answers, uses: await usesOfAddress(address) }
    }

    test('ISO-41, PAIR-5: one join sent twice at once is told so both times, and counts once', async () => {
      expect(await joinTwice()).toEqual({ met: 'waits', answers: ['joined', 'joined'], uses: 1 })
    })

    test('ISO-41: when the second gives nothing back, it counts twice', async () => {
      const wrap: Wrap = (tx) => replacing(tx, 'return_pairing_address_use', async () => [])
      expect(await joinTwice(wrap)).toMatchObject({ answers: ['joined', 'joined'], uses: 2 })
    })

    /** An address with three failed joins, one of which is under way in a mailbox. */
    const prepareConfirmation = async () => {
      const address = newAddress()
      await fail(address, 3)
      const { displayer } = await openJoinedMailbox(scene.db, address)
      return {
        address,
        confirm: (tx: Queryable) => pairingsIn(tx).post(displayer, 3, Buffer.from('m4')),
        find: async () => {
          const sql = 'select 1 from pairing_messages where mailbox_id = $1'
          const messages = (await scene.run(sql, [displayer.mailboxId])).length
          return { messages, uses: await usesOfAddress(address) }
        },
      }
    }

    const confirmTwice = async (wrap = asItIs) => {
      const { confirm, find } = await prepareConfirmation()
      const { second, met } = await interleave(scene, { first: confirm, second: (tx) => confirm(wrap(tx)) })
      return { met, second, ...(await find()) }
    }

    test('ISO-42, PAIR-7: a confirming message sent twice at once gives one use back', async () => {
      expect(await confirmTwice()).toEqual({ met: 'waits', second: { type: 'stored' }, messages: 1, uses: 2 })
    })

    test('ISO-42: when who finds the message there gives a use back, too, another’s guess is not counted', async () => {
      const wrap: Wrap = (tx) =>
        replacing(tx, 'post_pairing_message', async (asked, values) => {
          await tx.query(asked, values)
          return [{}]
        })
      expect(await confirmTwice(wrap)).toMatchObject({ messages: 1, uses: 1 })
    })

    /** The node dies after it stored the message and gave the use back, before it committed. */
    const confirmAndDie = async (wrap = asItIs) => {
      const { confirm, find } = await prepareConfirmation()
      await interleave(scene, { first: (tx) => confirm(wrap(tx)), second: async () => undefined, end: 'rollback' })
      return find()
    }

    test('ISO-42, PAIR-7: a confirming message and the use given back are stored together, or neither', async () => {
      expect(await confirmAndDie()).toEqual({ messages: 0, uses: 3 })
    })

    test('ISO-42: in a transaction of its own the use is given back for a message that is not there', async () => {
      const wrap: Wrap = (tx) =>
        replacing(tx, 'return_pairing_address_use', (asked, values) => scene.db.query(asked, values))
      expect(await confirmAndDie(wrap)).toEqual({ messages: 0, uses: 2 })
    })

    /** A guess is counted while an earlier use is given back. */
    const guessBesideConfirmation = async (wrap = asItIs) => {
      const { address, confirm, find } = await prepareConfirmation()
      const { met } = await interleave(scene, {
        first: (tx) => fail(address, 1, tx),
        second: (tx) => confirm(wrap(tx)),
      })
      return { met, ...(await find()) }
    }

    test('ISO-42, PAIR-7: a guess counted while a use is given back stays counted', async () => {
      expect(await guessBesideConfirmation()).toEqual({ met: 'waits', messages: 1, uses: 3 })
    })

    test('ISO-42: when what is left is read before the wait, the guess is not counted', async () => {
      const before =
        'unnest((select x.used_at from pairing_addresses as x where x.kind = $1 and x.address = $2)) with ordinality as used'
      const wrap: Wrap = (tx) =>
        rewriting(tx, 'return_pairing_address_use', 'unnest(a.used_at) with ordinality as used', before)
      expect(await guessBesideConfirmation(wrap)).toEqual({ met: 'waits', messages: 1, uses: 2 })
    })

    /** A user opens a mailbox while his account is deleted; either may come first. */
    const openBesideDeletion = async (opensFirst: boolean, wrap = asItIs) => {
      const { userId } = (await addUser(scene.db)).devices[0]!
      const open = (tx: Queryable) => takeOpeningOfUser(wrap(tx), userId, { max: 5, windowMs: WINDOW_MS })
      const remove = (tx: Queryable) => deleteAccount(tx, userId)
      const { met } = opensFirst
        ? await interleave(scene, { first: open, second: remove })
        : await interleave(scene, { first: remove, second: open })
      return { met, uses: await usesOfUser(userId) }
    }

    test('ISO-43, PAIR-7: what a user has used of his limit does not outlive his account', async () => {
      expect(await openBesideDeletion(true)).toEqual({ met: 'waits', uses: 0 })
      expect(await openBesideDeletion(false)).toEqual({ met: 'waits', uses: 0 })
    })

    test('ISO-43: without the shared lock on the user it does', async () => {
      const wrap: Wrap = (tx) => rewriting(tx, 'take_pairing_opening', 'for share of u', '')
      expect(await openBesideDeletion(true, wrap)).toEqual({ met: 'done', uses: 1 })
      expect(await openBesideDeletion(false, wrap)).toEqual({ met: 'done', uses: 1 })
    })
  })
}
