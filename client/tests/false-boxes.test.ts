// A stolen manager that seals keys falsely: to one device, to all, to the phrase, with false links, or together with another.

import { findDevice, findRecovery, type KemId } from '@valise/protocol'
import { decode } from 'cborg'
import { beforeEach, describe, expect, test } from 'vitest'
import { storeKeys } from '../src/store/layout.ts'
import { addFalsely, rotateFalsely } from './support/false-epochs.ts'
import { recoverClient } from './support/recovering.ts'
import { publish, start } from './support/revoking.ts'
import { createFirstDevice, createNextDevice, type TestDevice, take, text } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
/** An honest manager, a stolen one, and an honest member. */
let first: TestDevice
let thief: TestDevice
let member: TestDevice
const idOf = ({ identity }: TestDevice) => identity.deviceId
const statusOf = (device: TestDevice) => findDevice(server.state, idOf(device))!.status.type
const closedOf = ({ client }: TestDevice) => client.device.epochKeys.closed(client.device.book.require())
const recoveryId = () => findRecovery(server.state!)!.deviceId
const isSuspended = () => until(() => statusOf(thief) === 'suspended', 'the thief to be suspended')
const reaches = (n: number) => until(() => server.state!.epoch.n === n, `epoch ${n}`)

beforeEach(async () => {
  server = createTestServer()
  server.tellsOfEntries = true
  first = await createFirstDevice(server)
  thief = await createNextDevice(server, first)
  member = await createNextDevice(server, first)
  await start(first)
  await first.client.changeRole({ deviceId: idOf(thief), role: 'manager' })
  await start(thief, member)
  await publish(first, 'before')
  await take(member.client, 'notes', 1)
})

const recover = () => recoverClient(server, first.phrase!)

describe('a stolen manager that seals a false box', () => {
  test('DEV-16: to a member is suspended by a manager, which starts an epoch and links what the member missed', async () => {
    await rotateFalsely(server, thief, { cheated: [idOf(member)] })
    await isSuspended()
    await reaches(3)
    expect(server.state!.epoch.links.map(({ n }) => n)).toEqual([2])
    await publish(first, 'after')
    expect(await take(member.client, 'notes', 2)).toEqual(['before', 'after'])
    expect(closedOf(member)).toEqual([])
    expect(member.client.state().type).toBe('live')
  })

  test('DEV-16: to the phrase is suspended, and the phrase recovers the account', async () => {
    await rotateFalsely(server, thief, { cheated: [recoveryId()] })
    await isSuspended()
    await reaches(3)
    const client = await recover()
    expect(await take(client, 'notes', 1)).toEqual(['before'])
    await client.close()
  })

  test('DEV-16: to a device that it signs in is suspended', async () => {
    await addFalsely(server, thief)
    await isSuspended()
    await reaches(2)
  })

  test('DEV-16: to a manager cannot be proved by it: the manager starts the next epoch at once and stays live', async () => {
    await rotateFalsely(server, thief, { cheated: [idOf(first)] })
    await reaches(3)
    expect(statusOf(thief)).toBe('active')
    expect(server.state!.epoch.links.map(({ n }) => n)).toEqual([1])
    await until(() => first.client.device.epochKeys.secretOf(3) !== undefined, 'the new key')
    expect(closedOf(first)).toEqual([2])
    expect(first.client.state().type).toBe('live')
    await publish(first, 'after')
    expect(await take(member.client, 'notes', 2)).toEqual(['before', 'after'])
  })

  test('DEV-16: to all makes a member wait with what it publishes, until a manager starts an epoch', async () => {
    await first.client.close()
    await rotateFalsely(server, thief, { cheated: [idOf(first), idOf(member), recoveryId()] })
    await until(() => member.client.device.book.require().epoch.n === 2, 'the entry')
    await member.client.publish('notes', text('waited'))
    await until(() => member.client.device.outbox.count === 1, 'the outbox')
    expect(closedOf(member)).toEqual([2])
    expect(member.client.state().type).toBe('live')
    await first.restart()
    await start(first)
    await reaches(3)
    await until(() => member.client.device.epochKeys.secretOf(3) !== undefined, 'the new key')
    await until(() => member.client.device.outbox.count === 0, 'the outbox to be empty')
    expect(await take(first.client, 'notes', 1)).toEqual(['waited'])
  })

  test('DEV-16: to all, while every manager is away, does not keep the phrase from recovering the account', async () => {
    await first.client.close()
    await rotateFalsely(server, thief, { cheated: [idOf(first), idOf(member), recoveryId()] })
    const client = await recover()
    expect(await take(client, 'notes', 1)).toEqual(['before'])
    expect(server.state!.epoch.links.map(({ n }) => n)).toEqual([1])
    await client.close()
  })
})

