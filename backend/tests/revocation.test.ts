// A revocation across the real nodes: who is cut off, how soon, by which way, and what goes on undisturbed (P6, DEV-10).

import { devicesOf, encodeMessage, entryHash, toHex } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../client/src/clock.ts'
import { appendEntry, authorOf, sealRevoke, sealRotate } from './bad-input/entries.ts'
import { createAccount, type TestAccount, type TestDevice } from './support/account.ts'
import { createDeafBus } from './support/deaf-bus.ts'
import { waitFor } from './support/open-database.ts'
import { openSdkDevice, type SdkDevice } from './support/sdk-device.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

const REVOKED = 4403

describe.each([
  // It would be minutes before a sweep found it.
  ['Redis alone', true, '600000'],
  ['no word between them, as while Redis is away', false, '100'],
] as const)('two nodes with %s', (_, isHeard, sweepMs) => {
  let first: TestServer
  let second: TestServer
  const bus = createDeafBus()

  beforeAll(async () => {
    const redisUrl = testRedisUrl()
    first = await startTestServer({ database: 'postgres', redisUrl })
    const { databaseUrl = '', identityFile } = first
    const flags = { VALISE_HEAD_POLL_MS: sweepMs }
    second = await startTestServer({ database: 'postgres', databaseUrl, identityFile, redisUrl, flags, bus: bus.wrap })
    bus.setDeaf(!isHeard)
  })
  afterAll(async () => {
    await second?.close()
    await first?.close()
  })

  const newAccount = async (devices: number): Promise<TestAccount & { devices: readonly TestDevice[] }> =>
    createAccount(first, { devices })

  test('DEV-10: the device is cut off on the other node, and shown the entry and nothing after it', async () => {
    const account = await newAccount(3)
    const [manager, victim] = account.devices as [TestDevice, TestDevice, TestDevice]
    const session = await manager.connect(first)
    const cut = await victim.connect(second, { cursor: 0 })
    const revoke = await sealRevoke(account, authorOf(manager), [victim])
    await appendEntry(account, session, revoke)
    expect((await cut.closed).code).toBe(REVOKED)
    const revokedSeq = account.log.seq

    const later = await sealRotate(account, authorOf(manager))
    await appendEntry(account, session, later)
    const back = await victim.connect(second)
    const nothing = { key_epoch: 0, head: 0, last_device_seq: 0 }
    expect(back.established).toMatchObject({ device_log_seq: revokedSeq, ...nothing })
    expect(back.established.device_log_head).toEqual(entryHash(nodeCrypto, revoke.entry))
    const log = await back.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })
    expect(log).toMatchObject({ type: 'device_log', head_seq: revokedSeq })
    expect(log.type === 'device_log' && log.entries.length).toBe(revokedSeq + 1)
    const event = await victim.seal('notes')
    back.publish([event.wire])
    expect((await back.closed).code).toBe(REVOKED)
    expect(back.receipts).toEqual([])
    await session.close()
  })

  test('DEV-10: its visits are alike byte for byte, whatever the account does between them', async () => {
    const account = await newAccount(3)
    const [manager, victim, third] = account.devices as [TestDevice, TestDevice, TestDevice]
    const session = await manager.connect(first, { cursor: 0 })
    session.publish((await manager.sealMany('notes', 2)).map(({ wire }) => wire))
    await session.until('the receipts', () => session.receipts.length === 2)
    await appendEntry(account, session, await sealRevoke(account, authorOf(manager), [victim]))

    /** All that the server says, without what is random or a time; and how many bytes each frame has. */
    const visit = async (node: TestServer, afterSeqs: readonly (number | null)[]) => {
      const frames: number[] = []
      const back = await victim.connect(node)
      back.socket.on('message', (data: Buffer) => frames.push(data.length))
      for (const after_seq of afterSeqs) await back.ask({ type: 'fetch_device_log', request_id: 0, after_seq })
      back.send({ type: 'ping', id: 5 })
      await back.until('the pong', () => back.messages.some(({ type }) => type === 'pong'))
      back.send({ type: 'resume', cursor: 0, log_epoch: null })
      const close = await back.closed
      const none = { session_id: new Uint8Array(16), server_time: 0, expires_at: 0 }
      const said = [{ ...back.established, ...none }, ...back.messages].map((message) => toHex(encodeMessage(message)))
      return { said, frames, close }
    }
    const afterSeqs = [null, 0, account.log.seq - 1, account.log.seq, account.log.seq + 1, 1000]
    const before = [await visit(first, afterSeqs), await visit(second, afterSeqs)]

    session.publish((await manager.sealMany('notes', 3)).map(({ wire }) => wire))
    await session.until('the receipts', () => session.receipts.length === 5)
    const online = await third.connect(second, { cursor: 0 })
    for (let i = 0; i < 2; i++) await appendEntry(account, session, await sealRotate(account, authorOf(manager)))
    expect([await visit(first, afterSeqs), await visit(second, afterSeqs)]).toEqual(before)
    await appendEntry(account, session, await sealRevoke(account, authorOf(manager), [third]))
    await online.closed
    expect([await visit(first, afterSeqs), await visit(second, afterSeqs)]).toEqual(before)
    expect(before[0]).toEqual(before[1])
    await session.close()
  })

  test('DEV-10: a device that asks for its log without end is cut off', async () => {
    const account = await newAccount(2)
    const [manager, victim] = account.devices as [TestDevice, TestDevice]
    const session = await manager.connect(first)
    await appendEntry(account, session, await sealRevoke(account, authorOf(manager), [victim]))
    const back = await victim.connect(second)
    const asked = Array.from(
      { length: 200 },
      (_, i) => ({ type: 'fetch_device_log', request_id: i, after_seq: null }) as const,
    )
    back.send(...asked)
    expect((await back.closed).code).toBe(REVOKED)
    expect(back.messages.length).toBeLessThan(asked.length)
    await session.close()
  })

  test('DEV-10: no key, no event and no entry of it is served or taken in that session', async () => {
    const account = await newAccount(2)
    const [manager, victim] = account.devices as [TestDevice, TestDevice]
    const session = await manager.connect(first)
    await appendEntry(account, session, await sealRevoke(account, authorOf(manager), [victim]))
    const entry = await sealRotate(account, authorOf(victim))
    for (const message of [
      { type: 'fetch_envelopes', request_id: 1, after_epoch: 0 },
      { type: 'resume', cursor: 0, log_epoch: null },
      { type: 'append_device_log', request_id: 1, ...entry },
    ] as const) {
      const back = await victim.connect(second)
      back.send(message)
      expect((await back.closed).code).toBe(REVOKED)
      expect(back.messages).toEqual([])
    }
    await session.close()
  })
})

