// A device and its server, step by step: publishing, receiving, and coming back.

import { devicesOf, parseEvent, signDevicePop } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { createAccount } from '../src/account/create-account.ts'
import type { Client } from '../src/client.ts'
import type { PublishReceipt } from '../src/publish/publisher.ts'
import type { PublishRefusal } from '../src/publish/repair.ts'
import { createDeviceKeys } from '../src/sealing/device-keys.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import { verifyDevice } from '../src/verify.ts'
import { createPair, publishAll } from './support/device-pair.ts'
import { createFirstDevice, parts, rotateEpoch, take, text, toText } from './support/test-device.ts'
import { createTestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

describe('a device of its own', () => {
  test('DEV-1: an account is made in one session and holds a device, a recovery device and an epoch', async () => {
    const server = createTestServer()
    const store = createMemoryStore()
    const account = { server: { url: 'ws://s', fingerprint: server.fingerprint }, name: 'a', platform: 't' }
    const created = await createAccount(parts(server, store), { ...account, signal: undefined })
    expect(created.sheet.phrase.split(' ')).toHaveLength(12)
    expect(devicesOf(server.state!).map(({ record }) => record.role)).toEqual(['manager', 'recovery'])
    expect(server.state!.userId).toEqual(created.identity.userId)
  })

  test('P4: receipts leave the outbox, in device_seq order, and the events are in the log', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    const receipts: PublishReceipt[] = []
    client.onReceipt((receipt) => receipts.push(receipt))
    client.start()
    await publishAll(client, ['a', 'b', 'c'])
    await client.flush()
    expect(receipts.map(({ deviceSeq, streamSeq, userSeq }) => [deviceSeq, streamSeq, userSeq])).toEqual([
      [1, 1, 1],
      [2, 2, 2],
      [3, 3, 3],
    ])
    expect(client.device.outbox.count).toBe(0)
    await until(() => client.cursor() === 3, 'the cursor to pass the own events')
  })

  test('ORD-4: events published without waiting for one another keep the order of the calls', async () => {
    const { first, second } = await createPair()
    for (const { client } of [first, second]) client.start()
    const names = Array.from({ length: 40 }, (_, i) => `event ${i}`)
    await Promise.all(names.map((name) => first.client.publish('a new stream', text(name))))
    expect(await take(second.client, 'a new stream', 40)).toEqual(names)
  })

  test('ORD-6: what no device could read is refused before it is queued', async () => {
    const { client } = await createFirstDevice(createTestServer())
    const body: unknown = 'a string'
    await expect(client.publish('notes', { type: 'text', body: body as Uint8Array })).rejects.toMatchObject({
      code: 'bad_content',
    })
  })

  test('ORD-5: another device receives every event once, in order, also what came before it', async () => {
    const { first, second } = await createPair()
    first.client.start()
    await publishAll(first.client, ['a', 'b'])
    await first.client.flush()
    second.client.start()
    expect(await take(second.client, 'notes', 2)).toEqual(['a', 'b'])
    await publishAll(first.client, ['c'])
    expect(await take(second.client, 'notes', 1, 2)).toEqual(['c'])
    await publishAll(second.client, ['d'])
    expect(await take(first.client, 'notes', 1)).toEqual(['d'])
  })

  test('ORD-4: a reader that includes its own events sees the order of the log', async () => {
    const { first, second } = await createPair()
    for (const { client } of [first, second]) client.start()
    await Promise.all([
      publishAll(
        first.client,
        Array.from({ length: 20 }, (_, i) => `1-${i}`),
      ),
      publishAll(
        second.client,
        Array.from({ length: 20 }, (_, i) => `2-${i}`),
      ),
    ])
    const read = async (client: Client): Promise<string[]> => {
      const bodies: string[] = []
      for await (const { content } of client.events('notes', { includeOwn: true })) {
        bodies.push(toText(content.body))
        if (bodies.length === 40) break
      }
      return bodies
    }
    const [a, b] = await Promise.all([read(first.client), read(second.client)])
    expect(a).toEqual(b)
  })

  test('P4: the cursor is acknowledged after it is stored, and a restart goes on from it', async () => {
    const { server, first, second } = await createPair()
    second.client.start()
    first.client.start()
    await publishAll(first.client, ['a', 'b'])
    await take(second.client, 'notes', 2)
    await until(() => server.acknowledged.includes(2), 'the acknowledgement')
    await second.restart()
    expect(second.client.cursor()).toBe(2)
    second.client.start()
    await publishAll(first.client, ['c'])
    expect(await take(second.client, 'notes', 3)).toEqual(['a', 'b', 'c'])
  })

  test('ORD-1: what was sent without an answer goes out again in identical bytes, also after a restart', async () => {
    const server = createTestServer()
    const device = await createFirstDevice(server)
    server.distort = (message) => (message.type === 'receipts' ? [] : [message])
    device.client.start()
    await publishAll(device.client, ['a', 'b'])
    await until(() => server.received.length === 2, 'two events')
    server.cut()
    await device.restart()
    server.distort = (message) => [message]
    const receipts: PublishReceipt[] = []
    device.client.onReceipt((receipt) => receipts.push(receipt))
    device.client.start()
    await publishAll(device.client, ['c'])
    await device.client.flush()
    expect(server.received.slice(2, 4)).toEqual(server.received.slice(0, 2))
    expect(server.events).toHaveLength(3)
    expect(receipts.map(({ isDuplicate }) => isDuplicate)).toEqual([true, true, false])
  })

  test('ORD-1: a gap is answered by sending from where the server stands', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    let isFirst = true
    server.intercept = (message, peer) => {
      if (message.type !== 'publish' || !isFirst) return false
      isFirst = false
      for (const wire of message.events) {
        peer.send({ type: 'refused', device_seq: parseEvent(wire)!.deviceSeq, code: 'device_seq_gap', expected: 1 })
      }
      return true
    }
    client.start()
    await publishAll(client, ['a', 'b'])
    await client.flush()
    expect(server.events).toHaveLength(2)
  })

  test('ORD-6: a refused event is replaced by a tombstone, is told, and the later ones go through', async () => {
    const { server, first, second } = await createPair()
    const { client } = first
    const refusals: PublishRefusal[] = []
    client.onRefused((refusal) => refusals.push(refusal))
    let isFirst = true
    server.intercept = (message, peer) => {
      if (message.type !== 'publish' || !isFirst) return false
      isFirst = false
      for (const [index, wire] of message.events.entries()) {
        const device_seq = parseEvent(wire)!.deviceSeq
        if (index === 0) peer.send({ type: 'refused', device_seq, code: 'event_refused' })
        else peer.send({ type: 'refused', device_seq, code: 'device_seq_gap', expected: 1 })
      }
      return true
    }
    await publishAll(client, ['poison', 'a', 'b'])
    client.start()
    await client.flush()
    expect(refusals.map(({ code, streamName }) => [code, streamName])).toEqual([['event_refused', 'notes']])
    expect(server.events.map(({ item }) => parseEvent(item[3])!.isTombstone)).toEqual([true, false, false])
    second.client.start()
    expect(await take(second.client, 'notes', 2)).toEqual(['a', 'b'])
  })

  test('DEV-2: a stale epoch is answered by reading the log and sealing anew', async () => {
    const { server, first, second } = await createPair()
    await publishAll(first.client, ['a'])
    first.client.start()
    await first.client.flush()
    server.distort = (message) => (message.type === 'device_log' && message.request_id === null ? [] : [message])
    await rotateEpoch(server, first)
    await publishAll(first.client, ['b', 'c'])
    await first.client.flush()
    expect(server.events.map(({ item }) => parseEvent(item[3])!.epoch)).toEqual([1, 2, 2])
    second.client.start()
    expect(await take(second.client, 'notes', 3)).toEqual(['a', 'b', 'c'])
  })

  test('SES-2: new session keys are made when the server asks, and nothing is lost over it', async () => {
    const { server, first, second } = await createPair()
    for (const { client } of [first, second]) client.start()
    await publishAll(first.client, ['a'])
    await first.client.flush()
    for (const peer of server.peers) peer.hint()
    await publishAll(first.client, ['b', 'c'])
    expect(await take(second.client, 'notes', 3)).toEqual(['a', 'b', 'c'])
    expect(server.connections).toBe(3)
  })

  test('SES-2: a close for rotation is followed by a new session at once', async () => {
    const server = createTestServer()
    const { client, clock } = await createFirstDevice(server)
    client.start()
    await client.whenLive()
    server.cut(1001, 'Session key rotation required')
    await until(() => client.state().type === 'offline', 'the end of the session')
    clock.advance(0)
    await client.whenLive()
    expect(server.connections).toBe(3)
  })

  test('P3: an unavailable server is asked again after the time it names', async () => {
    const server = createTestServer()
    const { client, clock } = await createFirstDevice(server)
    let isDown = true
    server.intercept = (message, peer) => {
      if (message.type !== 'publish' || !isDown) return false
      isDown = false
      peer.send({ type: 'unavailable', retry_after_ms: 5000 })
      return true
    }
    client.start()
    await client.whenLive()
    await publishAll(client, ['a'])
    await until(() => !isDown, 'the refusal')
    await client.device.publisher.pump()
    clock.advance(4999)
    expect(server.events).toHaveLength(0)
    clock.advance(1)
    await client.flush()
    expect(server.events).toHaveLength(1)
  })

  test('P5: a full outbox makes publishers wait, in order, and lets them give up', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server, { outboxLimits: { maxEvents: 2, maxBytes: 1_000_000 } })
    await publishAll(client, ['a', 'b'])
    const waiting = client.publish('notes', text('c'))
    await expect(client.publish('notes', text('d'), { signal: AbortSignal.abort() })).rejects.toBeDefined()
    client.start()
    await waiting
    await client.flush()
    expect(server.events).toHaveLength(3)
  })

  test('DEV-1: another device is signed in, also when the log moved meanwhile', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server)
    first.client.start()
    await first.client.whenLive()
    await rotateEpoch(server, first)
    const keys = await createDeviceKeys(crypto, 'member')
    const proof = await signDevicePop(keys.signer, first.identity.userId, keys.record)
    expect(await first.client.addDevice({ record: keys.record, proof })).toBe(2)
    expect(await first.client.addDevice({ record: keys.record, proof })).toBe(2)
    expect(server.state!.devices.size).toBe(3)
  })

  test('a whole store verifies, own and received events alike', async () => {
    const { first, second } = await createPair()
    for (const { client } of [first, second]) client.start()
    await publishAll(first.client, ['a', 'b'])
    await publishAll(second.client, ['c'])
    await Promise.all([take(second.client, 'notes', 2), take(first.client, 'notes', 1)])
    await Promise.all([first.client.flush(), second.client.flush()])
    const report = await verifyDevice(crypto, first.client.device)
    expect(report).toMatchObject({ isSound: true, events: 1, ownEvents: 2, signatures: 3, epochs: 1, problems: [] })
  })

  test('what may not be published is refused at once', async () => {
    const { client } = await createFirstDevice(createTestServer())
    const big = { type: 'text', body: new Uint8Array(300_000) }
    await expect(client.publish('notes', big)).rejects.toMatchObject({ code: 'payload_too_large' })
    await expect(client.publish('valise/mine', text('a'))).rejects.toMatchObject({ code: 'bad_stream_name' })
    await expect(client.publish('', text('a'))).rejects.toMatchObject({ code: 'bad_stream_name' })
    await expect(client.publish('notes', text('a'), { ttlS: -1 })).rejects.toMatchObject({ code: 'bad_ttl' })
  })
})
