// Every way to leave an account without a manager, and managers that revoke each other or themselves.

import { activeDevices, findDevice } from '@valise/protocol'
import { beforeEach, describe, expect, test } from 'vitest'
import { loadRevoked } from '../src/account/forget-account.ts'
import { codeOf, revoke, start, stopCode } from './support/revoking.ts'
import { createFirstDevice, createNextDevice, type TestDevice } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let first: TestDevice
let second: TestDevice
beforeEach(async () => {
  server = createTestServer()
  first = await createFirstDevice(server)
  second = await createNextDevice(server, first)
  // A member that takes no part in it.
  await createNextDevice(server, first)
})

describe('an account without a manager', () => {
  test('DEV-7: the last manager can neither be revoked nor revoke itself nor become a member', async () => {
    await start(first, second)
    const change = { deviceId: first.identity.deviceId, role: 'member' } as const
    expect(await codeOf(revoke(first, first))).toBe('last_manager')
    expect(await codeOf(revoke(first, second, first))).toBe('last_manager')
    expect(await codeOf(first.client.changeRole(change))).toBe('last_manager')
    expect(server.state!.seq).toBe(2)
    expect(first.client.state().type).toBe('live')
  })

  test('DEV-5: the recovery device is not revoked as another device is: a new phrase takes its place', async () => {
    await start(first)
    const recovery = activeDevices(server.state!).find(({ record }) => record.role === 'recovery')!
    const revocation = { deviceIds: [recovery.deviceId], reason: 'lost' } as const
    expect(await codeOf(first.client.revokeDevices(revocation))).toBe('unknown_device')
    expect(activeDevices(server.state!)).toContain(recovery)
  })

  test('DEV-7: a member changes nothing', async () => {
    await start(second)
    expect(await codeOf(revoke(second, first))).toBe('not_a_manager')
    expect(await codeOf(second.client.rotateEpoch())).toBe('not_a_manager')
    expect(await codeOf(second.client.changeRole({ deviceId: second.identity.deviceId, role: 'manager' }))).toBe(
      'not_a_manager',
    )
    expect(server.state!.seq).toBe(2)
  })

  test('DEV-7: a manager that revokes itself leaves the account to the other, and forgets the keys it made', async () => {
    await start(first, second)
    expect(await first.client.changeRole({ deviceId: second.identity.deviceId, role: 'manager' })).toBe(true)
    expect(await first.client.changeRole({ deviceId: second.identity.deviceId, role: 'manager' })).toBe(false)
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    await until(() => second.client.device.book.require().seq === 3, 'the role')
    expect(await revoke(first, first)).toBe(true)
    await first.client.close()
    expect(stopCode(first)).toBe('device_revoked')
    expect(await loadRevoked(first.store)).toMatchObject({ logSeq: 4 })
    expect(first.client.device.epochKeys.secretOf(2)).toBeUndefined()
    // The key of what follows was made by a device that is one no more: the other makes a new one by itself.
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    await until(() => server.state!.epoch.n === 3, 'the next epoch')
    await until(() => second.client.device.epochKeys.secretOf(3) !== undefined, 'its key')
    expect(second.client.state().type).toBe('live')
  })

  test('DEV-7: of two managers that revoke each other at once one stays, and the other is told', async () => {
    await start(first, second)
    await first.client.changeRole({ deviceId: second.identity.deviceId, role: 'manager' })
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    await until(() => second.client.device.book.require().seq === 3, 'the role')
    const outcomes = await Promise.all([codeOf(revoke(first, second)), codeOf(revoke(second, first))])
    expect(outcomes.sort()).toEqual(['device_revoked', 'done'])
    const active = [first, second].filter(({ identity }) => {
      return findDevice(server.state!, identity.deviceId)!.status.type === 'active'
    })
    expect(active).toHaveLength(1)
    expect(active[0]!.client.state().type).toBe('live')
    expect(server.state!.seq).toBe(4)
  })
})
