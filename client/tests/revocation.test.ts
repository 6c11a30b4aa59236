// Revocation as the devices live through it: the cut and what lies beyond it, the device that is cut off and what it keeps.

import { activeDevices, buildRevoke, equalBytes, findDevice, formatUuid, parseEvent } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { toLinks } from '../src/account/append-entry.ts'
import { listDevices } from '../src/account/directory.ts'
import { loadRevoked } from '../src/account/forget-account.ts'
import { loadIdentity } from '../src/account/identity.ts'
import { describeCut, pickDevice } from '../src/account/pick-device.ts'
import type { VoidedEvent } from '../src/receive/void-events.ts'
import { sealNextEpoch } from '../src/sealing/epoch-boxes.ts'
import { verifyDevice } from '../src/verify.ts'
import { codeOf, publish, revoke, sameId, start, stopCode, stopped } from './support/revoking.ts'
import {
  authorOf,
  createFirstDevice,
  createNextDevice,
  sealer,
  type TestDevice,
  take,
  text,
} from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let first: TestDevice
let second: TestDevice
let third: TestDevice
beforeEach(async () => {
  server = createTestServer()
  first = await createFirstDevice(server)
  second = await createNextDevice(server, first)
  third = await createNextDevice(server, first)
})

describe('a revocation', () => {
  test('DEV-6: is one entry with the cut as it was seen, and new keys for the rest', async () => {
    await start(first, second, third)
    await publish(third, 'a', 'b')
    await take(first.client, 'notes', 2)
    expect(await revoke(first, third)).toBe(true)
    const { deviceId } = third.identity
    const status = findDevice(server.state!, deviceId)!.status
    expect(status).toMatchObject({ type: 'revoked', atSeq: 3, lastSeq: 2 })
    expect(server.state!.epoch).toMatchObject({ n: 2, logSeq: 3 })
    expect(server.envelopes(deviceId).boxes.has(2)).toBe(false)
    expect(await revoke(first, third)).toBe(false)
    expect(server.state!.seq).toBe(3)
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: 3 })
    await publish(first, 'c')
    expect(await take(second.client, 'notes', 3)).toEqual(['a', 'b', 'c'])
  })

  test('DEV-6: what lay beyond the cut is void for who has it and for who gets it, and neither is alarmed', async () => {
    await start(first, second, third)
    await publish(third, 'seen')
    await take(first.client, 'notes', 1)
    // From here on the revoker is not told of what the third publishes.
    const reading = take(second.client, 'notes', 2)
    const hidden = [...server.peers].filter((peer) => sameId(peer.deviceId, first))
    for (const peer of hidden) peer.isLive = false
    await publish(third, 'unseen')
    expect(await reading).toEqual(['seen', 'unseen'])
    const voided: VoidedEvent[][] = []
    second.client.onVoided((events) => voided.push([...events]))
    expect(voided).toEqual([])

    await revoke(first, third)
    expect(findDevice(server.state!, third.identity.deviceId)!.status).toMatchObject({ lastSeq: 1 })
    const { seq } = server.state!
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: seq })
    await until(() => voided.length > 0, 'word of the void event')
    expect(voided).toMatchObject([[{ userSeq: 2, deviceSeq: 2, streamSeq: 2 }]])
    const late: VoidedEvent[][] = []
    second.client.onVoided((events) => late.push([...events]))
    expect(late).toEqual(voided)
    await first.client.rotateEpoch()
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: seq + 1 })
    await until(() => second.client.device.book.require().seq === seq + 1, 'the next entry')
    expect(voided).toHaveLength(1)
    await first.restart()
    await start(first)
    await publish(first, 'after')
    for (const device of [first, second]) {
      expect(await take(device.client, 'notes', device === first ? 1 : 2)).toEqual(
        device === first ? ['seen'] : ['seen', 'after'],
      )
      await until(() => device.client.cursor() === 3, 'the log')
      expect(await device.client.device.voidEvents.count()).toBe(1)
      expect(device.client.state().type).toBe('live')
      expect(await verifyDevice(crypto, device.client.device)).toMatchObject({ isSound: true, voidEvents: 1 })
    }
    // It is told again to an application that was not there, and not again as news.
    await second.restart()
    const again: VoidedEvent[][] = []
    second.client.onVoided((events) => again.push([...events]))
    expect(again).toMatchObject([[{ userSeq: 2 }]])
  })

  test('DEV-6: a second one, with another cut, changes nothing, and is told the first one', async () => {
    await start(first, second, third)
    await first.client.changeRole({ deviceId: second.identity.deviceId, role: 'manager' })
    await publish(third, 'a', 'b')
    await Promise.all([take(first.client, 'notes', 2), take(second.client, 'notes', 2)])
    // One of the two is not told of what comes now, and would cut where it stands.
    for (const peer of server.peers) if (sameId(peer.deviceId, first)) peer.isLive = false
    await publish(third, 'c')
    await take(second.client, 'notes', 3)
    expect(await revoke(first, third)).toBe(true)
    const { seq } = server.state!
    expect(await revoke(second, third)).toBe(false)
    expect(server.state!.seq).toBe(seq)
    for (const { client } of [first, second]) {
      const devices = await listDevices(client.device)
      const revoked = devices.find(({ cut }) => cut !== undefined)!
      const isThisDevice = client === first.client
      expect(revoked.cut).toMatchObject({ logSeq: seq, deviceSeq: 2, signer: { role: 'manager', isThisDevice } })
      const by = isThisDevice ? 'this device' : 'your device .+'
      expect(() => pickDevice(devices, formatUuid(revoked.deviceId))).toThrow(
        new RegExp(
          `by entry ${seq} of the device log, which ${by} signed at .+ What it sent after event 2 of its own counts for nothing`,
        ),
      )
    }
  })

  test.each([
    [{ name: 'desk' }, 'your device "desk"'],
    [{ name: undefined }, 'your device 0a0b'],
    [{ name: 'de\u202esk' }, 'your device 0a0b'],
    [{ name: 'de\u2028sk' }, 'your device 0a0b'],
    [{ role: 'recovery' }, 'the recovery phrase'],
    [{ name: 'desk', isThisDevice: true }, 'this device'],
  ] as const)('DEV-6: who signed the cut is named, if the name is fit to show: %o', (who, shown) => {
    const signer = { name: undefined, role: 'manager', isThisDevice: false, deviceFingerprint: '0a0b', ...who } as const
    // By a clock beyond any date.
    const cut = { logSeq: 5, deviceSeq: 0, signer, signedAtMs: Number.MAX_SAFE_INTEGER }
    expect(describeCut({ cut })).toContain(`by entry 5 of the device log, which ${shown} signed at +275760-09-13T`)
  })

  test('DEV-6: a device that knows another history of the revoked one than the cut names raises the alarm', async () => {
    await start(first, second, third)
    await publish(third, 'a')
    await Promise.all([take(first.client, 'notes', 1), take(second.client, 'notes', 1)])
    const log = server.state!
    const rest = activeDevices(log).filter(({ deviceId }) => !sameId(deviceId, third))
    const records = rest.map(({ record }) => record)
    const epoch = await sealNextEpoch(crypto, log, records, [
      { n: 1, secret: first.client.device.epochKeys.secretOf(1)! },
    ])
    const cut = { deviceId: third.identity.deviceId, lastSeq: 1, chain: new Uint8Array(32).fill(1) }
    const entry = await buildRevoke(log, authorOf(first), { devices: [cut], reason: 0, epoch: epoch.start })
    server.append(entry, [], toLinks(epoch))
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    await stopped(second)
    expect(stopCode(second)).toBe('chain_forked')
    expect(second.client.device.book.require().seq).toBe(2)
  })

  test('DEV-6: a checkpoint that names what is void contradicts nobody, and the next one names the cut', async () => {
    const watcher = await createNextDevice(server, first, { checkpointEvery: 1 })
    await start(first, second, third, watcher)
    const { deviceId } = third.identity
    /** Where the newest checkpoint says that the third device stands. */
    const newest = () => {
      const events = server.events.map(({ item }) => parseEvent(item[3])!)
      const event = events.findLast(({ checkpoint }) => checkpoint !== undefined)
      const named = event?.checkpoint?.find((position) => equalBytes(position.deviceId, deviceId))
      return event && named && { logSeq: event.logSeq, deviceSeq: named.deviceSeq, chain: named.chain }
    }
    await publish(third, 'a')
    await Promise.all([first, second, watcher].map(({ client }) => take(client, 'notes', 1)))
    const hidden = [...server.peers].filter((peer) => sameId(peer.deviceId, first))
    for (const peer of hidden) peer.isLive = false
    await publish(third, 'b')
    await until(() => newest()?.deviceSeq === 2, 'the checkpoint that names what will be void')

    await revoke(first, third)
    const { seq } = server.state!
    const cut = findDevice(server.state!, deviceId)!.status
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: seq })
    await until(() => watcher.client.device.book.require().seq === seq, 'word of the revocation')
    await publish(second, 'c')
    await until(() => newest()?.logSeq === seq, 'the next checkpoint')
    expect(cut).toMatchObject({ type: 'revoked', lastSeq: 1 })
    expect(newest()).toEqual({ logSeq: seq, deviceSeq: 1, chain: cut.type === 'revoked' && cut.chain })
    // One that never had what is void, and one that is new, read both checkpoints.
    await first.restart()
    const late = await createNextDevice(server, first)
    await start(first, late)
    const devices = [first, second, watcher, late]
    for (const { client } of [first, late]) await until(() => client.cursor() === server.events.length, 'the log')
    for (const device of devices) expect(stopCode(device)).toBeUndefined()
  })
})

