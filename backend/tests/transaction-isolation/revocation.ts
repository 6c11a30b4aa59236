// Revocation and a new epoch, against the appends and sessions that arrive at that moment.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { appendDeviceLogEntry, type DeviceLogChange } from '../../src/db/queries/device-log.ts'
import { beginSession, confirmSessions } from '../../src/db/queries/sessions.ts'
import { deleteAccount } from '../../src/db/queries/users.ts'
import { addUser, continueRun, makeEntry, makeEvents, type TestDevice } from '../support/open-database.ts'
import { APPEND_WAYS, appending, withoutDeviceLock, withoutUserLock } from './append-ways.ts'
import {
  asItIs,
  countEvents,
  inScene,
  interleave,
  openScene,
  openStepped,
  replacing,
  rewriting,
  type Scene,
  type Stepped,
  toRefused,
  type Wrap,
} from './scene.ts'

export function describeRevocation(): void {
  describe('revocation', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    const epoch = { n: 2, links: [] }
    const revocation = (victim: Uint8Array) => ({ revoked: [victim], epoch })
    const rotation = () => ({ epoch })

    describe.each(APPEND_WAYS)('of a device that appends $way', (way) => {
      const appendDuringRevocation = async (
        where: Scene,
        effects: (victim: Uint8Array) => Partial<DeviceLogChange>,
      ) => {
        const { devices, genesis } = await addUser(where.db, 2)
        const device = devices[1]!
        const { second, met } = await interleave(where, {
          first: (tx) => appendDeviceLogEntry(tx, makeEntry(genesis, effects(device.deviceId))),
          second: appending(way, continueRun(device, makeEvents(1, { logSeq: 0 }))),
        })
        const status = 'refused' in second ? second : second[0]?.status
        return { met, status, events: await countEvents(where, genesis.userId) }
      }

      test('ISO-15, P6: an append that waits behind the revocation of its device is refused', async () => {
        const refused = { met: 'waits', status: 'revoked', events: 0 }
        expect(await appendDuringRevocation(scene, revocation)).toEqual(refused)
      })

      test('ISO-15: without the lock on the user the lock on the device alone refuses it', async () => {
        const outcome = await inScene([withoutUserLock], (mutated) => appendDuringRevocation(mutated, revocation))
        expect(outcome).toMatchObject({ status: 'revoked', events: 0 })
      })

      test('ISO-15: without the lock on the device the lock on the user alone refuses it', async () => {
        const outcome = await inScene([withoutDeviceLock], (mutated) => appendDuringRevocation(mutated, revocation))
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

    /** A user's devices in the order of their keys. */
    const addSorted = async (count: number) => {
      const { devices, genesis } = await addUser(scene.db, count)
      return { genesis, devices: devices.sort((a, b) => Buffer.compare(a.deviceId, b.deviceId)) }
    }
    /** In a transaction of its own. Resolves to its outcome: done, or the SQLSTATE with which PostgreSQL ended it. */
    const within = async (connection: Stepped, work: (tx: Stepped) => Promise<unknown>) => {
      await connection.run('begin')
      const outcome = await work(connection).then(() => 'done', toRefused)
      await connection.run('commit')
      return outcome
    }
    const confirmBoth = (devices: readonly TestDevice[]) =>
      within(scene.right, (tx) =>
        confirmSessions(
          tx,
          devices.map((device) => ({ ...device, number: 1 })),
        ),
      )

    /** Two devices are revoked in one entry; after the first of them the sessions of both are confirmed. */
    const confirmDuringRevocation = async ({ isReversed = false } = {}) => {
      const { genesis, devices } = await addSorted(2)
      const ids = devices.map(({ deviceId }) => deviceId)
      let confirming: ReturnType<typeof confirmBoth> | undefined
      const ofRevocation = await within(scene.left, (left) => {
        let steps = 0
        const stepping = replacing(left, 'revoke_device', async ({ text }, [userId, deviceId, seq]) => {
          if (++steps === 2) {
            confirming = confirmBoth(devices)
            expect(await scene.reach(scene.right, confirming)).toBe('waits')
          }
          return left.run(text, [userId, isReversed ? ids.find((id) => id !== deviceId) : deviceId, seq])
        })
        return appendDeviceLogEntry(stepping, makeEntry(genesis, { revoked: [...ids].reverse(), epoch }))
      })
      return [ofRevocation, await confirming]
    }

    test('ISO-52, P6: a revocation of two devices and a confirmation of their sessions lock them in one order', async () => {
      expect(await confirmDuringRevocation()).toEqual(['done', 'done'])
    })

    test('ISO-52: revoked from the other end, PostgreSQL ends one for a deadlock', async () => {
      expect(await confirmDuringRevocation({ isReversed: true })).toContainEqual({ refused: '40P01' })
    })

    /** The deletion waits for the middle one of three devices while the sessions of the other two are confirmed. */
    const confirmDuringDeletion = async (wrap = asItIs) => {
      const { genesis, devices } = await addSorted(3)
      const [low, middle, high] = devices
      const third = await openStepped(scene.opened.url)
      try {
        await third.run('begin')
        await beginSession(third, genesis.userId, middle!.deviceId)
        const deleting = within(scene.left, (tx) => deleteAccount(wrap(tx), genesis.userId))
        expect(await scene.reach(scene.left, deleting)).toBe('waits')
        const confirming = confirmBoth([low!, high!])
        expect(await scene.reach(scene.right, confirming)).toBe('waits')
        await third.run('commit')
        return await Promise.all([deleting, confirming])
      } finally {
        await third.close()
      }
    }

    test('ISO-52, P6: so do a deletion and a confirmation', async () => {
      expect(await confirmDuringDeletion()).toEqual(['done', 'done'])
    })

    test('ISO-52: deleted from the other end, PostgreSQL ends one for a deadlock', async () => {
      const order = 'order by d.user_id, d.device_id'
      const wrap: Wrap = (tx) => rewriting(tx, 'end_devices_of_user', order, `${order} desc`)
      expect(await confirmDuringDeletion(wrap)).toContainEqual({ refused: '40P01' })
    })
  })
}
