// What a server refuses for good: checked where it can be checked, and kept until its user discards it.

import {
  createEventId,
  DEFAULT_LIMITS,
  type ErrorCode,
  formatUuid,
  isSameId,
  parseEvent,
  type ServerMessage,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import type { PublishRefusal } from '../src/publish/repair.ts'
import type { Store } from '../src/store/store.ts'
import { createPair, publishAll, type stopCode, waitForStop } from './support/device-pair.ts'
import { createFirstDevice, take, text } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const HOUR_MS = 3_600_000

/** Answers the first event of each publish message with the code, until told otherwise. */
function refuseFirst(server: TestServer, code: ErrorCode, times = Number.POSITIVE_INFINITY): { count: number } {
  const told = { count: 0 }
  server.intercept = (message, peer) => {
    if (message.type !== 'publish' || told.count >= times) return false
    if (parseEvent(message.events[0]!)!.isTombstone) return false
    told.count += 1
    for (const [index, wire] of message.events.entries()) {
      const device_seq = parseEvent(wire)!.deviceSeq
      const expected = parseEvent(message.events[0]!)!.deviceSeq
      if (index === 0) peer.send({ type: 'refused', device_seq, code })
      else peer.send({ type: 'refused', device_seq, code: 'device_seq_gap', expected })
    }
    return true
  }
  return told
}

/** A server whose clock shows this. */
const atTime =
  (now: () => number) =>
  (message: ServerMessage): ServerMessage[] =>
    message.type === 'session_established' ? [{ ...message, server_time: now() }] : [message]

const alarmOf = (client: Parameters<typeof stopCode>[0]) => {
  const state = client.state()
  return state.type === 'stopped' && state.cause.type === 'alarm' ? state.cause.alarm : undefined
}

describe('what a refusal claims', () => {
  test.each([
    ['invalid_event', 'no honest server says it of what this client sealed'],
    ['event_expired', 'it has no lifetime'],
    ['payload_too_large', 'it is smaller than what was announced'],
    ['bad_message', 'it is no answer to an event'],
    ['log_head_moved', 'it is no answer to an event'],
  ] as const)('REF-1: %s stops the client, for %s; the outbox stays', async (code, _why) => {
    const server = createTestServer()
    const { client, store } = await createFirstDevice(server)
    refuseFirst(server, code)
    await publishAll(client, ['kept'])
    client.start()
    expect(await waitForStop(client)).toBe('refusal_false')
    expect(alarmOf(client)).toMatchObject({ detail: { device_seq: 1, claim: code } })
    expect(client.device.outbox.count).toBe(1)
    expect(await keysOf(store, 'refused/')).toEqual([])
  })

  test('CHK-4: checkpoint_false of an event that is no checkpoint drops nothing, however old the log says it is', async () => {
    const server = createTestServer()
    server.logEpochAtMs = Number.MAX_SAFE_INTEGER
    const { client } = await createFirstDevice(server)
    refuseFirst(server, 'checkpoint_false')
    await publishAll(client, ['kept'])
    client.start()
    expect(await waitForStop(client)).toBe('truth_refused')
    expect(alarmOf(client)).toMatchObject({ detail: { device_seq: 1, code: 'checkpoint_false' } })
    expect(client.device.outbox.count).toBe(1)
  })

  test('REF-1: a stream that stands in the log is not one too many', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    client.start()
    await publishAll(client, ['a'])
    await client.flush()
    refuseFirst(server, 'stream_limit_reached')
    await publishAll(client, ['kept'])
    expect(await waitForStop(client)).toBe('refusal_false')
    expect(client.device.outbox.count).toBe(1)
  })

  test('REF-1: a stream that this device has not seen may be one too many', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    client.start()
    await publishAll(client, ['a'])
    await client.flush()
    refuseFirst(server, 'stream_limit_reached', 1)
    await client.publish('another', text('kept'))
    await client.flush()
    expect((await client.refused.list()).map(({ streamName, code }) => [streamName, code])).toEqual([
      ['another', 'stream_limit_reached'],
    ])
  })

  test('REF-1: an event is too large only above what the session announced', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    server.distort = (message) =>
      message.type === 'session_established'
        ? [{ ...message, limits: { ...DEFAULT_LIMITS, max_payload: 100 } }]
        : [message]
    refuseFirst(server, 'payload_too_large', 1)
    await client.publish('notes', text('x'.repeat(1000)))
    client.start()
    await client.flush()
    expect((await client.refused.list()).map(({ code, size }) => [code, size])).toEqual([['payload_too_large', 1000]])
  })

  test('REF-1: a lifetime that has ended by the server’s time is over', async () => {
    const server = createTestServer()
    const { client, clock } = await createFirstDevice(server)
    await client.publish('notes', text('late'), { ttlS: 60 })
    clock.advance(HOUR_MS)
    server.distort = atTime(() => clock.now())
    refuseFirst(server, 'event_expired', 1)
    client.start()
    await client.flush()
    expect((await client.refused.list()).map(({ code }) => code)).toEqual(['event_expired'])
  })

  test('REF-1: of a lifetime that has not ended the server is asked for its time again, then it is an alarm', async () => {
    const server = createTestServer()
    const { client, clock } = await createFirstDevice(server)
    const told = refuseFirst(server, 'event_expired')
    await client.publish('notes', text('kept'), { ttlS: 60 })
    client.start()
    await until(() => told.count === 1 && client.state().type === 'offline', 'the first answer')
    clock.advance(1000)
    expect(await waitForStop(client)).toBe('refusal_false')
    expect(told.count).toBe(2)
    expect(client.device.outbox.count).toBe(1)
  })

  test('REF-1: a clock that was put back during the session blames no server', async () => {
    const server = createTestServer()
    const { client, clock } = await createFirstDevice(server)
    client.start()
    await client.whenLive()
    await client.publish('notes', text('late'), { ttlS: 60 })
    // The server's clock has gone on for an hour, of which this device's clock shows nothing.
    server.distort = atTime(() => clock.now() + HOUR_MS)
    const told = refuseFirst(server, 'event_expired', 2)
    await until(() => told.count === 1 && client.state().type === 'offline', 'the first answer')
    clock.advance(1000)
    await client.flush()
    expect((await client.refused.list()).map(({ code }) => code)).toEqual(['event_expired'])
  })

  test.each([
    ['beyond itself', 7],
    ['below what has its receipt', 1],
  ])('REF-1: a gap that is expected to be filled from %s stops the client', async (_name, expected) => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    client.start()
    await publishAll(client, ['a', 'b'])
    await client.flush()
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      peer.send({ type: 'refused', device_seq: 3, code: 'device_seq_gap', expected })
      return true
    }
    await publishAll(client, ['kept'])
    expect(await waitForStop(client)).toBe(expected === 1 ? 'receipts_withdrawn' : 'refusal_false')
    expect(client.device.outbox.count).toBe(1)
  })
})

