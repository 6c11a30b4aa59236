// Events of a hostile device: signed and placed as they should be, and not to be read.

import { chainStart, createEventId, type EventHeader, type EventId } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import type { FaultKind, Hold } from '../src/receive/standing.ts'
import { encodeContent } from '../src/sealing/content.ts'
import { sealEvent } from '../src/sealing/event-seal.ts'
import { verifyDevice } from '../src/verify.ts'
import { createPair, type DevicePair, publishAll, stopCode, waitForStop } from './support/device-pair.ts'
import { revoke, start } from './support/revoking.ts'
import type { TestDevice } from './support/test-device.ts'
import { until } from './support/until.ts'

const NOW_MS = 1_700_000_000_000
const contentOf = (type: string): Uint8Array => encodeContent({ type, atMs: NOW_MS, body: new Uint8Array(0) })

interface Sealing {
  readonly key?: Uint8Array
  readonly data?: Uint8Array
  readonly header?: Partial<EventHeader>
}

/** The server has stored the first event of a device, sealed as told. */
async function store({ server }: DevicePair, by: TestDevice, sealing: Sealing): Promise<void> {
  const { identity, client } = by
  const { userId, deviceId, keys } = identity
  const { epochKeys, book } = client.device
  const header = {
    userId,
    deviceId,
    deviceSeq: 1,
    chainPrev: chainStart(crypto, userId, deviceId),
    streamId: epochKeys.streamId('notes')!,
    eventId: createEventId(NOW_MS, crypto.randomBytes(10)) as EventId,
    epoch: 1,
    logSeq: book.require().seq,
    logHead: book.require().head,
    ttlS: 0,
    isTombstone: false,
    isKept: false,
    checkpoint: undefined,
    ...sealing.header,
  }
  const key = sealing.key ?? epochKeys.contentKey(1)!
  const { wire } = await sealEvent(crypto, keys.signer, key, header, sealing.data ?? contentOf('text'))
  server.events.push({ item: [server.events.length + 1, 1, NOW_MS, wire], deviceId })
}

const UNREADABLE: Record<string, { readonly kind: FaultKind; readonly sealing: Sealing }> = {
  'sealed under another key': { kind: 'unopenable', sealing: { key: new Uint8Array(32).fill(1) } },
  'without content': { kind: 'unparsable', sealing: { data: Uint8Array.of(1, 0xa0) } },
  'of a type of the client that is not kept': {
    kind: 'kept_mismatch',
    sealing: { data: contentOf('valise/device') },
  },
  'that is kept and of a type of an application': { kind: 'kept_mismatch', sealing: { header: { isKept: true } } },
}

/** The second device holds the first one back from its first event, stays live, and goes on behind that event. */
async function expectHeldBack({ server, first, second }: DevicePair, kind: Hold['kind']): Promise<void> {
  await start(second)
  await publishAll(second.client, ['after'], 'other')
  await second.client.flush()
  await until(() => second.client.cursor() === server.events.length, 'all events')
  expect(server.events).toHaveLength(2)
  const { deviceId } = first.identity
  expect(second.client.device.holds.standing.holdOf(deviceId)).toEqual({ deviceId, kind, fromSeq: 1, userSeq: 1 })
  const shown = second.client.events(undefined, { includeOwn: true })[Symbol.asyncIterator]()
  expect(await shown.next()).toMatchObject({ value: { userSeq: 2 } })
  expect(second.client.state().type).toBe('live')
}

for (const [name, { kind, sealing }] of Object.entries(UNREADABLE)) {
  test(`FLT-1: an event ${name} holds its device back, and the client stays live`, async () => {
    const pair = await createPair()
    await start(pair.first)
    await store(pair, pair.first, sealing)
    await expectHeldBack(pair, kind)
  })

  test(`DEV-6: an event ${name} that is void alarms nobody, and keeps its place`, async () => {
    const pair = await createPair()
    const { first, second } = pair
    await start(first, second)
    await second.client.close()
    await store(pair, second, sealing)
    await revoke(first, second)
    await first.restart()
    first.client.start()
    await until(() => first.client.cursor() === 1 || stopCode(first.client) !== undefined, 'the void event')
    expect(stopCode(first.client)).toBeUndefined()
    expect(await first.client.device.voidEvents.count()).toBe(1)
  })
}

test('ORD-5: a server that takes the log for another one, or the cursor for none of it, stops the client', async () => {
  for (const reason of ['log_epoch_changed', 'cursor_beyond_head'] as const) {
    const { server, first, second } = await createPair()
    await start(first)
    await publishAll(first.client, ['a'])
    await first.client.flush()
    server.distort = (message) =>
      message.type === 'events' ? [{ type: 'resync_required', reason, from: 1, to: 1 }] : [message]
    second.client.start()
    expect(await waitForStop(second.client)).toBe(reason)
    expect(second.client.cursor()).toBe(0)
  }
})

test('FLT-2: an event whose signature does not hold waits, and the client stays live', async () => {
  const pair = await createPair()
  await start(pair.first)
  await store(pair, pair.first, {})
  const [stored] = pair.server.events
  const wire = stored!.item[3]
  wire[wire.length - 1]! ^= 1
  await expectHeldBack(pair, 'unproved')
})

describe('an event of a newer program', () => {
  test('EVT-1: in a form that this one does not know stops the client, and blames nobody', async () => {
    const pair = await createPair()
    await start(pair.first)
    await store(pair, pair.first, {})
    pair.server.events[0]!.item[3][0] = 2
    pair.second.client.start()
    expect(await waitForStop(pair.second.client)).toBe('update_needed')
    expect(pair.second.client.state()).toMatchObject({
      cause: { remedy: expect.stringContaining('Update this program') },
    })
    expect(pair.second.client.cursor()).toBe(0)
  })

  test('EVT-1: with content that this one does not know keeps its place, and ends the readers that come to it', async () => {
    const pair = await createPair()
    const { server, first, second } = pair
    await start(first)
    await store(pair, first, { data: Uint8Array.of(2, 1, 2, 3) })
    second.client.start()
    await publishAll(second.client, ['after'], 'other')
    await until(() => second.client.cursor() === server.events.length, 'both events')
    const reader = second.client.events(undefined, { includeOwn: true })[Symbol.asyncIterator]()
    await expect(reader.next()).rejects.toMatchObject({ stopCause: { type: 'refused', code: 'update_needed' } })
    expect(stopCode(second.client)).toBeUndefined()
    const others = second.client.events(undefined, { includeOwn: true, after: 1 })[Symbol.asyncIterator]()
    expect(await others.next()).toMatchObject({ value: { userSeq: 2 } })
    await second.client.close()
    expect(await verifyDevice(crypto, second.client.device)).toMatchObject({ isSound: true, problems: [] })
  })
})

test.each([
  ['a content type', () => ({ streamName: 'notes', type: 'valise/device' }), 'bad_content'],
  ['a stream', () => ({ streamName: 'valise/devices', type: 'text' }), 'bad_stream_name'],
])('EVT-2: %s of the client is refused from an application', async (_, publication, code) => {
  const { first } = await createPair()
  const { streamName, type } = publication()
  await expect(first.client.publish(streamName, { type, body: new Uint8Array(0) })).rejects.toMatchObject({ code })
})
