// What is kept of key boxes: each until its device has it, and always the newest, from which the links lead back.

import { afterEach, describe, expect, test } from 'vitest'
import { appendDeviceLogEntry } from '../src/db/queries/device-log.ts'
import { dropLinkedEnvelopes, dropReadEnvelopes, readEnvelopes } from '../src/db/queries/envelopes.ts'
import { addUser, DATABASE_KINDS, id, makeEntry, openDatabase } from './support/open-database.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

describe.each(DATABASE_KINDS)('key boxes on %s', (kind) => {
  const openScene = async (epochs: number) => {
    const { db, close } = await openDatabase(kind)
    undo.push(close)
    const { genesis } = await addUser(db, 2)
    const { userId } = genesis
    const devices = genesis.added.map(({ deviceId }) => deviceId)
    let last = genesis
    for (let n = 2; n <= epochs; n++) {
      const entry = makeEntry(last, {
        epoch: { n, links: [{ prevEpoch: n - 1, box: id() }] },
        boxes: devices.map((deviceId) => ({ deviceId, epoch: n, box: id() })),
      })
      expect(await db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, entry))).toBe('appended')
      last = entry
    }
    const epochsOf = async (deviceId: Uint8Array): Promise<number[]> =>
      (await readEnvelopes(db, userId, deviceId, 0)).boxes.map(({ epoch }) => epoch)
    return { db, userId, devices, epochsOf }
  }

  test('DEV-18: what a device says that it has is dropped, of this device alone, and the links stay', async () => {
    const { db, userId, devices, epochsOf } = await openScene(6)
    const [one, other] = devices as [Uint8Array, Uint8Array]
    await dropReadEnvelopes(db, userId, one, 3)
    expect(await epochsOf(one)).toEqual([4, 5, 6])
    expect(await epochsOf(other)).toEqual([1, 2, 3, 4, 5, 6])
    const { links } = await readEnvelopes(db, userId, one, 0)
    expect(links.map(({ epoch, prevEpoch }) => [epoch, prevEpoch])).toEqual([2, 3, 4, 5, 6].map((n) => [n, n - 1]))
  })

  test('DEV-18: the newest box stays, whatever a device says that it has', async () => {
    const { db, userId, devices, epochsOf } = await openScene(4)
    const [one] = devices as [Uint8Array]
    for (const through of [4, 100, 2 ** 31]) await dropReadEnvelopes(db, userId, one, through)
    expect(await epochsOf(one)).toEqual([1, 2, 3, 4])
    await dropReadEnvelopes(db, userId, one, 3)
    expect(await epochsOf(one)).toEqual([4])
  })

  test('DEV-18: the boxes of the recovery device stay', async () => {
    const { db, userId, devices, epochsOf } = await openScene(4)
    const [one] = devices as [Uint8Array]
    await db.query({ name: '', text: 'update devices set role = 3 where device_id = $1' }, [one])
    await dropReadEnvelopes(db, userId, one, 3)
    expect(await epochsOf(one)).toEqual([1, 2, 3, 4])
  })

  test('DEV-18: what a device links itself is dropped, nothing between, and never the newest box', async () => {
    const { db, userId, devices, epochsOf } = await openScene(6)
    const [one, other] = devices as [Uint8Array, Uint8Array]
    await dropLinkedEnvelopes(db, userId, one, [4, 2])
    expect(await epochsOf(one)).toEqual([1, 3, 5, 6])
    await dropLinkedEnvelopes(db, userId, one, [6])
    expect(await epochsOf(one)).toEqual([1, 3, 5, 6])
    await db.query({ name: '', text: 'update devices set role = 3 where device_id = $1' }, [other])
    await dropLinkedEnvelopes(db, userId, other, [4, 2])
    expect(await epochsOf(other)).toEqual([1, 2, 3, 4, 5, 6])
  })
})
