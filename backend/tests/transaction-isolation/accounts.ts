// Registration, the device log and the end of an account: of two transactions one must not have its way.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../../src/db/postgres.ts'
import { appendDeviceLogEntry, type DeviceLogChange, insertGenesis } from '../../src/db/queries/device-log.ts'
import { saveCursor } from '../../src/db/queries/devices.ts'
import { insertInvitations } from '../../src/db/queries/invitations.ts'
import { closeIfDue } from '../../src/db/queries/pending-closes.ts'
import { beginSession } from '../../src/db/queries/sessions.ts'
import { deleteAccount } from '../../src/db/queries/users.ts'
import { addUser, continueRun, hash, makeEntry, makeEvents, makeGenesis } from '../support/open-database.ts'
import { APPEND_WAYS, appending, withoutDeviceLock, withoutUserLock } from './append-ways.ts'
import {
  asItIs,
  countEvents,
  inScene,
  interleave,
  openScene,
  replacing,
  rewriting,
  type Scene,
  type Wrap,
  withoutConstraint,
} from './scene.ts'

export function describeAccounts(): void {
  describe('registration, device log and deletion', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    const registerTwice = async (where: Scene, one: DeviceLogChange, other: DeviceLogChange, wrap = asItIs) => {
      const { first, second, met } = await interleave(where, {
        first: (tx) => insertGenesis(wrap(tx), one),
        second: (tx) => insertGenesis(wrap(tx), other),
      })
      const deviceId = one.added[0]!.deviceId
      const rows = await where.run('select 1 from devices where device_id = $1', [deviceId])
      return { met, answers: [first, second], devices: rows.length }
    }

    test('ISO-8, DEV-1: the same registration twice at once makes one user, and both are told so', async () => {
      const genesis = makeGenesis()
      const answers = ['inserted', 'exists']
      expect(await registerTwice(scene, genesis, genesis)).toEqual({ met: 'waits', answers, devices: 1 })
    })

    test('ISO-8: without the key of users there are two of him', async () => {
      const changes = [
        withoutConstraint('users', 'users_pkey'),
        withoutConstraint('devices', 'devices_pkey'),
        withoutConstraint('device_log', 'device_log_pkey'),
        withoutConstraint('key_epochs', 'key_epochs_pkey'),
        withoutConstraint('key_envelopes', 'key_envelopes_pkey'),
        withoutConstraint('user_storage', 'user_storage_pkey'),
      ]
      const genesis = makeGenesis()
      const wrap: Wrap = (tx) =>
        withoutKeyLock(withoutKeyCheck(rewriting(tx, 'insert_user', 'on conflict (user_id) do nothing', '')))
      const outcome = await inScene(changes, (mutated) => registerTwice(mutated, genesis, genesis, wrap))
      // They meet late, at the lock of the audit log's chain, and that mends nothing.
      expect(outcome).toEqual({ met: 'waits', answers: ['inserted', 'inserted'], devices: 2 })
    })

    /** A registration sent again while the account is being deleted, and once more after; `clear` goes on deleting. */
    const registerDuringDeletion = async (clear?: (userId: Uint8Array) => Promise<unknown>) => {
      const { genesis } = await addUser(scene.db)
      const { second } = await interleave(scene, {
        first: (tx) => deleteAccount(tx, genesis.userId),
        second: (tx) => insertGenesis(tx, genesis),
      })
      await clear?.(genesis.userId)
      return [second, await scene.db.transaction({ name: 'test' }, (tx) => insertGenesis(tx, genesis))]
    }

    test('ISO-8, P6: a registration sent again during and after a deletion does not bring the account back', async () => {
      expect(await registerDuringDeletion()).toEqual(['deleted', 'deleted'])
    })

    test('ISO-8: when the rows of user and devices go with the account, it comes back', async () => {
      const clear = async (userId: Uint8Array) => {
        await scene.run('delete from devices where user_id = $1', [userId])
        await scene.run('delete from users where user_id = $1', [userId])
      }
      expect(await registerDuringDeletion(clear)).toEqual(['deleted', 'inserted'])
    })

    const withoutKeyLock: Wrap = (tx) => replacing(tx, 'lock_device_key', async () => [])
    const withoutKeyCheck: Wrap = (tx) => replacing(tx, 'find_taken_key', async () => [])
    const makeTwoWithOneKey = (): [DeviceLogChange, DeviceLogChange] => {
      const one = makeGenesis()
      return [one, { ...makeGenesis(), added: one.added, boxes: one.boxes }]
    }

    test('ISO-9, DEV-1: one key in two registrations at once makes one user', async () => {
      const outcome = await registerTwice(scene, ...makeTwoWithOneKey())
      expect(outcome).toEqual({ met: 'waits', answers: ['inserted', 'key_taken'], devices: 1 })
    })

    test('ISO-9: without the lock on the key each finds it free, and the device has two users', async () => {
      const outcome = await registerTwice(scene, ...makeTwoWithOneKey(), withoutKeyLock)
      expect(outcome).toEqual({ met: 'done', answers: ['inserted', 'inserted'], devices: 2 })
    })

    /** Two newcomers with one invitation; `end` says how the transaction of the first ends. */
    const useTwice = async (wrap = asItIs, end: 'commit' | 'rollback' = 'commit') => {
      const invitation = hash()
      await insertInvitations(scene.db, [invitation], 60_000)
      const { first, second, met } = await interleave(scene, {
        first: (tx) => insertGenesis(wrap(tx), makeGenesis(), invitation),
        second: (tx) => insertGenesis(wrap(tx), makeGenesis(), invitation),
        end,
      })
      return { met, answers: [first, second] }
    }

    test('ISO-28, DEV-4: one invitation in two registrations at once makes one user', async () => {
      expect(await useTwice()).toEqual({ met: 'waits', answers: ['inserted', 'invitation_invalid'] })
    })

    test('ISO-28, DEV-4: when the first is rolled back, its invitation is the second’s', async () => {
      expect(await useTwice(asItIs, 'rollback')).toEqual({ met: 'waits', answers: ['inserted', 'inserted'] })
    })

    test('ISO-28: an invitation that is looked at before it is deleted makes two users', async () => {
      const lookFirst: Wrap = (tx) =>
        replacing(tx, 'use_invitation', async (_asked, [invitation]) => {
          const look = 'select 1 from invitations where invitation_hash = $1 and expires_at > now()'
          return tx.query({ name: '', text: look }, [invitation])
        })
      expect(await useTwice(lookFirst)).toEqual({ met: 'done', answers: ['inserted', 'inserted'] })
    })

    const appendTwoEntries = async (where: Scene, wrap = asItIs) => {
      const { genesis } = await addUser(where.db)
      const append = (tx: Queryable) => appendDeviceLogEntry(wrap(tx), makeEntry(genesis))
      const { first, second, met } = await interleave(where, { first: append, second: append })
      const rows = await where.run('select 1 from device_log where user_id = $1 and log_seq = 1', [genesis.userId])
      return { met, answers: [first, second], entries: rows.length }
    }
    const withoutComparison: Wrap = (tx) =>
      rewriting(tx, 'move_log_head', 'u.log_seq = $4 and u.log_head = $5', '($4::bigint, $5::bytea) is not null')

    test('ISO-10, DEV-1: of two entries signed for one head, one is appended', async () => {
      const answers = ['appended', 'head_moved']
      expect(await appendTwoEntries(scene)).toEqual({ met: 'waits', answers, entries: 1 })
    })

    test('ISO-10: without the comparison the key of the device log is what is left', async () => {
      expect(await appendTwoEntries(scene, withoutComparison)).toMatchObject({
        answers: ['appended', { refused: '23505', constraint: 'device_log_pkey' }],
      })
    })

    test('ISO-10: without the comparison and the key the log forks', async () => {
      const changes = [withoutConstraint('device_log', 'device_log_pkey')]
      const outcome = await inScene(changes, (mutated) => appendTwoEntries(mutated, withoutComparison))
      expect(outcome).toMatchObject({ answers: ['appended', 'appended'], entries: 2 })
    })

    const addTwice = async (where: Scene, wrap = asItIs) => {
      const { genesis } = await addUser(where.db)
      const { added } = makeGenesis()
      const entry = makeEntry(genesis, { added })
      const append = (tx: Queryable) => appendDeviceLogEntry(wrap(tx), entry)
      const { second, met } = await interleave(where, { first: append, second: append })
      return { met, second }
    }

    test('ISO-10, DEV-1: an entry that adds a device, sent twice at once, is appended once', async () => {
      expect(await addTwice(scene)).toEqual({ met: 'waits', second: 'head_moved' })
    })

    test('ISO-10: without the second look at the head, its sender is told that its key is somebody else’s', async () => {
      const wrap: Wrap = (tx) => replacing(tx, 'find_log_head', async () => [{}])
      expect(await addTwice(scene, wrap)).toEqual({ met: 'waits', second: 'key_taken' })
    })

    describe.each(APPEND_WAYS)('a deletion and an append $way', (way) => {
      const deleteDuringAppend = async (
        where: Scene,
        remove: (tx: Queryable, userId: Uint8Array) => Promise<unknown>,
      ) => {
        const { devices } = await addUser(where.db)
        const { userId } = devices[0]!
        const { met } = await interleave(where, {
          first: appending(way, continueRun(devices[0]!, makeEvents(3))),
          second: (tx) => remove(tx, userId),
        })
        return { met, events: await countEvents(where, userId) }
      }

      test('ISO-11, P6: a deletion waits for an append under way and leaves none of it', async () => {
        expect(await deleteDuringAppend(scene, deleteAccount)).toEqual({ met: 'waits', events: 0 })
      })

      test('ISO-11: a deletion that marks the user last, not first, leaves events behind', async () => {
        const lockLast = async (tx: Queryable, userId: Uint8Array): Promise<void> => {
          let mark = async (): Promise<unknown> => undefined
          const late = replacing(tx, 'mark_user_deleted', async (asked, values) => {
            mark = () => tx.query(asked, values)
            return [{}]
          })
          await deleteAccount(late, userId)
          await mark()
        }
        expect(await deleteDuringAppend(scene, lockLast)).toEqual({ met: 'waits', events: 3 })
      })

      const appendDuringDeletion = async (where: Scene) => {
        const { devices, genesis } = await addUser(where.db)
        const close = makeEntry(genesis, { isClosed: true })
        const { second, met } = await interleave(where, {
          first: (tx) => appendDeviceLogEntry(tx, close),
          second: appending(way, continueRun(devices[0]!, makeEvents(1))),
        })
        const status = 'refused' in second ? second : second[0]?.status
        return { met, status, events: await countEvents(where, genesis.userId) }
      }

      test('ISO-12, P6: an append that waits behind a deletion is told of it and stores nothing', async () => {
        expect(await appendDuringDeletion(scene)).toEqual({ met: 'waits', status: 'deleted', events: 0 })
      })

      test('ISO-12: without the lock on the user the lock on the device alone stores nothing', async () => {
        expect(await inScene([withoutUserLock], appendDuringDeletion)).toMatchObject({ status: 'deleted', events: 0 })
      })

      test('ISO-12: without the locks its event outlives the account', async () => {
        const outcome = await inScene([withoutUserLock, withoutDeviceLock], appendDuringDeletion)
        expect(outcome).toEqual({ met: 'waits', status: 'stored', events: 1 })
      })
    })

    const beginDuringDeletion = async (where: Scene, wrap = asItIs) => {
      const { devices, genesis } = await addUser(where.db)
      const { second, met } = await interleave(where, {
        first: (tx) => deleteAccount(wrap(tx), genesis.userId),
        second: (tx) => beginSession(tx, genesis.userId, devices[0]!.deviceId),
      })
      return { met, hasBegun: second !== undefined }
    }
    const withoutRevocation: Wrap = (tx) =>
      rewriting(
        tx,
        'end_devices_of_user',
        `last_seen_at = null,
      revoked_at = coalesce(d.revoked_at, now()),
      revoked_log_seq = coalesce(d.revoked_log_seq, u.log_seq)`,
        'last_seen_at = null',
      )

    test('ISO-13, P6: a session that waits behind a deletion does not begin', async () => {
      expect(await beginDuringDeletion(scene)).toEqual({ met: 'waits', hasBegun: false })
    })

    test('ISO-13: when the deletion marks the user alone, the session begins', async () => {
      expect(await beginDuringDeletion(scene, withoutRevocation)).toEqual({ met: 'waits', hasBegun: true })
    })

    const saveDuringDeletion = async (where: Scene, wrap = asItIs) => {
      const { devices, genesis } = await addUser(where.db)
      const { met } = await interleave(where, {
        first: (tx) => deleteAccount(tx, genesis.userId),
        second: (tx) => saveCursor(wrap(tx), genesis.userId, devices[0]!.deviceId, 7),
      })
      const sql = 'select cursor, last_seen_at is not null as "isSeen" from devices where user_id = $1'
      return { met, kept: await where.run(sql, [genesis.userId]) }
    }

    test('ISO-14, P6: a cursor saved behind a deletion leaves no trace', async () => {
      expect(await saveDuringDeletion(scene)).toEqual({ met: 'waits', kept: [{ cursor: 0, isSeen: false }] })
    })

    test('ISO-14: without the look at the device it stays on the tombstone', async () => {
      const wrap: Wrap = (tx) => rewriting(tx, 'save_cursor', 'and d.revoked_at is null', '')
      expect((await saveDuringDeletion(scene, wrap)).kept).toEqual([{ cursor: 7, isSeen: true }])
    })

    /** The server carries out a close, seven days after it was asked for, while an entry that cancels it is being appended. */
    const carryOutDuringCancel = async (wrap = asItIs) => {
      const { genesis } = await addUser(scene.db)
      const asked = makeEntry(genesis, { pendingClose: 'asked' })
      await scene.db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, asked))
      const { second, met } = await interleave(scene, {
        first: (tx) => appendDeviceLogEntry(tx, makeEntry(asked, { pendingClose: 'dropped' })),
        second: (tx) => closeIfDue(wrap(tx), genesis.userId, 0),
      })
      return { met, isClosed: second }
    }

    test('ISO-53, DEV-15: a close that waits behind the entry that cancels it is not carried out', async () => {
      expect(await carryOutDuringCancel()).toEqual({ met: 'waits', isClosed: false })
    })

    test('ISO-53: without the lock before it looks, the account ends although its close was cancelled', async () => {
      const wrap: Wrap = (tx) => replacing(tx, 'lock_closing_user', async () => [])
      expect(await carryOutDuringCancel(wrap)).toEqual({ met: 'waits', isClosed: true })
    })

    test('ISO-53, P6: an entry that waits behind a close being carried out is not appended, and a second node ends nothing', async () => {
      const { genesis } = await addUser(scene.db)
      const asked = makeEntry(genesis, { pendingClose: 'asked' })
      await scene.db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, asked))
      const { first, second, met } = await interleave(scene, {
        first: (tx) => closeIfDue(tx, genesis.userId, 0),
        second: (tx) => appendDeviceLogEntry(tx, makeEntry(asked, { pendingClose: 'dropped' })),
      })
      expect({ first, second, met }).toEqual({ first: true, second: 'head_moved', met: 'waits' })
      const again = await scene.db.transaction({ name: 'test' }, (tx) => closeIfDue(tx, genesis.userId, 0))
      expect(again).toBe(false)
    })
  })
}