describe('devices that stay', () => {
  let first: TestServer
  let second: TestServer
  const open: SdkDevice[] = []

  beforeAll(async () => {
    const redisUrl = testRedisUrl()
    first = await startTestServer({ database: 'postgres', redisUrl })
    const { databaseUrl = '', identityFile } = first
    second = await startTestServer({ database: 'postgres', databaseUrl, identityFile, redisUrl })
  })
  afterAll(async () => {
    for (const device of open) await device.close()
    await second?.close()
    await first?.close()
  })
  const openOn = async (node: TestServer, device: TestDevice): Promise<SdkDevice> => {
    const opened = await openSdkDevice(node, device, systemClock)
    open.push(opened)
    return opened
  }

  test('DEV-2: who publishes under load while keys change does not notice, and nothing is lost or doubled', async () => {
    const account = await createAccount(first, { devices: 4 })
    const [manager, writer, reader, victim] = account.devices as [TestDevice, TestDevice, TestDevice, TestDevice]
    const [managing, writing, reading, cut] = [
      await openOn(first, manager),
      await openOn(second, writer),
      await openOn(first, reader),
      await openOn(second, victim),
    ]
    const refusals: string[] = []
    writing.client.onRefused(({ code }) => refusals.push(code))
    const total = 1200
    const load = (async () => {
      for (let i = 0; i < total; i++) await writing.publish(String(i))
      await writing.client.flush()
    })()
    for (let epoch = 2; epoch <= 4; epoch++) {
      await waitFor(
        'some receipts',
        async () => writing.receipts.length,
        (count) => count >= (epoch - 1) * 150,
      )
      expect(await managing.client.rotateEpoch()).toBe(epoch)
    }
    await managing.client.revokeDevices({ deviceIds: [victim.deviceId], reason: 'stolen' })
    await load
    expect(refusals).toEqual([])
    expect(new Set(writing.receipts.map(({ deviceSeq }) => deviceSeq)).size).toBe(total)
    await waitFor(
      'every event',
      async () => reading.bodies.length,
      (count) => count >= total,
    )
    expect(reading.bodies).toEqual(Array.from({ length: total }, (_, i) => String(i)))
    expect(writing.states).not.toContain('offline')
    await waitFor(
      'the end of the revoked device',
      async () => cut.client.state().type,
      (type) => type === 'stopped',
    )
    expect(cut.client.state()).toMatchObject({ cause: { type: 'refused', code: 'device_revoked' } })
    // Some of it was sealed again under newer keys.
    expect(writing.client.device.book.require().epoch.n).toBe(5)
  })

  test('DEV-7: of two managers on two nodes that revoke each other at once one stays', async () => {
    for (let round = 0; round < 4; round++) {
      const account = await createAccount(first, { devices: 2 })
      const devices = account.devices as [TestDevice, TestDevice]
      const [one, other] = [await openOn(first, devices[0]), await openOn(second, devices[1])]
      await one.client.changeRole({ deviceId: devices[1].deviceId, role: 'manager' })
      const isManager = async () =>
        devicesOf(other.client.device.book.require()).every(({ record }) => record.role === 'manager')
      await waitFor('the role', isManager, Boolean)
      const outcomes = await Promise.allSettled([
        one.client.revokeDevices({ deviceIds: [devices[1].deviceId], reason: 'stolen' }),
        other.client.revokeDevices({ deviceIds: [devices[0].deviceId], reason: 'stolen' }),
      ])
      expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
      const [winner, loser] = outcomes[0].status === 'fulfilled' ? [one, other] : [other, one]
      await waitFor(
        'the loser to stop',
        async () => loser.client.state().type,
        (type) => type === 'stopped',
      )
      expect(loser.client.state()).toMatchObject({ cause: { type: 'refused', code: 'device_revoked' } })
      await winner.publish('I am still here')
      await winner.client.flush(AbortSignal.timeout(20_000))
    }
  })
})
