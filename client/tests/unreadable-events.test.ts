// Events of a hostile device: signed and placed as they should be, and not to be read.

import { chainStart, createEventId, type EventHeader, type EventId } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { expect, test } from 'vitest'
import { CHECKPOINT_STREAM, encodeCheckpoint } from '../src/checkpoint.ts'
import { encodeContent } from '../src/sealing/content.ts'
import { sealEvent } from '../src/sealing/event-seal.ts'
import { createPair, type DevicePair, publishAll, stopCode, waitForStop } from './support/device-pair.ts'
import { revoke, start } from './support/revoking.ts'
import type { TestDevice } from './support/test-device.ts'
import { until } from './support/until.ts'

const NOW_MS = 1_700_000_000_000
/** Of another type than a checkpoint has. */
const content = encodeContent({
  type: 'text',
  atMs: NOW_MS,
  body: encodeCheckpoint({ device_log_seq: 9, device_log_head: new Uint8Array(32), devices: [] }),
})

interface Sealing {
  readonly stream?: string
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
    streamId: epochKeys.streamId(sealing.stream ?? 'notes')!,
    eventId: createEventId(NOW_MS, crypto.randomBytes(10)) as EventId,
    epoch: 1,
    logSeq: book.require().seq,
    ttlS: 0,
    isTombstone: false,
    ...sealing.header,
  }
  const key = sealing.key ?? epochKeys.contentKey(1)!
  const { wire } = await sealEvent(crypto, keys.signer, key, header, sealing.data ?? content)
  server.events.push({ item: [server.events.length + 1, 1, NOW_MS, wire], deviceId })
}

const UNREADABLE: Record<string, Sealing> = {
  'sealed under another key': { key: new Uint8Array(32).fill(1) },
  'without content': { data: Uint8Array.of(0xa0) },
  'whose checkpoint is none': { stream: CHECKPOINT_STREAM },
}

for (const [name, sealing] of Object.entries(UNREADABLE)) {
  test(`ORD-5: an event ${name} stops the client, which skips nothing`, async () => {
    const pair = await createPair()
    await start(pair.first)
    await store(pair, pair.first, sealing)
    pair.second.client.start()
    const code = sealing.stream === undefined ? 'event_unreadable' : 'checkpoint_invalid'
    expect(await waitForStop(pair.second.client)).toBe(code)
    expect(pair.second.client.cursor()).toBe(0)
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