describe('a box that does not open, on a server that drops what its device has', () => {
  test('DEV-16, DEV-18: a manager that starts an epoch over it stays live in its later sessions', async () => {
    await rotateFalsely(server, thief, { cheated: [idOf(first)] })
    await reaches(3)
    await until(() => first.client.device.epochKeys.secretOf(3) !== undefined, 'the new key')
    expect(closedOf(first)).toEqual([2])
    await first.restart()
    await start(first)
    expect(first.client.state()).toMatchObject({ type: 'live' })
    await publish(first, 'after')
    expect(await take(member.client, 'notes', 2)).toEqual(['before', 'after'])
  })
})

describe('a stolen manager that seals false links', () => {
  test.each(['false', 'none'] as const)('DEV-16: a link that is %s loses no history', async (links) => {
    await rotateFalsely(server, thief, { links })
    if (links === 'false') await isSuspended()
    else {
      await until(() => first.client.device.book.require().epoch.n === 2, 'the entry')
      await first.client.rotateEpoch()
    }
    await reaches(3)
    expect(server.state!.epoch.links.map(({ n }) => n)).toEqual([2, 1])
    const newcomer = await createNextDevice(server, first)
    await start(newcomer)
    expect(await take(newcomer.client, 'notes', 1)).toEqual(['before'])
    expect(closedOf(newcomer)).toEqual([])
  })

  test('DEV-16: two managers together cannot take the history from the others', async () => {
    await first.client.changeRole({ deviceId: idOf(member), role: 'manager' })
    for (const { client } of [first, thief, member]) await client.close()
    await rotateFalsely(server, thief, { cheated: [idOf(first), recoveryId()], links: 'none' })
    await rotateFalsely(server, member, { cheated: [idOf(first), recoveryId()], links: 'none' })
    await first.restart()
    await start(first)
    await reaches(4)
    expect(server.state!.epoch.links.map(({ n }) => n)).toEqual([1])
    expect(first.client.state().type).toBe('live')
    const client = await recover()
    expect(await take(client, 'notes', 1)).toEqual(['before'])
    await client.close()
  })
})

describe('what is checked of boxes', () => {
  test('DEV-16: is remembered, so that a restart checks nothing twice, and a fault is not forgotten', async () => {
    const checkedTo = async (device: TestDevice) => {
      const stored = await device.store.get(storeKeys.boxesChecked)
      return stored && (decode(stored) as { seq: number; faults: unknown[] })
    }
    await rotateFalsely(server, thief, { cheated: [recoveryId()] })
    await isSuspended()
    await reaches(3)
    let seen: Awaited<ReturnType<typeof checkedTo>>
    const look = async () => {
      seen = await checkedTo(member)
    }
    await until(() => {
      look().catch(() => {})
      return seen?.seq === server.state!.seq
    }, 'all entries to be checked')
    // A member only notes it: should it become a manager, it acts.
    expect(seen?.faults).toHaveLength(1)
  })

  test('DEV-16: an honest manager is never at fault, whatever keys a device was signed in with', async () => {
    await thief.client.close()
    const invalid = new Uint8Array(1216).fill(255)
    const rogue = await addFalsely(server, thief, invalid)
    expect(findDevice(server.state, rogue.deviceId)!.record.kemId satisfies KemId).toBeDefined()
    await first.client.rotateEpoch()
    await publish(first, 'after')
    expect(await take(member.client, 'notes', 2)).toEqual(['before', 'after'])
    expect(statusOf(first)).toBe('active')
  })
})
