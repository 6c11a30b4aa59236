// What a device pushes out of the quota, charged by two nodes at once and beside a prune that gives back.

import { describe, expect, test } from 'vitest'
import { countStoredBytes, pruneEvents } from '../../src/db/queries/retention.ts'
import { addUser, continueRun, makeEvents } from '../support/open-database.ts'
import { APPEND_WAYS, appending, withoutKeys, withoutUserLock } from './append-ways.ts'
import { inScene, inTransactionOf, interleave, type SchemaChange, withFunction } from './scene.ts'

/** Of an event that `makeEvents` makes. */
const BYTES = 300
/** A device may push out two events. */
const QUOTA = 20 * BYTES

const chargedAsRead: SchemaChange = withFunction('admit_bytes')(
  'set bytes = x.bytes + v_charge',
  'set bytes = v_used + v_charge',
)

export function describeDisplacement(): void {
  describe.each(APPEND_WAYS)('displacement $way', (way) => {
    /** Two devices that were added today by a third, which has filled the quota, publish two events each. */
    const pushOutAtOnce = (changes: readonly SchemaChange[] = []) =>
      inScene(changes, async (scene) => {
        const { devices } = await addUser(scene.db, 3)
        const [owner, one, other] = [devices[0]!, devices[1]!, devices[2]!]
        await scene.run('update devices set added_by = $2 where user_id = $1 and device_id <> $2', [
          owner.userId,
          owner.deviceId,
        ])
        await appending(way, continueRun(owner, makeEvents(20)))(scene.db)
        const push = (device: typeof one) => appending(way, continueRun(device, makeEvents(2)), 10, QUOTA)
        const { first, second } = await interleave(scene, { first: push(one), second: push(other) })
        return [first, second].map((verdicts) =>
          Array.isArray(verdicts) ? verdicts.map(({ status }) => status) : verdicts,
        )
      })

    test('ISO-54, RET-8: of two devices that share a tenth the second finds it used', async () => {
      expect(await pushOutAtOnce()).toEqual([
        ['stored', 'stored'],
        ['displacement', 'gap'],
      ])
    })

    test('ISO-54: without the lock on the user each of them has it', async () => {
      expect(await pushOutAtOnce([withoutUserLock, ...withoutKeys])).toEqual([
        ['stored', 'stored'],
        ['stored', 'stored'],
      ])
    })

    /** Charged for one event; a prune gives it back while the device is charged for another. Bytes charged in the end. */
    const publishBesideCredit = (changes: readonly SchemaChange[] = []) =>
      inScene(changes, async (scene) => {
        const device = (await addUser(scene.db)).devices[0]!
        const publish = (count: number) => appending(way, continueRun(device, makeEvents(count)), 10, QUOTA)
        await publish(21)(scene.db)
        await countStoredBytes(scene.db, [device.userId], 100)
        const { met } = await interleave(scene, {
          first: (tx) => pruneEvents(inTransactionOf(tx), { reason: 'quota', maxBytes: QUOTA }, 100),
          second: publish(1),
        })
        const [row] = await scene.run<{ bytes: number }>('select bytes from displacements where user_id = $1', [
          device.userId,
        ])
        return { met, bytes: row?.bytes }
      })

    test('ISO-55, RET-8: what a prune gives back and what is charged beside it are both counted', async () => {
      expect(await publishBesideCredit()).toEqual({ met: 'waits', bytes: BYTES })
    })

    test('ISO-55: charged onto what was read before the wait, what was given back is lost', async () => {
      expect(await publishBesideCredit([chargedAsRead])).toEqual({ met: 'waits', bytes: 2 * BYTES })
    })
  })
}
