// Registration, the device log and the end of an account: two transactions that must not both have their way.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../../src/db/postgres.ts'
import { appendDeviceLogEntry, type DeviceLogChange, insertGenesis } from '../../src/db/queries/device-log.ts'
import { saveCursor } from '../../src/db/queries/devices.ts'
import { beginSession } from '../../src/db/queries/sessions.ts'
import { deleteAccount } from '../../src/db/queries/users.ts'
import { addUser, continueRun, makeEntry, makeEvents, makeGenesis } from '../support/open-database.ts'
import { inScene, interleave, openScene, replacing, rewriting, type Scene, withoutConstraint } from './scene.ts'
import { appending, withoutDeviceLock, withoutUserLock } from './storage.ts'

type Wrap = (tx: Queryable) => Queryable
const asItIs: Wrap = (tx) => tx

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
      ]
      const genesis = makeGenesis()
      const wrap: Wrap = (tx) =>
        withoutKeyLock(withoutKeyCheck(rewriting(tx, 'insert_user', 'on conflict (user_id) do nothing', '')))
      const outcome = await inScene(changes, (mutated) => registerTwice(mutated, genesis, genesis, wrap))
      expect(outcome).toEqual({ met: 'done', answers: ['inserted', 'inserted'], devices: 2 })
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

    const countEvents = async (where: Scene, userId: Uint8Array) =>
      (await where.run('select 1 from events where user_id = $1', [userId])).length

    const deleteDuringAppend = async (
      where: Scene,
      remove: (tx: Queryable, userId: Uint8Array) => Promise<unknown>,
    ) => {
      const { devices } = await addUser(where.db)
      const { userId } = devices[0]!
      const { met } = await interleave(where, {
        first: appending(continueRun(devices[0]!, makeEvents(3))),
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
        second: appending(continueRun(devices[0]!, makeEvents(1))),
      })
      const status = 'refused' in second ? second : second[0]?.status
      return { met, status, events: await countEvents(where, genesis.userId) }
    }

    test('ISO-12, P6: an append that waits behind a deletion is told of it and stores nothing', async () => {
      expect(await appendDuringDeletion(scene)).toEqual({ met: 'waits', status: 'deleted', events: 0 })
    })

    test('ISO-12: without the locks its event outlives the account', async () => {
      const outcome = await inScene([withoutUserLock, withoutDeviceLock], appendDuringDeletion)
      expect(outcome).toEqual({ met: 'waits', status: 'stored', events: 1 })
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

    const appendDuringRevocation = async (where: Scene, effects: (victim: Uint8Array) => Partial<DeviceLogChange>) => {
      const { devices, genesis } = await addUser(where.db, 2)
      const device = devices[1]!
      const { second, met } = await interleave(where, {
        first: (tx) => appendDeviceLogEntry(tx, makeEntry(genesis, effects(device.deviceId))),
        second: appending(continueRun(device, makeEvents(1, { logSeq: 0 }))),
      })
      const status = 'refused' in second ? second : second[0]?.status
      return { met, status, events: await countEvents(where, genesis.userId) }
    }
    const epoch = { n: 2, prevBox: null }
    const revocation = (victim: Uint8Array) => ({ revoked: [victim], epoch })
    const rotation = () => ({ epoch })

    test('ISO-15, P6: an append that waits behind the revocation of its device is refused', async () => {
      const refused = { met: 'waits', status: 'revoked', events: 0 }
      expect(await appendDuringRevocation(scene, revocation)).toEqual(refused)
    })

    test('ISO-15: without the lock on the user the lock on the device alone refuses it', async () => {
      const outcome = await inScene([withoutUserLock], (mutated) => appendDuringRevocation(mutated, revocation))
      expect(outcome).toMatchObject({ status: 'revoked', events: 0 })
    })

    test('ISO-15: when the device is looked at before the locks, an event slips past the cut', async () => {
      const changes = [withoutUserLock, withoutDeviceLock]
      const outcome = await inScene(changes, (mutated) => appendDuringRevocation(mutated, revocation))
      expect(outcome).toEqual({ met: 'waits', status: 'stored', events: 1 })
    })

    test('ISO-16, DEV-2: an append under the old epoch that waits behind the new one is stale', async () => {
      const refused = { met: 'waits', status: 'stale_epoch', events: 0 }
      expect(await appendDuringRevocation(scene, rotation)).toEqual(refused)
    })

    test('ISO-16: without the lock on the user it is stored under the old epoch', async () => {
      const outcome = await inScene([withoutUserLock], (mutated) => appendDuringRevocation(mutated, rotation))
      expect(outcome).toEqual({ met: 'waits', status: 'stored', events: 1 })
    })

    const beginDuringRevocation = async (where: Scene, wrap = asItIs) => {
      const { devices, genesis } = await addUser(where.db, 2)
      const { deviceId } = devices[1]!
      const { second, met } = await interleave(where, {
        first: (tx) => appendDeviceLogEntry(tx, makeEntry(genesis, revocation(deviceId))),
        second: (tx) => beginSession(wrap(tx), genesis.userId, deviceId),
      })
      return { met, hasBegun: second !== undefined }
    }

    test('ISO-17, P6: a session that waits behind the revocation of its device does not begin', async () => {
      expect(await beginDuringRevocation(scene)).toEqual({ met: 'waits', hasBegun: false })
    })

    test('ISO-17: when it looked at the device before the update, the session begins', async () => {
      const wrap: Wrap = (tx) =>
        rewriting(
          tx,
          'begin_session',
          'and d.revoked_at is null',
          'and exists (select from devices as x where x.device_id = d.device_id and x.revoked_at is null)',
        )
      expect(await beginDuringRevocation(scene, wrap)).toEqual({ met: 'waits', hasBegun: true })
    })
  })
}
