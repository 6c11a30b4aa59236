// Checkpoints: what a device tells the others of its view, and every way in which two views contradict each other.

import {
  type ChainPosition,
  createEventId,
  type DeviceId,
  equalBytes,
  formatUuid,
  parseEvent,
  toHex,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { CHECKPOINT_STREAM, CHECKPOINT_TYPE } from '../src/checkpoint.ts'
import type { Client } from '../src/client.ts'
import { sealRun } from '../src/publish/sealing-run.ts'
import { encodeContent } from '../src/sealing/content.ts'
import { stopCode, waitForStop } from './support/device-pair.ts'
import { createFirstDevice, createNextDevice, rotateEpoch, type TestDevice, take, text } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const NOW_MS = 1_700_000_000_000

const publishAll = async (client: Client, values: readonly string[]): Promise<void> => {
  for (const value of values) await client.publish('notes', text(value))
}

/** The server stores a checkpoint of the test's making, signed by a device whose client has stopped, and tells it. */
async function storeCheckpoint(
  server: TestServer,
  { client, identity }: TestDevice,
  list: readonly ChainPosition[],
  writtenAtMs = NOW_MS,
): Promise<void> {
  const { book, epochKeys, chain } = client.device
  const draft = {
    position: undefined,
    streamName: CHECKPOINT_STREAM,
    streamId: epochKeys.streamId(CHECKPOINT_STREAM)!,
    eventId: createEventId(writtenAtMs, crypto.randomBytes(10)),
    ttlS: 0,
    content: encodeContent({ type: CHECKPOINT_TYPE, atMs: 1, body: new Uint8Array(0) }),
    isKept: true,
    checkpoint: [...list].sort((a, b) => (toHex(a.deviceId) < toHex(b.deviceId) ? -1 : 1)),
  }
  const [sealed] = await sealRun({ crypto, identity, epochKeys }, book.require(), chain.end, [draft])
  const item: TestServer['events'][number]['item'] = [server.events.length + 1, 1, NOW_MS, sealed!.wire]
  server.events.push({ item, deviceId: identity.deviceId })
  server.push({ type: 'events', events: [item], through: item[0] })
}

interface Scene {
  readonly server: TestServer
  readonly first: TestDevice
  /** Its client has stopped. */
  readonly second: TestDevice
  /** What the second device has truly seen: of the first, then of itself. */
  readonly truth: readonly ChainPosition[]
}

/** Both devices have published and seen two events each; the first is live. */
async function createScene(logEpochAtMs?: number): Promise<Scene> {
  const server = createTestServer()
  server.logEpochAtMs = logEpochAtMs ?? server.logEpochAtMs
  const first = await createFirstDevice(server)
  const second = await createNextDevice(server, first)
  for (const { client } of [first, second]) client.start()
  await publishAll(first.client, ['a', 'b'])
  await publishAll(second.client, ['c', 'd'])
  await Promise.all([take(second.client, 'notes', 2), take(first.client, 'notes', 2)])
  await Promise.all([first.client.flush(), second.client.flush()])
  await until(() => first.client.cursor() === 4, 'everything')
  const truth = [first, second].map(({ identity: { deviceId } }): ChainPosition => {
    const { deviceSeq, chain } = second.client.device.localLog.deviceHead(deviceId)!
    return { deviceId, deviceSeq, chain }
  })
  await second.client.close()
  return { server, first, second, truth }
}

const changed = (truth: readonly ChainPosition[], index: number, change: Partial<ChainPosition>): ChainPosition[] =>
  truth.map((position, i) => (i === index ? { ...position, ...change } : position))
const OTHER_CHAIN = new Uint8Array(32).fill(9)

describe('a received checkpoint', () => {
  test('CHK-1: that tells the truth, of now or of before, changes nothing', async () => {
    for (const deviceSeq of [1, 2]) {
      const { server, first, second, truth } = await createScene()
      const chain = (await first.client.device.localLog.chainAt(first.identity.deviceId, deviceSeq))!
      await storeCheckpoint(server, second, changed(truth, 0, { deviceSeq, chain }))
      await until(() => first.client.cursor() === 5 || stopCode(first.client) !== undefined, 'the checkpoint')
      expect(stopCode(first.client)).toBeUndefined()
    }
  })

  const contradictions: readonly (readonly [
    string,
    string,
    (truth: readonly ChainPosition[]) => readonly ChainPosition[],
  ])[] = [
    ['another chain of the receiver', 'checkpoint_contradiction', (truth) => changed(truth, 0, { chain: OTHER_CHAIN })],
    ['another chain of the sender', 'checkpoint_contradiction', (truth) => changed(truth, 1, { deviceSeq: 1 })],
    ['events of the receiver that it never made', 'device_cloned', (truth) => changed(truth, 0, { deviceSeq: 9 })],
    ['events that the server withholds', 'events_withheld', (truth) => changed(truth, 1, { deviceSeq: 9 })],
    [
      'a device that the log does not know',
      'checkpoint_contradiction',
      () => [{ deviceId: new Uint8Array(16) as DeviceId, deviceSeq: 1, chain: OTHER_CHAIN }],
    ],
  ]
  test.each(contradictions)('CHK-2: with %s stops the receiver: %s', async (_what, code, change) => {
    const { server, first, second, truth } = await createScene()
    const cursor = first.client.cursor()
    await storeCheckpoint(server, second, change(truth))
    expect(await waitForStop(first.client)).toBe(code)
    expect(first.client.cursor()).toBe(cursor)
  })

  test('CHK-2: the alarm about a contradiction blames the server, and names no sender', async () => {
    const { server, first, second, truth } = await createScene()
    await storeCheckpoint(server, second, changed(truth, 0, { chain: OTHER_CHAIN }))
    await waitForStop(first.client)
    const state = first.client.state()
    const alarm = state.type === 'stopped' && state.cause.type === 'alarm' ? state.cause.alarm : undefined
    expect(alarm?.text).toMatch(/^The server /)
    expect(JSON.stringify(alarm)).not.toContain(formatUuid(second.identity.deviceId))
  })

  test('CHK-2: that names the first event of a device, which the server withholds, stops the receiver', async () => {
    const { server, first, second, truth } = await createScene()
    const { deviceId } = (await createNextDevice(server, first)).identity
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    await until(() => first.client.device.book.require().seq === server.state!.seq, 'the new device')
    await storeCheckpoint(server, second, [...truth, { deviceId, deviceSeq: 1, chain: OTHER_CHAIN }])
    expect(await waitForStop(first.client)).toBe('events_withheld')
  })

  test.each([
    ['older than the log, is ignored where it is ahead', NOW_MS - 1, undefined],
    ['of the same moment, is compared', NOW_MS, 'events_withheld'],
  ] as const)('CHK-3: of a restored log, %s', async (_, writtenAtMs, code) => {
    const { server, first, second, truth } = await createScene(NOW_MS)
    await storeCheckpoint(server, second, changed(truth, 1, { deviceSeq: 9 }), writtenAtMs)
    await until(() => first.client.cursor() === 5 || stopCode(first.client) !== undefined, 'the checkpoint')
    expect(stopCode(first.client)).toBe(code)
  })

  test('CHK-3: older than the log, it is still compared with what stands before it', async () => {
    const { server, first, second, truth } = await createScene(NOW_MS)
    await storeCheckpoint(server, second, changed(truth, 1, { chain: OTHER_CHAIN }), NOW_MS - 1)
    expect(await waitForStop(first.client)).toBe('checkpoint_contradiction')
  })

  test('CHK-3: a server that moves the beginning of the same log is not believed', async () => {
    const { server, first, second, truth } = await createScene()
    server.logEpochAtMs = NOW_MS + 86_400_000
    await first.restart()
    first.client.start()
    await first.client.whenLive()
    await storeCheckpoint(server, second, changed(truth, 1, { deviceSeq: 9 }))
    expect(await waitForStop(first.client)).toBe('events_withheld')
  })

  test.each([
    ['beyond its cut says nothing', 2, undefined],
    ['up to its cut is compared', 1, 'checkpoint_contradiction'],
  ] as const)('DEV-6: that names another chain of a revoked device %s', async (_, deviceSeq, code) => {
    const { server, first, second, truth } = await createScene()
    const third = await createNextDevice(server, first)
    third.client.start()
    await third.client.publish('notes', text('counts'))
    await third.client.flush()
    await take(first.client, 'notes', 3)
    const { deviceId } = third.identity
    await first.client.revokeDevices({ deviceIds: [deviceId], reason: 'stolen' })
    await second.restart()
    second.client.start()
    await second.client.whenLive()
    await second.client.close()
    await storeCheckpoint(server, second, [...truth, { deviceId, deviceSeq, chain: OTHER_CHAIN }])
    await until(() => stopCode(first.client) !== undefined || first.client.cursor() === server.events.length, 'it')
    expect(stopCode(first.client)).toBe(code)
  })
})

describe('an own checkpoint that the server refuses', () => {
  const refuseCheckpoints = (server: TestServer): void => {
    server.intercept = (message, peer) => {
      const wire = message.type === 'publish' ? message.events[0] : undefined
      const event = wire && parseEvent(wire)
      if (event?.checkpoint === undefined) return false
      peer.send({ type: 'refused', device_seq: event.deviceSeq, code: 'checkpoint_false' })
      return true
    }
  }

  test('CHK-4: although it names what the server delivered, is an alarm', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server, { checkpointEvery: 1 })
    refuseCheckpoints(server)
    client.start()
    await publishAll(client, ['a'])
    expect(await waitForStop(client)).toBe('truth_refused')
  })

  test.each([
    ['the log', NOW_MS + 1, 0],
    ['the day its user accepted that the log lost events', 0, NOW_MS + 1],
  ])('CHK-4: and that is older than %s, gives way to an empty event', async (_, logEpochAtMs, acceptedAtMs) => {
    const server = createTestServer()
    server.logEpochAtMs = logEpochAtMs
    const { client } = await createFirstDevice(server, { checkpointEvery: 1 })
    const { localLog } = client.device
    const progress = { ...localLog.progress, acceptedAtMs }
    await localLog.commit({ events: [], progress, deviceHeads: [], streamHeads: [], also: [] })
    refuseCheckpoints(server)
    client.start()
    await publishAll(client, ['a'])
    await until(() => server.events.length === 2, 'the empty event')
    await client.flush()
    expect(parseEvent(server.events[1]!.item[3])).toMatchObject({
      isTombstone: true,
      isKept: true,
      checkpoint: undefined,
    })
    expect(stopCode(client)).toBeUndefined()
  })

  test.each(['log_head_false', 'log_seq_falls', 'epoch_invalid'] as const)(
    'CHK-4: %s of an event that names what the server showed is an alarm',
    async (code) => {
      const server = createTestServer()
      const { client } = await createFirstDevice(server)
      server.intercept = (message, peer) => {
        if (message.type === 'publish') peer.send({ type: 'refused', device_seq: 1, code })
        return message.type === 'publish'
      }
      client.start()
      await publishAll(client, ['a'])
      expect(await waitForStop(client)).toBe('truth_refused')
    },
  )
})

