// How sessions begin, on both databases: their numbers, and what the beginning finds of the user's other devices.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { appendDeviceLogEntry } from '../src/db/queries/device-log.ts'
import { findDeviceForSession, findDevicesForSessions } from '../src/db/queries/devices.ts'
import { beginFreeSessions, beginSession } from '../src/db/queries/sessions.ts'
import {
  addUser,
  DATABASE_KINDS,
  hash,
  id,
  makeEntry,
  type OpenedDatabase,
  openDatabase,
} from './support/open-database.ts'

describe.each(DATABASE_KINDS)('sessions on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(() => opened.close())

  const addTwoUsers = async () => [await addUser(opened.db, 3), await addUser(opened.db, 1)] as const
  const keyOf = ({ userId, deviceId }: { userId: Uint8Array; deviceId: Uint8Array }) => ({ userId, deviceId })
  const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

  test('SES-3: sessions that begin together have what each would have alone', async () => {
    const [{ devices }, { devices: others }] = await addTwoUsers()
    const [first, second, third] = devices.map(keyOf)
    const alone = await beginSession(opened.db, second!.userId, second!.deviceId)
    expect(alone?.number).toBe(1)
    const stranger = { userId: first!.userId, deviceId: id() }
    const asked = [keyOf(others[0]!), stranger, second!, third!]
    const [other, nobody, again, last] = await beginFreeSessions(opened.db, asked)
    expect([other?.number, nobody, again?.number, last?.number]).toEqual([1, undefined, 2, 1])
    expect(again?.device).toEqual(await findDeviceForSession(opened.db, second!.deviceId, second!.userId))
    expect(other?.others).toEqual([])
  })

  test('PRE-2: a beginning finds the other devices that are not revoked, and when each was seen', async () => {
    const { devices, genesis } = await addUser(opened.db, 3)
    const [first, second, third] = devices
    await beginSession(opened.db, second!.userId, second!.deviceId)
    const [seenRow] = await opened.db.query<{ ms: number }>(
      {
        name: '',
        text: `select (date_part('epoch', last_seen_at) * 1000)::bigint as ms from devices where device_id = $1`,
      },
      [second!.deviceId],
    )
    const expected = [
      { id: hexOf(second!.deviceId), lastSeenAtMs: seenRow?.ms },
      { id: hexOf(third!.deviceId), lastSeenAtMs: undefined },
    ].sort((a, b) => (a.id < b.id ? -1 : 1))
    const told = (begun: Awaited<ReturnType<typeof beginSession>>) =>
      begun?.others.map(({ deviceId, lastSeenAtMs }) => ({ id: hexOf(deviceId), lastSeenAtMs }))
    expect(told(await beginSession(opened.db, first!.userId, first!.deviceId))).toEqual(expected)
    expect(told((await beginFreeSessions(opened.db, [keyOf(first!)]))[0])).toEqual(expected)

    const revoke = makeEntry(genesis, {
      revoked: [third!.deviceId],
      epoch: { n: 2, links: [{ prevEpoch: 1, box: hash() }] },
    })
    await opened.db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, revoke))
    expect(told((await beginFreeSessions(opened.db, [keyOf(first!)]))[0])).toHaveLength(1)
    expect(await beginFreeSessions(opened.db, [keyOf(third!)])).toEqual([undefined])
  })

  test('SES-1: devices that are looked up together are found as each is alone', async () => {
    const [{ devices }, { devices: others }] = await addTwoUsers()
    const asked = [others[0]!, devices[2]!, { userId: others[0]!.userId, deviceId: devices[0]!.deviceId }].map(keyOf)
    const alone = await Promise.all(asked.map((key) => findDeviceForSession(opened.db, key.deviceId, key.userId)))
    expect(await findDevicesForSessions(opened.db, asked)).toEqual(alone)
    expect(alone.map((device) => device === undefined)).toEqual([false, false, true])
    expect(await findDevicesForSessions(opened.db, asked.slice(0, 1))).toEqual(alone.slice(0, 1))
  })
})