describe('a suspended device', () => {
  test('DEV-13: publishes nothing more, keeps its outbox, raises no alarm and reads on', async () => {
    const { server, first, second } = await createPair()
    const refusals: PublishRefusal[] = []
    first.client.onRefused((refusal) => refusals.push(refusal))
    let attempts = 0
    server.intercept = (message, peer) => {
      if (message.type !== 'publish' || !isSameId(peer.deviceId, first.identity.deviceId)) return false
      attempts += 1
      for (const wire of message.events) {
        peer.send({ type: 'refused', device_seq: parseEvent(wire)!.deviceSeq, code: 'device_suspended' })
      }
      return true
    }
    await publishAll(first.client, ['a', 'b'])
    for (const { client } of [first, second]) client.start()
    await first.client.whenLive()
    await until(() => attempts === 1, 'the refusals')
    await publishAll(first.client, ['c'])
    first.clock.advance(2000)
    await publishAll(second.client, ['read on'])
    expect(await take(first.client, 'notes', 1)).toEqual(['read on'])
    expect(first.client.state().type).toBe('live')
    expect(first.client.device.outbox.count).toBe(3)
    expect(attempts).toBe(1)
    expect(refusals).toEqual([])
    expect(await keysOf(first.store, 'refused/')).toEqual([])
  })
})

