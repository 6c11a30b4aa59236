// The mailboxes of pairing, opened, joined, written and ended by two at once.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../../src/db/postgres.ts'
import {
  endMailbox,
  insertMailbox,
  type MailboxEnding,
  postMessage,
  seatJoiner,
} from '../../src/db/queries/pairing-mailboxes.ts'
import { hash, id } from '../support/open-database.ts'
import { newAddress, newNameplate, newSeat, openMailbox, pairingsIn } from './pairing-scene.ts'
import {
  asItIs,
  inScene,
  interleave,
  openScene,
  replacing,
  rewriting,
  type Scene,
  type Wrap,
  withoutConstraint,
} from './scene.ts'

/** The condition on the row, looked at in the statement's snapshot instead of the newest version. */
const lookedAtBefore = (condition: string): string =>
  `exists (select from pairing_mailboxes as x where x.mailbox_id = p.mailbox_id and x.${condition})`

export function describePairing(): void {
  describe('mailboxes of pairing', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    const messagesOf = async (where: Scene, mailboxId: Uint8Array): Promise<number> =>
      (await where.run('select 1 from pairing_messages where mailbox_id = $1', [mailboxId])).length

    interface Opening {
      readonly wrap?: Wrap
      /** How many openings the address has had. */
      readonly used?: number
      /** Of the second; default: the same. */
      readonly otherAddress?: string
    }

    /** One opening is sent again while it is under way. */
    const openTwice = async (where: Scene, { wrap = asItIs, used = 0, otherAddress }: Opening = {}) => {
      const address = newAddress()
      const seat = newSeat()
      const openFrom = (from: string) => (tx: Queryable) =>
        pairingsIn(tx).open({ type: 'address', address: from }, seat)
      for (let i = 0; i < used; i++) await pairingsIn(where.db).open({ type: 'address', address }, newSeat())
      const { first, second, met } = await interleave(where, {
        first: openFrom(address),
        second: (tx) => openFrom(otherAddress ?? address)(wrap(tx)),
      })
      const rows = await where.run('select 1 from pairing_mailboxes where mailbox_id = $1', [seat.mailboxId])
      const answers = [first, second].map((answer) => ('type' in answer ? answer.type : answer))
      const numbers = new Set([first, second].map((answer) => ('nameplate' in answer ? answer.nameplate : undefined)))
      return { met, answers, numbers: numbers.size, rows: rows.length }
    }
    const bothOpened = { met: 'waits', answers: ['opened', 'opened'], numbers: 1, rows: 1 }
    const withoutSecondLook: Wrap = (tx) => replacing(tx, 'find_pairing_mailbox', async () => [])

    test('ISO-34, PAIR-5: one opening sent twice at once opens one mailbox, and both are told its number', async () => {
      expect(await openTwice(scene)).toEqual(bothOpened)
      expect(await openTwice(scene, { otherAddress: newAddress() })).toEqual(bothOpened)
    })

    test('ISO-34, PAIR-5: also when it was the last that its sender may open', async () => {
      expect(await openTwice(scene, { used: 19 })).toEqual(bothOpened)
    })

    test('ISO-34: without the second look the sender is told that his own id is taken, or his limit reached', async () => {
      const wrap = withoutSecondLook
      expect(await openTwice(scene, { wrap })).toMatchObject({ answers: ['opened', 'taken'] })
      expect(await openTwice(scene, { wrap, used: 19 })).toMatchObject({ answers: ['opened', 'limited'] })
    })

    test('ISO-34: without the key of mailboxes there are two of one id', async () => {
      const changes = [withoutConstraint('pairing_mailboxes', 'pairing_mailboxes_pkey')]
      const outcome = await inScene(changes, (mutated) => openTwice(mutated, { otherAddress: newAddress() }))
      expect(outcome).toMatchObject({ met: 'done', answers: ['opened', 'opened'], rows: 2 })
    })

    /** Two mailboxes draw one number. */
    const drawTwice = async (where: Scene, end: 'commit' | 'rollback' = 'commit') => {
      const nameplate = newNameplate()
      const insert = (tx: Queryable) =>
        insertMailbox(tx, { mailboxId: id(), nameplate, displayerHash: hash(), openerAddress: newAddress() })
      const { first, second, met } = await interleave(where, { first: insert, second: insert, end })
      const rows = await where.run('select 1 from pairing_mailboxes where nameplate = $1', [nameplate])
      return { met, answers: [first, second], rows: rows.length }
    }

    test('ISO-35, PAIR-6: a number drawn twice at once is one mailbox’s, and the other draws again', async () => {
      const [once, again] = ['inserted', 'nameplate_taken']
      expect(await drawTwice(scene)).toEqual({ met: 'waits', answers: [once, again], rows: 1 })
      expect(await drawTwice(scene, 'rollback')).toEqual({ met: 'waits', answers: [once, once], rows: 1 })
    })

    test('ISO-35: without the key of numbers it leads to two mailboxes', async () => {
      const changes = [withoutConstraint('pairing_mailboxes', 'pairing_mailboxes_nameplate_key')]
      expect(await inScene(changes, drawTwice)).toMatchObject({ met: 'done', rows: 2 })
    })

    const sitTwice = async (wrap = asItIs) => {
      const { mailboxId } = await openMailbox(scene.db)
      const sit = (tx: Queryable) =>
        seatJoiner(wrap(tx), mailboxId, { hash: hash(), address: newAddress(), maxAgeMs: 60_000 })
      const { first, second, met } = await interleave(scene, { first: sit, second: sit })
      return { met, answers: [first, second] }
    }

    test('ISO-36, PAIR-6: of two who join at once one gets the seat', async () => {
      expect(await sitTwice()).toEqual({ met: 'waits', answers: [true, false] })
    })

    test('ISO-36: when the seat is looked at before the update, the second sits in the first one’s place', async () => {
      const wrap: Wrap = (tx) =>
        rewriting(tx, 'seat_pairing_joiner', 'p.joiner_hash is null', lookedAtBefore('joiner_hash is null'))
      expect(await sitTwice(wrap)).toEqual({ met: 'waits', answers: [true, true] })
    })

    const postTwice = async (where: Scene, bodies: readonly [string, string], wrap = asItIs) => {
      const { mailboxId } = await openMailbox(where.db)
      const post = (text: string) => (tx: Queryable) =>
        postMessage(wrap(tx), { mailboxId, slot: 0, body: Buffer.from(text) })
      const { first, second, met } = await interleave(where, { first: post(bodies[0]), second: post(bodies[1]) })
      return { met, answers: [first, second], messages: await messagesOf(where, mailboxId) }
    }
    const same = ['m1', 'm1'] as const
    const different = ['m1', 'other'] as const

    test('ISO-37, PAIR-5: a message sent twice at once is stored once, and both are told so', async () => {
      expect(await postTwice(scene, same)).toEqual({ met: 'waits', answers: ['stored', 'same'], messages: 1 })
    })

    test('ISO-37, PAIR-5: of two messages for one slot at once the first is kept, the second told so', async () => {
      expect(await postTwice(scene, different)).toEqual({ met: 'waits', answers: ['stored', 'taken'], messages: 1 })
    })

    test('ISO-37: what is there, read in the statement that waited, is not seen, and its sender not known again', async () => {
      let before: object[] = []
      const readInside: Wrap = (tx) => {
        const posting = replacing(tx, 'post_pairing_message', async ({ text }, values) => {
          const both = `
            with posted as (${text})
            select (select m.body from pairing_messages as m where m.mailbox_id = $1 and m.slot = $2) as body,
              exists (select 1 from posted) as is_stored`
          const [row] = await tx.query<{ body: Buffer | null; is_stored: boolean }>({ name: '', text: both }, values)
          before = row?.body ? [row] : []
          return row?.is_stored === true ? [row] : []
        })
        return replacing(posting, 'read_pairing_message', async () => before)
      }
      expect(await postTwice(scene, same, readInside)).toMatchObject({ answers: ['stored', 'closed'], messages: 1 })
    })

    test('ISO-37: without the key of messages both are in the slot', async () => {
      const changes = [withoutConstraint('pairing_messages', 'pairing_messages_pkey')]
      const wrap: Wrap = (tx) => rewriting(tx, 'post_pairing_message', 'on conflict (mailbox_id, slot) do nothing', '')
      const outcome = await inScene(changes, (mutated) => postTwice(mutated, different, wrap))
      expect(outcome).toEqual({ met: 'done', answers: ['stored', 'stored'], messages: 2 })
    })

    /** A message arrives while its mailbox ends, or the mailbox ends while a message arrives. */
    const postBesideEnd = async (endsFirst: boolean, wrap = asItIs) => {
      const { mailboxId } = await openMailbox(scene.db)
      const post = (tx: Queryable) => postMessage(wrap(tx), { mailboxId, slot: 0, body: Buffer.from('m1') })
      const end = (tx: Queryable) => endMailbox(tx, mailboxId, 'failed')
      const { first, second, met } = endsFirst
        ? await interleave(scene, { first: end, second: post })
        : await interleave(scene, { first: post, second: end })
      return { met, answers: [first, second], messages: await messagesOf(scene, mailboxId) }
    }
    const withoutShare: Wrap = (tx) => rewriting(tx, 'post_pairing_message', 'for share', '')

    test('ISO-38, PAIR-5: a mailbox that ends takes no message, and leaves none of those under way', async () => {
      expect(await postBesideEnd(true)).toEqual({ met: 'waits', answers: [true, 'closed'], messages: 0 })
      expect(await postBesideEnd(false)).toEqual({ met: 'waits', answers: ['stored', true], messages: 0 })
    })

    test('ISO-38: without the shared lock on the mailbox a message is left in a destroyed one', async () => {
      expect(await postBesideEnd(true, withoutShare)).toEqual({ met: 'done', answers: [true, 'stored'], messages: 1 })
      expect(await postBesideEnd(false, withoutShare)).toEqual({ met: 'done', answers: ['stored', true], messages: 1 })
    })

    test('ISO-38, PAIR-5: who posts into a mailbox that ends meanwhile is told how it ended', async () => {
      const address = newAddress()
      const seat = newSeat()
      await pairingsIn(scene.db).open({ type: 'address', address }, seat)
      const { second, met } = await interleave(scene, {
        first: (tx) => endMailbox(tx, seat.mailboxId, 'failed'),
        second: (tx) => pairingsIn(tx).post(seat, 1, Buffer.from('m2')),
      })
      expect({ met, second }).toEqual({ met: 'waits', second: { type: 'failed' } })
    })

    const joinBesideEnd = async (wrap = asItIs) => {
      const { mailboxId } = await openMailbox(scene.db)
      const { second, met } = await interleave(scene, {
        first: (tx) => endMailbox(tx, mailboxId, 'failed'),
        second: (tx) => pairingsIn(wrap(tx)).join(mailboxId, id(), newAddress()),
      })
      const sql = 'select joiner_hash is not null as "isJoined" from pairing_mailboxes where mailbox_id = $1'
      return { met, answer: 'type' in second ? second.type : second, rows: await scene.run(sql, [mailboxId]) }
    }

    test('ISO-38, PAIR-5: nobody joins a mailbox that has ended', async () => {
      expect(await joinBesideEnd()).toEqual({ met: 'waits', answer: 'failed', rows: [{ isJoined: false }] })
    })

    test('ISO-38: when its end is looked at before the update, the joiner sits in a destroyed mailbox', async () => {
      const wrap: Wrap = (tx) =>
        rewriting(tx, 'seat_pairing_joiner', 'p.ending is null', lookedAtBefore('ending is null'))
      expect(await joinBesideEnd(wrap)).toMatchObject({ met: 'waits', rows: [{ isJoined: true }] })
    })

    const endTwice = async (wrap = asItIs) => {
      const { mailboxId } = await openMailbox(scene.db)
      const end = (ending: MailboxEnding) => (tx: Queryable) => endMailbox(wrap(tx), mailboxId, ending)
      const { first, second, met } = await interleave(scene, { first: end('failed'), second: end('ended') })
      const sql = 'select ending from pairing_mailboxes where mailbox_id = $1'
      return { met, answers: [first, second], rows: await scene.run(sql, [mailboxId]) }
    }

    test('ISO-39, PAIR-5: of two ends at once the first stays', async () => {
      expect(await endTwice()).toEqual({ met: 'waits', answers: [true, false], rows: [{ ending: 'failed' }] })
    })

    test('ISO-39: when it is looked at before the update, a failure is told as a mere end', async () => {
      const wrap: Wrap = (tx) =>
        rewriting(tx, 'end_pairing_mailbox', 'p.ending is null', lookedAtBefore('ending is null'))
      expect(await endTwice(wrap)).toEqual({ met: 'waits', answers: [true, true], rows: [{ ending: 'ended' }] })
    })
  })
}
