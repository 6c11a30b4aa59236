// The snapshot that a session is told of its user's other devices, put together from three sources that are asked at
// different moments: the devices as its beginning found them, the leases, and word that came meanwhile (PRE-2).

import { type Presence as PresenceMessage, toDeviceId, toHex, toUserId } from '@valise/protocol'
import { describe, expect, test } from 'vitest'
import { createSession } from '../src/gateway/session.ts'
import { createLocalLeases } from '../src/presence/local-leases.ts'
import { createPresence } from '../src/presence/presence.ts'

const NOW_MS = 1_700_000_000_000
const userId = toUserId(new Uint8Array(32).fill(1))!
const deviceIdOf = (n: number) => toDeviceId(new Uint8Array(16).fill(n))!
const session = createSession({
  sessionId: new Uint8Array(16),
  userId,
  deviceId: deviceIdOf(1),
  publicKey: new Uint8Array(32),
  canRekey: true,
  establishedAtMs: 0,
})
const [leased, resting, unheardOf] = [2, 3, 4].map(deviceIdOf)

function createScene() {
  const leases = createLocalLeases({ ttlMs: 1000, now: () => NOW_MS })
  const presence = createPresence({
    leases,
    staleAfterMs: 1000,
    now: () => NOW_MS,
    noteSeen: async () => undefined,
    announce: () => undefined,
    onFailure: (error) => {
      throw error
    },
  })
  const told: PresenceMessage[] = []
  let noteWord = (): void => undefined
  const firstWord = new Promise<void>((resolve) => {
    noteWord = resolve
  })
  const others = [leased!, resting!].map((deviceId) => ({ deviceId, lastSeenAtMs: undefined }))
  const joined = presence.join(session, { number: 1, others }, (message) => {
    told.push(message)
    noteWord()
  })
  const isOnlineByDevice = () =>
    Object.fromEntries(told.flatMap(({ devices }) => devices.map((one) => [toHex(one.device_id), one.is_online])))
  return { leases, joined, told, firstWord, isOnlineByDevice }
}

const news = (deviceId: Uint8Array, isOnline: boolean) =>
  ({ type: 'presence', userId, deviceId, sessionNumber: 7, isOnline, atMs: NOW_MS }) as const

describe('the snapshot of a session', () => {
  test('PRE-2: word that came before the snapshot is in it, also of a device that the beginning did not find', async () => {
    const { leases, joined, told, firstWord, isOnlineByDevice } = createScene()
    await leases.hold([{ userId, deviceId: leased!, sessionNumber: 5 }])
    joined.hear(news(unheardOf!, true))
    joined.start()
    joined.hear(news(leased!, false))
    await firstWord
    expect(told.map((message) => message.is_snapshot)).toEqual([true])
    expect(isOnlineByDevice()).toEqual({
      [toHex(leased!)]: false,
      [toHex(resting!)]: false,
      [toHex(unheardOf!)]: true,
    })
    await joined.end()
  })

  test('PRE-2: a session that has ended hears nothing more', async () => {
    const { joined, told, firstWord } = createScene()
    joined.start()
    await firstWord
    await joined.end()
    joined.hear(news(resting!, true))
    expect(told).toHaveLength(1)
  })
})
