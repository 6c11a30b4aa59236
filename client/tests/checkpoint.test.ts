// Checkpoints: what a device tells the others of its view, and every way in which two views contradict each other.

import { createEventId, type DeviceId, equalBytes, toHex } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import {
  CHECKPOINT_STREAM,
  CHECKPOINT_TYPE,
  type CheckpointBody,
  encodeCheckpoint,
  parseCheckpoint,
} from '../src/checkpoint.ts'
import type { Client } from '../src/client.ts'
import { encodeContent } from '../src/sealing/content.ts'
import { createFirstDevice, createNextDevice, rotateEpoch, type TestDevice, take, text } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const publishAll = async (client: Client, values: readonly string[]): Promise<void> => {
  for (const value of values) await client.publish('notes', text(value))
}

/** Puts a checkpoint of the test's making into a device's outbox. */
async function publishCheckpoint({ client }: TestDevice, body: CheckpointBody | Uint8Array): Promise<void> {
  const bytes = body instanceof Uint8Array ? body : encodeCheckpoint(body)
  await client.device.outbox.addAtOnce({
    eventId: createEventId(1_700_000_000_000, crypto.randomBytes(10)),
    streamName: CHECKPOINT_STREAM,
    ttlS: 0,
    content: encodeContent({ type: CHECKPOINT_TYPE, atMs: 1, body: bytes }),
  })
  await client.publish('notes', text('after'))
  await client.flush()
}

interface Scene {
  readonly server: TestServer
  readonly first: TestDevice
  readonly second: TestDevice
  /** What the second device has truly seen of the first. */
  readonly truth: CheckpointBody
}

/** Both devices have published and seen two events each; both are live. */
async function createScene(): Promise<Scene> {
  const server = createTestServer()
  const first = await createFirstDevice(server)
  const second = await createNextDevice(server, first)
  for (const { client } of [first, second]) client.start()
  await publishAll(first.client, ['a', 'b'])
  await publishAll(second.client, ['c', 'd'])
  await Promise.all([take(second.client, 'notes', 2), take(first.client, 'notes', 2)])
  await Promise.all([first.client.flush(), second.client.flush()])
  const { book, localLog } = second.client.device
  const { seq, head } = book.require()
  const devices = [first, second].map(({ identity }): [DeviceId, number, Uint8Array] => {
    const known = localLog.deviceHead(identity.deviceId)!
    return [identity.deviceId, known.deviceSeq, known.chain]
  })
  return { server, first, second, truth: { device_log_seq: seq, device_log_head: head, devices } }
}

const withDevice = (body: CheckpointBody, index: number, seq: number, chain?: Uint8Array): CheckpointBody => ({
  ...body,
  devices: body.devices.map(([id, deviceSeq, known], i) =>
    i === index ? [id, seq, chain ?? known] : [id, deviceSeq, known],
  ),
})

