// Every reason for a client to stop or to ask again, and that it keeps what it has.

import { parseEvent, type Receipts, type ServerMessage } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { verifyDevice } from '../src/verify.ts'
import { createPair, publishAll, stopCode, waitForStop } from './support/device-pair.ts'
import { expire } from './support/published-log.ts'
import { createFirstDevice, rotateEpoch, take } from './support/test-device.ts'
import { createTestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

describe('reasons to stop', () => {
  test('SES-1: another server key is terminal, and says what to do', async () => {
    const server = createTestServer()
    const device = await createFirstDevice(server)
    const { client } = device
    const impostor = createTestServer(8)
    server.transport.connect = impostor.transport.connect
    client.start()
    expect(await waitForStop(client)).toBe('wrong_server_key')
    await expect(client.flush()).resolves.toBeUndefined()
    await expect(client.whenLive()).rejects.toThrow(/valise trust FINGERPRINT/)
  })

  test('DEV-1: a shorter and a different device log stop the client', async () => {
    for (const [code, seq, head] of [
      ['device_log_shorter', 0, 9],
      ['device_log_forked', 1, 9],
    ] as const) {
      const { server, first } = await createPair()
      first.client.start()
      await first.client.whenLive()
      await first.restart()
      server.distort = (message) =>
        message.type === 'session_established'
          ? [{ ...message, device_log_seq: seq, device_log_head: new Uint8Array(32).fill(head) }]
          : [message]
      first.client.start()
      expect(await waitForStop(first.client)).toBe(code)
    }
  })

  test.each(['log_seq_ahead', 'stale_epoch'] as const)(
    'DEV-1: a server that denies an entry it has shown, by %s, stops the client, the outbox stays',
    async (code) => {
      const { server, first } = await createPair()
      await rotateEpoch(server, first)
      server.intercept = (message, peer) => {
        if (message.type !== 'publish') return false
        peer.send({ type: 'refused', device_seq: 1, code })
        return true
      }
      await publishAll(first.client, ['kept'])
      first.client.start()
      expect(await waitForStop(first.client)).toBe('device_log_shorter')
      expect(first.client.device.outbox.count).toBe(1)
    },
  )

  test.each(['recovery_cannot_publish', 'foreign_event'] as const)(
    'DEV-5: a server that takes the device for another, by %s, stops the client, the outbox stays',
    async (code) => {
      const { server, first } = await createPair()
      server.intercept = (message, peer) => {
        if (message.type !== 'publish') return false
        peer.send({ type: 'refused', device_seq: 1, code })
        return true
      }
      await publishAll(first.client, ['kept'])
      first.client.start()
      expect(await waitForStop(first.client)).toBe('foreign_session')
      expect(first.client.device.outbox.count).toBe(1)
    },
  )

  test('ORD-6: a server that refuses even a tombstone stops the client, what is behind it stays', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    const refused: boolean[] = []
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      refused.push(parseEvent(message.events[0]!)!.isTombstone)
      peer.send({ type: 'refused', device_seq: 1, code: 'event_refused' })
      peer.send({ type: 'refused', device_seq: 2, code: 'device_seq_gap', expected: 1 })
      return true
    }
    await publishAll(client, ['refused', 'kept'])
    client.start()
    expect(await waitForStop(client)).toBe('tombstone_refused')
    expect(refused).toEqual([false, true])
    expect(client.device.outbox.count).toBe(1)
  })

  test('another log epoch and a cursor beyond the head stop the client, the outbox stays', async () => {
    for (const code of ['log_epoch_changed', 'cursor_beyond_head'] as const) {
      const { server, first, second } = await createPair()
      for (const { client } of [first, second]) client.start()
      await publishAll(first.client, ['a'])
      await take(second.client, 'notes', 1)
      await second.restart()
      await publishAll(second.client, ['kept'])
      server.distort = (message) => {
        if (message.type !== 'session_established') return [message]
        if (code === 'cursor_beyond_head') return [{ ...message, head: 0 }]
        return [{ ...message, log_epoch: new Uint8Array(16).fill(2) }]
      }
      second.client.start()
      expect(await waitForStop(second.client)).toBe(code)
      expect(second.client.device.outbox.count).toBe(1)
    }
  })

  test('P4: events of this device that it never sealed, and confirmed ones that are gone, stop it', async () => {
    for (const [code, last] of [
      ['device_cloned', 5],
      ['receipts_withdrawn', 0],
    ] as const) {
      const server = createTestServer()
      const device = await createFirstDevice(server)
      device.client.start()
      await publishAll(device.client, ['a'])
      await device.client.flush()
      await device.restart()
      server.distort = (message) =>
        message.type === 'session_established' ? [{ ...message, last_device_seq: last }] : [message]
      device.client.start()
      expect(await waitForStop(device.client)).toBe(code)
    }
  })

  test('ORD-1: a conflict and a chain that does not fit stop the client', async () => {
    for (const [refusal, code] of [
      ['device_seq_conflict', 'device_cloned'],
      ['chain_mismatch', 'chain_forked'],
    ] as const) {
      const server = createTestServer()
      const { client } = await createFirstDevice(server)
      server.intercept = (message, peer) => {
        if (message.type === 'publish') peer.send({ type: 'refused', device_seq: 1, code: refusal })
        return message.type === 'publish'
      }
      client.start()
      await publishAll(client, ['a'])
      await expect(client.flush()).rejects.toThrow(/ALARM/)
      expect(stopCode(client)).toBe(code)
    }
  })

  test('ORD-1: receipts that put a later event before an earlier one stop the client', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server)
    await publishAll(client, ['a', 'b'])
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      const receipts = [2, 1].map((userSeq, i): Receipts['receipts'][number] => [i + 1, userSeq, userSeq, 1000, false])
      peer.send({ type: 'receipts', receipts })
      return true
    }
    client.start()
    expect(await waitForStop(client)).toBe('receipt_contradiction')
    expect(client.device.outbox.count).toBe(2)
  })

  test('ORD-5: missing events are asked for once, then they are an alarm', async () => {
    const { server, first, second } = await createPair()
    first.client.start()
    await publishAll(first.client, ['a', 'b', 'c'])
    await first.client.flush()
    server.distort = (message) =>
      message.type === 'events' ? [{ ...message, events: message.events.filter(([seq]) => seq !== 2) }] : [message]
    second.client.start()
    await until(() => second.client.state().type === 'offline', 'the first session to be given up')
    second.clock.advance(1000)
    expect(await waitForStop(second.client)).toBe('chain_gap')
    expect(second.client.cursor()).toBe(0)
  })

  test('ORD-5: missing events that come when asked for are no alarm', async () => {
    const { server, first, second } = await createPair()
    first.client.start()
    await publishAll(first.client, ['a', 'b', 'c'])
    await first.client.flush()
    server.distort = (message) =>
      message.type === 'events' ? [{ ...message, events: message.events.filter(([seq]) => seq !== 2) }] : [message]
    second.client.start()
    await until(() => second.client.state().type === 'offline', 'the first session to be given up')
    server.distort = (message) => [message]
    second.clock.advance(1000)
    expect(await take(second.client, 'notes', 3)).toEqual(['a', 'b', 'c'])
  })

  test('RET-3: what was pruned is told once, its leaves follow, and every chain still closes', async () => {
    const { server, first, second } = await createPair()
    first.client.start()
    await publishAll(first.client, ['a', 'b', 'c', 'd'])
    await first.client.flush()
    const ranges: number[][] = []
    second.client.onResync(({ from, to }) => ranges.push([from, to]))
    const prune = (message: ServerMessage): ServerMessage =>
      message.type === 'events'
        ? {
            ...message,
            events: message.events.map((event) => (event[0] <= 2 && event.length === 4 ? expire(event) : event)),
          }
        : message
    const told = { type: 'resync_required', reason: 'retention', from: 3, to: 4 } as const
    server.distort = (message) => (message.type === 'events' ? [told, told, prune(message)] : [message])
    second.client.start()
    expect(await take(second.client, 'notes', 2)).toEqual(['c', 'd'])
    expect(ranges).toEqual([[1, 2]])
    const report = await verifyDevice(crypto, second.client.device)
    expect(report).toMatchObject({ isSound: true, events: 4, expiredEvents: 2 })
  })

  test('RET-3: of a range that cannot be only what was read is kept, as one record, and told once', async () => {
    const { server, first, second } = await createPair()
    first.client.start()
    await publishAll(first.client, ['a', 'b', 'c', 'd'])
    await first.client.flush()
    const ranges: number[][] = []
    second.client.onResync(({ from, to }) => ranges.push([from, to]))
    const told = Array.from({ length: 50 }, (_, i): ServerMessage => {
      return { type: 'resync_required', reason: 'retention', from: 2 ** 40 + i, to: 2 ** 41 }
    })
    server.distort = (message) => (message.type === 'events' ? [...told, message] : [message])
    second.client.start()
    await second.client.whenLive()
    expect(ranges).toEqual([[1, 4]])
    expect(await second.client.resyncsAfter(0)).toEqual([{ reason: 'retention', from: 1, to: 4 }])
    const keys: string[] = []
    for await (const [key] of second.store.range({ gt: 'pruned/', lt: 'pruned0' })) keys.push(key)
    expect(keys).toHaveLength(1)
  })

  test('SES-4: a server that makes the client answer and reads nothing is given up', async () => {
    const server = createTestServer()
    let unsentBytes = 0
    const { connect } = server.transport
    server.transport.connect = (url, handlers) => {
      const connection = connect(url, handlers)
      return {
        ...connection,
        get bufferedAmount() {
          return unsentBytes
        },
      }
    }
    const { client } = await createFirstDevice(server)
    client.start()
    await client.whenLive()
    server.push({ type: 'ping', id: 1 })
    await publishAll(client, ['a'])
    await client.flush()
    unsentBytes = 17 * 1024 * 1024
    server.push({ type: 'ping', id: 2 })
    await until(() => client.state().type === 'offline', 'the session to be given up')
  })

  test('PRE-2: ids that the device log does not hold are never shown to the application', async () => {
    const { server, first, second } = await createPair()
    first.client.start()
    await first.client.whenLive()
    const shown: (number | undefined)[] = []
    first.client.onPresence((picture) => shown.push(picture?.length))
    const word = (device_id: Uint8Array) => ({ device_id: device_id as never, is_online: true, last_seen_at: 1 })
    const unknown = Array.from({ length: 40 }, (_, i) => word(new Uint8Array(16).fill(i)))
    server.push({ type: 'presence', is_snapshot: true, devices: [word(second.identity.deviceId), ...unknown] })
    server.push({ type: 'presence', is_snapshot: false, devices: unknown })
    server.push({ type: 'presence', is_snapshot: false, devices: [word(second.identity.deviceId)] })
    await until(() => shown.length === 3, 'the pictures')
    expect(shown).toEqual([undefined, 1, 1])
  })

  test('RET-3: that events were pruned excuses no event that is missing', async () => {
    const { server, first, second } = await createPair()
    first.client.start()
    await publishAll(first.client, ['a', 'b', 'c', 'd'])
    await first.client.flush()
    const told = { type: 'resync_required', reason: 'retention', from: 3, to: 4 } as const
    server.distort = (message) =>
      message.type === 'events' ? [told, { ...message, events: message.events.filter(([seq]) => seq > 2) }] : [message]
    second.client.start()
    await until(() => second.client.state().type === 'offline', 'the first session to be given up')
    second.clock.advance(1000)
    expect(await waitForStop(second.client)).toBe('chain_gap')
  })

  test('a deleted account and a superseded session are told so and stay stopped', async () => {
    for (const [close, code] of [
      [4410, 'account_deleted'],
      [4405, 'session_superseded'],
    ] as const) {
      const server = createTestServer()
      const { client } = await createFirstDevice(server)
      client.start()
      await client.whenLive()
      server.cut(close)
      expect(await waitForStop(client)).toBe(code)
    }
  })

  test('P5: who waits for room in the outbox when the client stops is told why', async () => {
    const server = createTestServer()
    const { client } = await createFirstDevice(server, { outboxLimits: { maxEvents: 1, maxBytes: 1_000_000 } })
    await publishAll(client, ['a'])
    const waiting = publishAll(client, ['b'])
    server.transport.connect = createTestServer(8).transport.connect
    client.start()
    const told = { code: 'stopped', cause: { stopCause: { code: 'wrong_server_key' } } }
    await expect(waiting).rejects.toMatchObject(told)
    await expect(publishAll(client, ['c'])).rejects.toMatchObject(told)
  })
})

test('RET-8: word that a device displaces the others is told, for devices of the account only', async () => {
  const { server, first, second } = await createPair()
  const told: number[] = []
  first.client.onStorageDisplaced(({ bytes }) => told.push(bytes))
  first.client.start()
  await first.client.whenLive()
  const stranger = second.identity.deviceId.map((byte) => byte ^ 1) as typeof second.identity.deviceId
  server.push({ type: 'storage_notice', device_id: stranger, bytes: 1 })
  server.push({ type: 'storage_notice', device_id: second.identity.deviceId, bytes: 2 })
  await until(() => told.length > 0, 'the word')
  expect(told).toEqual([2])
})
