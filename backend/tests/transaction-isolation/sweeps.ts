// What several nodes forget by the clock: no sweep waits, for another or for whoever uses what it would take.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../../src/db/postgres.ts'
import { deleteExpiredInvitations, insertInvitations } from '../../src/db/queries/invitations.ts'
import { deleteExpiredMailboxes, postMailboxMessage } from '../../src/db/queries/mailboxes.ts'
import { deleteOldUses, takeOpeningOfUser, takeUseOfAddress } from '../../src/db/queries/pairing-limits.ts'
import { deleteExpiredPairings } from '../../src/db/queries/pairing-mailboxes.ts'
import { addUser, hash, id } from '../support/open-database.ts'
import { newAddress, openMailbox } from './pairing-scene.ts'
import { asItIs, interleave, openScene, replacing, rewriting, type Scene, type Wrap } from './scene.ts'

interface Sweep {
  readonly what: string
  readonly name: string
  readonly table: string
  sweep(db: Queryable): Promise<unknown>
  prepare(): Promise<unknown>
}

const LIMIT = { max: 5, windowMs: 3_600_000 }

export function describeSweeps(): void {
  describe('sweeps by the clock', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    const usesOf = async (address: string): Promise<number> => {
      const sql = 'select cardinality(used_at) as uses from pairing_addresses where address = $1'
      return (await scene.run<{ uses: number }>(sql, [address]))[0]?.uses ?? 0
    }
    const makeOldUse = async (): Promise<string> => {
      const address = newAddress()
      await takeUseOfAddress(scene.db, 'opening', address, LIMIT)
      const sql = `update pairing_addresses set used_at = array[now() - interval '2 hours'] where address = $1`
      await scene.run(sql, [address])
      return address
    }
    const take = (tx: Queryable, address: string) => takeUseOfAddress(tx, 'opening', address, LIMIT)

    const sweeps: readonly Sweep[] = [
      {
        what: 'mailboxes of pairing',
        name: 'delete_expired_pairing_mailboxes',
        table: 'pairing_mailboxes',
        sweep: deleteExpiredPairings,
        prepare: async () => {
          await openMailbox(scene.db)
          await scene.run('update pairing_mailboxes set expires_at = now()')
        },
      },
      {
        what: 'openings of users',
        name: 'delete_old_pairing_openings',
        table: 'pairing_openings',
        sweep: deleteOldUses,
        prepare: async () => {
          await takeOpeningOfUser(scene.db, (await addUser(scene.db)).genesis.userId, LIMIT)
          await scene.run(`update pairing_openings set opened_at = array[now() - interval '2 hours']`)
        },
      },
      {
        what: 'uses of addresses',
        name: 'delete_old_pairing_addresses',
        table: 'pairing_addresses',
        sweep: deleteOldUses,
        prepare: makeOldUse,
      },
      {
        what: 'mailboxes of linking',
        name: 'delete_expired_mailboxes',
        table: 'pairings',
        sweep: deleteExpiredMailboxes,
        prepare: async () => {
          await postMailboxMessage(scene.db, { mailboxId: id(), slot: 0, body: Buffer.from('m') })
          await scene.run('update pairings set expires_at = now()')
        },
      },
      {
        what: 'invitations',
        name: 'delete_expired_invitations',
        table: 'invitations',
        sweep: deleteExpiredInvitations,
        prepare: async () => {
          await insertInvitations(scene.db, [hash()], 60_000)
          await scene.run('update invitations set expires_at = now()')
        },
      },
    ]

    describe.each(sweeps)('of $what', ({ name, table, sweep, prepare }) => {
      const sweepTwice = async (wrap = asItIs) => {
        await prepare()
        const { met } = await interleave(scene, { first: sweep, second: (tx) => sweep(wrap(tx)) })
        return { met, left: (await scene.run(`select 1 from ${table}`)).length }
      }

      test('ISO-44, P5: of two sweeps at once none waits, and nothing is left', async () => {
        expect(await sweepTwice()).toEqual({ met: 'done', left: 0 })
      })

      test('ISO-44: without skipping what is locked the second waits for the first', async () => {
        const wrap: Wrap = (tx) => rewriting(tx, name, 'for update skip locked', 'for update')
        expect(await sweepTwice(wrap)).toEqual({ met: 'waits', left: 0 })
      })
    })

    /** An address uses its limit again while the sweep would take what it used long ago. */
    const sweepBehindUse = async (wrap = asItIs) => {
      const address = await makeOldUse()
      const { met } = await interleave(scene, {
        first: (tx) => take(tx, address),
        second: (tx) => deleteOldUses(wrap(tx)),
      })
      return { met, uses: await usesOf(address) }
    }
    const waiting: Wrap = (tx) => rewriting(tx, 'delete_old_pairing_addresses', 'for update skip locked', 'for update')

    test('ISO-45, PAIR-7: a use at the moment of a sweep is counted, whichever comes first', async () => {
      expect(await sweepBehindUse()).toEqual({ met: 'done', uses: 1 })
      expect(await useBehindSweep()).toEqual({ met: 'waits', uses: 1 })
    })

    test('ISO-45: the look at the newest row alone also keeps it from being swept', async () => {
      expect(await sweepBehindUse(waiting)).toEqual({ met: 'waits', uses: 1 })
    })

    test('ISO-45: a sweep that waits for what it looked at before takes the new use, too', async () => {
      const looked = `from unnest(a.used_at) as used (at)
        where used.at > clock_timestamp() - interval '1 hour'
      )`
      const lookedBefore = `from pairing_addresses as x
        cross join unnest(x.used_at) as used (at)
        where x.address = a.address and used.at > clock_timestamp() - interval '1 hour'
      )`
      const lookingBefore: Wrap = (tx) =>
        rewriting(
          tx,
          'delete_old_pairing_addresses',
          `${looked}\n      for update skip locked`,
          `${lookedBefore} for update`,
        )
      expect(await sweepBehindUse(lookingBefore)).toEqual({ met: 'waits', uses: 0 })
    })

    const useBehindSweep = async (wrap = asItIs) => {
      const address = await makeOldUse()
      const { met } = await interleave(scene, { first: deleteOldUses, second: (tx) => take(wrap(tx), address) })
      return { met, uses: await usesOf(address) }
    }

    test('ISO-45: as an update of the row that is swept a use would be lost', async () => {
      const wrap: Wrap = (tx) =>
        replacing(tx, 'take_pairing_address_use', async (_asked, [kind, address]) => {
          const update = `
            update pairing_addresses as a
            set used_at = a.used_at || clock_timestamp()
            where a.kind = $1 and a.address = $2
            returning a.address`
          return tx.query({ name: '', text: update }, [kind, address])
        })
      expect(await useBehindSweep(wrap)).toEqual({ met: 'waits', uses: 0 })
    })
  })
}