describe('a received checkpoint', () => {
  test('that tells the truth, of now or of before, changes nothing', async () => {
    const { first, second, truth } = await createScene()
    await publishCheckpoint(second, truth)
    const earlier = await first.client.device.localLog.chainAt(first.identity.deviceId, 1)
    await publishCheckpoint(second, withDevice(truth, 0, 1, earlier))
    expect(await take(first.client, 'notes', 4)).toEqual(['c', 'd', 'after', 'after'])
    expect(first.client.state().type).toBe('live')
  })

  const contradictions: readonly (readonly [string, string, (truth: CheckpointBody) => CheckpointBody | Uint8Array])[] =
    [
      [
        'another chain of the receiver',
        'checkpoint_contradiction',
        (truth) => withDevice(truth, 0, 2, new Uint8Array(32)),
      ],
      ['another chain of the sender', 'checkpoint_contradiction', (truth) => withDevice(truth, 1, 1)],
      ['events of the receiver that it never made', 'device_cloned', (truth) => withDevice(truth, 0, 9)],
      ['events that the server withholds', 'events_withheld', (truth) => withDevice(truth, 1, 9)],
      [
        'another device log',
        'checkpoint_contradiction',
        (truth) => ({ ...truth, device_log_head: new Uint8Array(32).fill(1) }),
      ],
      ['a device log that the server withholds', 'device_log_shorter', (truth) => ({ ...truth, device_log_seq: 7 })],
      [
        'a device that the log does not know',
        'checkpoint_contradiction',
        (truth) => ({ ...truth, devices: [[new Uint8Array(16) as DeviceId, 1, new Uint8Array(32)]] }),
      ],
      ['bytes that are no checkpoint', 'checkpoint_invalid', () => new Uint8Array([1, 2, 3])],
    ]
  test.each(contradictions)('with %s stops the receiver: %s', async (_what, code, change) => {
    const { first, second, truth } = await createScene()
    const cursor = first.client.cursor()
    await publishCheckpoint(second, change(truth))
    await until(() => first.client.state().type === 'stopped', 'the alarm')
    expect(first.client.state()).toMatchObject({ cause: { type: 'alarm', alarm: { code } } })
    expect(first.client.cursor()).toBe(cursor)
  })

  test('that names the first event of a device, which the server withholds, stops the receiver', async () => {
    const { server, first, second, truth } = await createScene()
    const { deviceId } = (await createNextDevice(server, first)).identity
    const { seq, head } = server.state!
    const devices = [...truth.devices, [deviceId, 1, new Uint8Array(32)] as CheckpointBody['devices'][number]]
    await publishCheckpoint(second, { device_log_seq: seq, device_log_head: head, devices })
    await until(() => first.client.state().type === 'stopped', 'the alarm')
    expect(first.client.state()).toMatchObject({ cause: { type: 'alarm', alarm: { code: 'events_withheld' } } })
  })

  test.each([
    ['beyond its cut says nothing', 2, 'live'],
    ['up to its cut is compared', 1, 'stopped'],
  ] as const)('DEV-6: that names another chain of a revoked device %s', async (_, deviceSeq, state) => {
    const { server, first, second, truth } = await createScene()
    const third = await createNextDevice(server, first)
    third.client.start()
    await third.client.publish('notes', text('counts'))
    await third.client.flush()
    await take(first.client, 'notes', 3)
    const { deviceId } = third.identity
    await first.client.revokeDevices({ deviceIds: [deviceId], reason: 'stolen' })
    const { seq, head } = server.state!
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: seq })
    await until(() => second.client.device.book.require().seq === seq, 'the revocation')
    const told: CheckpointBody['devices'][number] = [deviceId, deviceSeq, new Uint8Array(32).fill(9)]
    const body = { ...truth, device_log_seq: seq, device_log_head: head, devices: [...truth.devices, told] }
    await publishCheckpoint(second, body)
    await until(() => first.client.state().type === 'stopped' || first.client.cursor() === server.events.length, 'it')
    expect(first.client.state().type).toBe(state)
  })

  test('that names a newer device log makes the receiver read it', async () => {
    const { server, first, second, truth } = await createScene()
    server.distort = (message) => (message.type === 'device_log' && message.request_id === null ? [] : [message])
    await rotateEpoch(server, first)
    const { seq, head } = server.state!
    await publishCheckpoint(second, { ...truth, device_log_seq: seq, device_log_head: head })
    await until(() => first.client.device.book.require().seq === seq, 'the new entry')
    expect(first.client.state().type).toBe('live')
  })
})