describe('the device that is cut off', () => {
  const keysIn = async ({ store }: TestDevice): Promise<string[]> => {
    const keys: string[] = []
    for await (const [key] of store.range({})) keys.push(key)
    return keys
  }

  test('P6: shown the entry, it stops and keeps who it was, and nothing else', async () => {
    await start(first, second)
    await publish(second, 'a')
    server.intercept = (message) => message.type === 'publish'
    await second.client.publish('notes', text('waits'))
    await until(() => second.client.device.chain.unreceipted.length === 1, 'a sealed event')
    server.intercept = () => false
    await revoke(first, second)
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    await stopped(second)
    expect(stopCode(second)).toBe('device_revoked')
    await second.client.close()
    expect(await keysIn(second)).toEqual(['revoked'])
    expect(await loadRevoked(second.store)).toEqual({
      userId: second.identity.userId,
      deviceId: second.identity.deviceId,
      name: 'next',
      serverUrl: 'ws://server.test',
      logSeq: 3,
    })
    expect(await loadIdentity(crypto, second.store, sealer)).toBeUndefined()
    expect(second.client.device.epochKeys.secretOf(1)).toBeUndefined()
    expect(await codeOf(second.client.publish('notes', text('more')))).toBe('stopped')
  })

  test('P6: away when it happened, it is shown the entry when it comes back', async () => {
    await start(first, second)
    await second.client.close()
    await revoke(first, second)
    await second.restart()
    second.client.start()
    await stopped(second)
    expect(stopCode(second)).toBe('device_revoked')
    await second.client.close()
    expect(await keysIn(second)).toEqual(['revoked'])
  })

  test('P6: told no head and no position of its own, as a server tells a revoked device, it is shown the entry first', async () => {
    await start(first, second)
    await publish(first, 'a')
    await publish(second, 'b')
    await take(second.client, 'notes', 1)
    await second.client.close()
    await revoke(first, second)
    server.logEpoch = new Uint8Array(16).fill(9)
    server.distort = (message) =>
      message.type === 'session_established' ? [{ ...message, key_epoch: 0, last_device_seq: 0, head: 0 }] : [message]
    await second.restart()
    second.client.start()
    await stopped(second)
    expect(stopCode(second)).toBe('device_revoked')
    await second.client.close()
    expect(await keysIn(second)).toEqual(['revoked'])
  })

  test('P6: told no head without being revoked, it raises the alarm and erases nothing', async () => {
    await start(first, second)
    await publish(first, 'a')
    await take(second.client, 'notes', 1)
    await second.client.close()
    const before = await keysIn(second)
    server.distort = (message) =>
      message.type === 'session_established' ? [{ ...message, key_epoch: 0, last_device_seq: 0, head: 0 }] : [message]
    await second.restart()
    second.client.start()
    await stopped(second)
    expect(stopCode(second)).toBe('cursor_beyond_head')
    await second.client.close()
    expect(await keysIn(second)).toEqual([...before, 'lost-log'].sort())
  })

  test('P6: an erasing that was interrupted is done at the next start, without a server', async () => {
    await start(first, second)
    await second.client.close()
    await revoke(first, second)
    await second.client.device.book.append(server.entries.slice(3))
    server.isReachable = false
    expect(await keysIn(second)).toContain('log/0000000000000003')
    await second.restart()
    expect(stopCode(second)).toBe('device_revoked')
    await second.client.close()
    expect(await keysIn(second)).toEqual(['revoked'])
  })

  test('P6: a server that only says so erases nothing', async () => {
    await start(first)
    await publish(first, 'a')
    await until(() => first.client.cursor() === 1, 'the place of the event')
    const before = await keysIn(first)
    server.cut(4403)
    await until(() => first.client.state().type !== 'live', 'the close')
    first.clock.advance(0)
    await first.client.whenLive()
    server.cut(4403)
    await stopped(first)
    expect(stopCode(first)).toBe('revocation_unproven')
    expect(await keysIn(first)).toEqual(before)
  })

  test('P6: it asks for no key of the epoch that shuts it out', async () => {
    await start(first, second)
    const asked: string[] = []
    await revoke(first, second)
    server.intercept = (message, peer) => {
      if (sameId(peer.deviceId, second)) asked.push(message.type)
      return false
    }
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    await stopped(second)
    expect(asked).toEqual(['fetch_device_log'])
  })
})
