// What has its receipt, or was refused for good, leaves the store with that very word: no restart publishes it again.

import { type ErrorCode, parseEvent } from '@valise/protocol'
import { describe, expect, test } from 'vitest'
import { publishAll } from './support/device-pair.ts'
import { createFirstDevice, rotateEpoch, type TestDevice, text } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const waiting = async ({ store }: TestDevice): Promise<string[]> => {
  const keys: string[] = []
  for await (const [key] of store.range({})) if (/^(outbox|sealed)\//.test(key)) keys.push(key)
  return keys
}

test('ORD-1: an event that has its receipt is not sent again after a restart', async () => {
  const server = createTestServer()
  const device = await createFirstDevice(server)
  device.client.start()
  await publishAll(device.client, ['a', 'b'])
  await device.client.flush()
  expect(await waiting(device)).toEqual([])
  await device.restart()
  device.client.start()
  await publishAll(device.client, ['c'])
  await device.client.flush()
  expect(server.received).toHaveLength(3)
  expect(await waiting(device)).toEqual([])
})

test('ORD-1: a receipt that comes twice, in one message or in two, is told and counted once', async () => {
  const server = createTestServer()
  const device = await createFirstDevice(server, { checkpointEvery: 3 })
  const { client } = device
  server.distort = (message) => {
    if (message.type !== 'receipts') return [message]
    return [{ ...message, receipts: [...message.receipts, ...message.receipts] }, message]
  }
  const receipts: number[] = []
  client.onReceipt(({ deviceSeq }) => receipts.push(deviceSeq))
  client.start()
  await publishAll(client, ['a', 'b'])
  await client.flush()
  expect(receipts).toEqual([1, 2])
  expect([client.device.outbox.count, client.device.outbox.bytes]).toEqual([0, 0])
  // Of two events no checkpoint is due.
  expect(client.device.checkpoints.isDue(false)).toBe(false)
  expect(server.events).toHaveLength(2)
})

test('ORD-6: an event that was refused for good is gone with its tombstone, which gets no receipt of its own', async () => {
  const server = createTestServer()
  const device = await createFirstDevice(server)
  const receipts: number[] = []
  device.client.onReceipt(({ deviceSeq }) => receipts.push(deviceSeq))
  let isRefused = false
  server.intercept = (message, peer) => {
    if (message.type !== 'publish') return false
    if (isRefused) return parseEvent(message.events[0]!)!.isTombstone
    isRefused = true
    peer.send({ type: 'refused', device_seq: 1, code: 'event_refused' })
    return true
  }
  device.client.start()
  await publishAll(device.client, ['refused'])
  await until(() => device.client.device.chain.unreceipted[0]?.event.isTombstone === true, 'the tombstone')
  // Stored, and without an answer: the content is not to be had any more.
  expect((await waiting(device)).filter((key) => key.startsWith('outbox/'))).toEqual([])
  server.intercept = () => false
  await device.restart()
  device.client.onReceipt(({ deviceSeq }) => receipts.push(deviceSeq))
  device.client.start()
  await publishAll(device.client, ['next'])
  await device.client.flush()
  expect(server.events.map(({ item }) => parseEvent(item[3])!.isTombstone)).toEqual([true, false])
  expect(receipts).toEqual([2])
  expect(await waiting(device)).toEqual([])
})

const tombstones = (server: TestServer): boolean[] => server.events.map(({ item }) => parseEvent(item[3])!.isTombstone)

/** A live device whose events of the given lifetimes, in seconds, were sent and have no answer. */
async function sendUnanswered(server: TestServer, lifetimes: readonly number[]): Promise<TestDevice> {
  const device = await createFirstDevice(server)
  let sent = 0
  server.intercept = (message) => {
    if (message.type === 'publish') sent += message.events.length
    return message.type === 'publish'
  }
  device.client.start()
  await device.client.whenLive()
  for (const ttlS of lifetimes) await device.client.publish('notes', text('x'), { ttlS })
  await until(() => sent === lifetimes.length, 'the events')
  server.intercept = () => false
  return device
}

/** The first of so many is refused, and the others for the gap that it left. */
function refuseFirst(server: TestServer, code: ErrorCode, count: number): void {
  server.push({ type: 'refused', device_seq: 1, code })
  for (let device_seq = 2; device_seq <= count; device_seq++) {
    server.push({ type: 'refused', device_seq, code: 'device_seq_gap', expected: 1 })
  }
}

describe('what was refused since it had expired', () => {
  test.each([
    ['event_expired', 6999, [true, false, false, false]],
    ['event_expired', 7000, [true, true, false, false]],
    ['event_expired', 8000, [true, true, true, false]],
    ['event_refused', 8000, [true, false, false, false]],
  ] as const)('ORD-6: is buried with all others whose time is over: %s after %i ms', async (code, ms, buried) => {
    const server = createTestServer()
    const { client, clock } = await sendUnanswered(server, [1, 7, 8, 0])
    const refusals: string[] = []
    client.onRefused((refusal) => refusals.push(refusal.code))
    clock.advance(ms)
    refuseFirst(server, code, 4)
    await client.flush()
    expect(tombstones(server)).toEqual(buried)
    expect(refusals).toEqual(buried.filter(Boolean).map(() => code))
  })

  test('DEV-2: is still a tombstone when it is sealed again under another epoch', async () => {
    const server = createTestServer()
    const device = await sendUnanswered(server, [1, 1, 0])
    await rotateEpoch(server, device)
    device.clock.advance(1000)
    refuseFirst(server, 'event_expired', 3)
    await until(() => server.events.length === 3 || device.client.state().type !== 'live', 'the events')
    expect(server.events.map(({ item }) => parseEvent(item[3])!.epoch)).toEqual([2, 2, 2])
    expect(tombstones(server)).toEqual([true, true, false])
  })
})

describe('a tombstone', () => {
  test.each([
    ['stream_limit_reached', ['a'], 'another stream, since this one may not begin'],
    ['stream_limit_reached', [], 'its own stream, when no other is known'],
    ['event_refused', ['a'], 'its own stream'],
  ] as const)('ORD-6: for %s after %j stands in %s', async (code, before, where) => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    const refusals: string[] = []
    client.onRefused(({ streamName }) => refusals.push(streamName))
    client.start()
    await publishAll(client, before)
    await client.flush()
    await until(() => client.cursor() === before.length, 'the cursor to pass the own event')
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      server.intercept = () => false
      peer.send({ type: 'refused', device_seq: before.length + 1, code })
      return true
    }
    await publishAll(client, ['b'], 'one too many')
    await client.flush()
    expect(tombstones(server)).toEqual([...before.map(() => false), true])
    const { streamId } = parseEvent(server.events.at(-1)!.item[3])!
    const stream = where.startsWith('another') ? 'notes' : 'one too many'
    expect(streamId).toEqual(client.device.epochKeys.streamId(stream))
    expect(refusals).toEqual(['one too many'])
  })
})