describe('a published checkpoint', () => {
  const checkpointsOf = (server: TestServer, device: TestDevice): number =>
    server.events.filter(({ item }) => {
      const streamId = device.client.device.epochKeys.streamId(CHECKPOINT_STREAM)!
      return equalBytes(item[3].subarray(89, 105), streamId)
    }).length

  test('follows every so many events, and is no cause of further ones', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server, { checkpointEvery: 4 })
    const second = await createNextDevice(server, first, { checkpointEvery: 4 })
    for (const { client } of [first, second]) client.start()
    await publishAll(first.client, ['a', 'b', 'c'])
    await take(second.client, 'notes', 3)
    expect(checkpointsOf(server, first)).toBe(0)
    await publishAll(first.client, ['d'])
    await until(() => checkpointsOf(server, first) === 2, 'a checkpoint of each device')
    await Promise.all([first.client.flush(), second.client.flush()])
    expect(first.client.device.checkpoints.due(false)).toBeUndefined()
    expect(second.client.device.checkpoints.due(false)).toBeUndefined()
    expect(server.events).toHaveLength(6)
  })

  test('counts neither itself nor what was refused for good', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server, { checkpointEvery: 1 })
    const { client } = first
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      server.intercept = () => false
      peer.send({ type: 'refused', device_seq: 1, code: 'event_refused' })
      return true
    }
    client.start()
    await publishAll(client, ['refused'])
    await client.flush()
    expect([server.events.length, client.device.checkpoints.due(false)]).toEqual([1, undefined])
    await publishAll(client, ['a'])
    await until(() => checkpointsOf(server, first) === 1, 'the checkpoint')
    await until(() => client.cursor() === 3, 'the own checkpoint')
    await client.flush()
    expect([server.events.length, client.device.checkpoints.due(false)]).toEqual([3, undefined])
  })

  test('follows a new session after an hour, and none when switched off', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server, { checkpointEvery: 100 })
    first.client.start()
    await publishAll(first.client, ['a'])
    await first.client.flush()
    await until(() => first.client.cursor() === 1, 'the own event')
    await first.restart()
    first.clock.advance(3_600_000)
    first.client.start()
    await until(() => checkpointsOf(server, first) === 1, 'the checkpoint')
    const off = await createFirstDevice(createTestServer(), { checkpointEvery: 0 })
    expect(off.client.device.checkpoints.due(true)).toBeUndefined()
  })

  test('follows the next session when the clock was put back since the last one, and only that', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server, { checkpointEvery: 100 })
    first.client.start()
    await publishAll(first.client, ['a'])
    await first.client.flush()
    await until(() => first.client.cursor() === 1, 'the own event')
    await first.restart()
    first.clock.advance(-86_400_000)
    first.client.start()
    await until(() => checkpointsOf(server, first) === 1, 'the checkpoint')
    await until(() => first.client.cursor() === 2, 'the own checkpoint')
    await first.client.flush()
    expect(first.client.device.checkpoints.due(true)).toBeUndefined()
  })

  test('names the device log and every chain, and parses as strictly as it is written', async () => {
    const { second, truth } = await createScene()
    expect(parseCheckpoint(encodeCheckpoint(truth))).toEqual(truth)
    expect(second.client.device.checkpoints.due(true)).toBeUndefined()
    for (const broken of [
      { ...truth, extra: 1 },
      { ...truth, device_log_head: new Uint8Array(31) },
      { ...truth, devices: [[new Uint8Array(15), 1, new Uint8Array(32)]] },
      { ...truth, devices: [[new Uint8Array(16), 0, new Uint8Array(32)]] },
    ]) {
      expect(parseCheckpoint(encodeCheckpoint(broken as unknown as CheckpointBody))).toBeUndefined()
    }
  })
})

test('of more devices than there is room for, those that are active are told, then those that were revoked last', async () => {
  const { server, first, second } = await createScene()
  const third = await createNextDevice(server, first)
  third.client.start()
  await third.client.whenLive()
  await publishAll(third.client, ['e'])
  await third.client.flush()
  expect(await take(first.client, 'notes', 3)).toEqual(['c', 'd', 'e'])
  for (const { identity } of [second, third]) {
    await first.client.revokeDevices({ deviceIds: [identity.deviceId], reason: 'lost' })
  }
  await publishAll(first.client, ['f'])
  await first.client.flush()
  const told = (max?: number) => first.client.device.checkpoints.view(max).devices.map(([deviceId]) => toHex(deviceId))
  const ids = [first, third, second].map(({ identity }) => toHex(identity.deviceId))
  expect(told()).toEqual(ids)
  expect(told(2)).toEqual(ids.slice(0, 2))
  expect(told(1)).toEqual(ids.slice(0, 1))
})