describe('a published checkpoint', () => {
  const checkpointsOf = (server: TestServer, device: TestDevice): number =>
    server.events.filter(({ item }) => {
      const streamId = device.client.device.epochKeys.streamId(CHECKPOINT_STREAM)!
      const event = parseEvent(item[3])!
      return event.checkpoint !== undefined && event.isKept && equalBytes(event.streamId, streamId)
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
    expect(first.client.device.checkpoints.isDue(false)).toBe(false)
    expect(second.client.device.checkpoints.isDue(false)).toBe(false)
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
    expect([server.events.length, client.device.checkpoints.isDue(false)]).toEqual([1, false])
    await publishAll(client, ['a'])
    await until(() => checkpointsOf(server, first) === 1, 'the checkpoint')
    await until(() => client.cursor() === 3, 'the own checkpoint')
    await client.flush()
    expect([server.events.length, client.device.checkpoints.isDue(false)]).toEqual([3, false])
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
    expect(off.client.device.checkpoints.isDue(true)).toBe(false)
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
    expect(first.client.device.checkpoints.isDue(true)).toBe(false)
  })

  test('CHK-1: names the chain of every device, sorted by id, and seals an empty body', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server, { checkpointEvery: 2 })
    const second = await createNextDevice(server, first, { checkpointEvery: 0 })
    for (const { client } of [first, second]) client.start()
    await publishAll(second.client, ['a'])
    await take(first.client, 'notes', 1)
    await publishAll(first.client, ['b'])
    await until(() => checkpointsOf(server, first) === 1, 'the checkpoint')
    const event = parseEvent(server.events[2]!.item[3])!
    expect(event).toMatchObject({ ttlS: 0, isKept: true, logSeq: 1, logHead: server.state!.head })
    const heads = [first, second].map(({ identity: { deviceId } }) => {
      const { deviceSeq, chain } = first.client.device.localLog.deviceHead(deviceId)!
      return { deviceId: toHex(deviceId), deviceSeq: toHex(deviceId) === toHex(event.deviceId) ? 1 : deviceSeq, chain }
    })
    const named = event.checkpoint!.map(({ deviceId, deviceSeq }) => [toHex(deviceId), deviceSeq])
    expect(named).toEqual(heads.map(({ deviceId, deviceSeq }) => [deviceId, deviceSeq]).sort())
    await until(() => first.client.cursor() === 3, 'the own checkpoint')
    const read: unknown[] = []
    for await (const { content } of first.client.device.reader.stored(CHECKPOINT_STREAM)) read.push(content)
    expect(read).toEqual([{ type: CHECKPOINT_TYPE, atMs: expect.any(Number), body: new Uint8Array(0) }])
  })

  test('CHK-1: that is sealed again names what its device has seen by then', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server, { checkpointEvery: 1 })
    const { client } = first
    let isSwallowed = false
    server.intercept = (message) => {
      const isCheckpoint =
        message.type === 'publish' && message.events.some((wire) => parseEvent(wire)?.checkpoint !== undefined)
      isSwallowed ||= isCheckpoint
      return isCheckpoint
    }
    client.start()
    await publishAll(client, ['a'])
    await until(() => isSwallowed, 'the checkpoint under the first epoch')
    await rotateEpoch(server, first)
    server.intercept = () => false
    server.cut()
    await until(() => client.state().type === 'offline', 'the session to end')
    first.clock.advance(1000)
    await until(() => checkpointsOf(server, first) === 1, 'the checkpoint under the second epoch')
    const event = parseEvent(server.events[1]!.item[3])!
    expect(event).toMatchObject({ epoch: 2, deviceSeq: 2, isKept: true })
    expect(event.checkpoint).toEqual([{ deviceId: first.identity.deviceId, deviceSeq: 1, chain: event.chainPrev }])
  })

  test('CHK-1: of which nothing was seen is none', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server, { checkpointEvery: 1 })
    first.clock.advance(3_600_000)
    first.client.start()
    await first.client.whenLive()
    expect(first.client.device.checkpoints.isDue(true)).toBe(false)
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
  const told = (max: number) => first.client.device.checkpoints.view(max).chains.map(({ deviceId }) => toHex(deviceId))
  const ids = [first, third, second].map(({ identity }) => toHex(identity.deviceId))
  expect(told(512)).toEqual(ids)
  expect(told(2)).toEqual(ids.slice(0, 2))
  expect(told(1)).toEqual(ids.slice(0, 1))
})