describe('what was refused', () => {
  const refusedOnce = async () => {
    const server = createTestServer()
    const device = await createFirstDevice(server)
    const refusals: PublishRefusal[] = []
    device.client.onRefused((refusal) => refusals.push(refusal))
    refuseFirst(server, 'event_refused', 1)
    await device.client.publish('notes', text('what nobody may read'), { ttlS: 3600, atMs: 5 })
    await publishAll(device.client, ['next'])
    device.client.start()
    await device.client.flush()
    return { server, device, refusals }
  }

  test('REF-2: it is kept, sealed at rest, across restarts, while a tombstone takes its place', async () => {
    const { server, device, refusals } = await refusedOnce()
    expect(refusals).toMatchObject([{ streamName: 'notes', code: 'event_refused', isKept: true }])
    expect(server.events.map(({ item }) => parseEvent(item[3])!.isTombstone)).toEqual([true, false])
    await device.restart()
    const kept = await device.client.refused.list()
    expect(kept).toMatchObject([
      {
        eventId: refusals[0]!.eventId,
        streamName: 'notes',
        type: 'text',
        atMs: 5,
        ttlS: 3600,
        size: 20,
        code: 'event_refused',
      },
    ])
    for await (const [key, value] of device.store.range({})) {
      if (key.startsWith('refused/')) expect(Buffer.from(value).toString('latin1')).not.toMatch(/nobody|notes/)
    }
  })

  test('REF-2: it is published again as a new event, once', async () => {
    const { server, device, refusals } = await refusedOnce()
    const { client } = device
    const [again, second] = await Promise.all([
      client.refused.retry(refusals[0]!.eventId),
      client.refused.retry(refusals[0]!.eventId),
    ])
    expect(second).toBeUndefined()
    await client.flush()
    const event = parseEvent(server.events.at(-1)!.item[3])!
    expect(formatUuid(event.eventId)).toBe(formatUuid(again!.eventId))
    expect(formatUuid(event.eventId)).not.toBe(formatUuid(refusals[0]!.eventId))
    expect(event.ttlS).toBe(3600)
    expect(await client.refused.list()).toEqual([])
    expect(server.events).toHaveLength(3)
    expect(client.device.outbox.bytes).toBe(0)
  })

  test('REF-2: it is erased when it is discarded, and not before', async () => {
    const { device, refusals } = await refusedOnce()
    const { client, store } = device
    expect(await client.refused.discard(createEventId(1, crypto.randomBytes(10)))).toBe(false)
    expect(await keysOf(store, 'refused/')).toHaveLength(1)
    expect(await client.refused.discard(refusals[0]!.eventId)).toBe(true)
    expect(await keysOf(store, 'refused/')).toEqual([])
    expect(await client.refused.discard(refusals[0]!.eventId)).toBe(false)
    expect(client.refused).toMatchObject({ count: 0, bytes: 0 })
  })

  test('REF-2: what the server would refuse again for its size is not published again', async () => {
    const { server, device, refusals } = await refusedOnce()
    await device.restart()
    const { client } = device
    server.distort = (message) =>
      message.type === 'session_established'
        ? [{ ...message, limits: { ...DEFAULT_LIMITS, max_payload: 10 } }]
        : [message]
    client.start()
    await client.whenLive()
    await expect(client.refused.retry(refusals[0]!.eventId)).rejects.toMatchObject({ code: 'payload_too_large' })
    expect(await client.refused.list()).toHaveLength(1)
  })

  test('REF-2: the tombstone, what is kept and what leaves the outbox are one batch', async () => {
    const server = createTestServer()
    const { client, store } = await createFirstDevice(server)
    refuseFirst(server, 'event_refused', 1)
    await publishAll(client, ['a'])
    const batch = store.batch
    const halves: string[][] = []
    store.batch = (operations) => {
      const keys = operations.map(({ type, key }) => `${type} ${key.split('/')[0]}`)
      if (keys.some((key) => key.includes('refused'))) halves.push(keys)
      return batch(operations)
    }
    client.start()
    await client.flush()
    expect(halves).toEqual([['put sealed', 'put own-chain', 'delete outbox', 'put refused']])
  })

  test('REF-3: it is charged to the outbox, and a full one refuses to publish instead of dropping', async () => {
    const server = createTestServer()
    const device = await createFirstDevice(server, { outboxLimits: { maxEvents: 2, maxBytes: 1_000_000 } })
    const { client } = device
    refuseFirst(server, 'event_refused', 2)
    client.start()
    await publishAll(client, ['first'])
    await client.flush()
    await publishAll(client, ['second'])
    await client.flush()
    expect(client.refused.count).toBe(2)
    await expect(client.publish('notes', text('third'))).rejects.toMatchObject({ code: 'refused_content_full' })
    const [first] = await client.refused.list()
    await client.refused.discard(first!.eventId)
    await client.publish('notes', text('third'))
    await client.flush()
    expect(client.refused.count).toBe(1)
  })

  test('REF-3: a publisher that waits for room is told when refused content takes it', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server, { outboxLimits: { maxEvents: 1, maxBytes: 1_000_000 } })
    refuseFirst(server, 'event_refused', 1)
    await publishAll(client, ['first'])
    const waiting = client.publish('notes', text('second'))
    client.start()
    await expect(waiting).rejects.toMatchObject({ code: 'refused_content_full' })
  })

  test('REF-2: the client’s own events are not kept, and a second device reads what was published again', async () => {
    const { server, first, second } = await createPair()
    await first.client.publishProfile({ name: 'x', platform: 'y' })
    refuseFirst(server, 'event_refused', 1)
    first.client.start()
    await first.client.flush()
    expect(await first.client.refused.list()).toEqual([])
    refuseFirst(server, 'event_refused', 1)
    await publishAll(first.client, ['again'])
    await first.client.flush()
    const [kept] = await first.client.refused.list()
    await first.client.refused.retry(kept!.eventId)
    second.client.start()
    expect(await take(second.client, 'notes', 1)).toEqual(['again'])
  })
})

async function keysOf(store: Store, prefix: string): Promise<string[]> {
  const keys: string[] = []
  for await (const [key] of store.range({})) if (key.startsWith(prefix)) keys.push(key)
  return keys
}
