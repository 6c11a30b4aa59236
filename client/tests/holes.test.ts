// A server that passes events over for a moment (ORD-9): what is refused before it is stored, what is asked for again,
// where a late event goes, and when it is an alarm.

import type { ServerMessage } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { acceptLog } from '../src/restore/accept-log.ts'
import { verifyDevice } from '../src/verify.ts'
import { publishAll, stopCode, waitForStop } from './support/device-pair.ts'
import { createFirstDevice, createNextDevice, parts, type TestDevice, take } from './support/test-device.ts'
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

const without =
  (...places: number[]) =>
  (message: ServerMessage): ServerMessage[] =>
    message.type === 'events'
      ? [{ ...message, events: message.events.filter(([userSeq]) => !places.includes(userSeq)) }]
      : [message]
const honest = (message: ServerMessage): ServerMessage[] => [message]

async function publish(device: TestDevice, ...values: string[]): Promise<void> {
  device.client.start()
  await publishAll(device.client, values)
  await device.client.flush()
}
/** The client comes back: the clock moves until it is live or has stopped. */
async function settle({ client, clock }: TestDevice): Promise<void> {
  await until(() => {
    if (client.state().type === 'offline') clock.advance(1000)
    return client.state().type === 'live' || client.state().type === 'stopped'
  }, 'the client to be live or to stop')
}
const gaveUp = (device: TestDevice): Promise<void> =>
  until(() => device.client.state().type === 'offline', 'the session to be given up')

describe('a claim that the log is complete', () => {
  test('ORD-9: an event that is passed over for a moment is asked for again, and comes', async () => {
    await publish(first, 'a', 'b')
    server.distort = without(2)
    second.client.start()
    await gaveUp(second)
    server.distort = honest
    await settle(second)
    await publish(first, 'c')
    expect(await take(second.client, 'notes', 3)).toEqual(['a', 'b', 'c'])
  })

  test('ORD-9: passed over again when it was asked for, it is an alarm, and a later start finds it', async () => {
    await publish(first, 'a', 'b')
    server.distort = without(2)
    second.client.start()
    await gaveUp(second)
    await settle(second)
    expect([stopCode(second.client), second.client.cursor()]).toEqual(['events_missing', 0])
    server.distort = honest
    await second.restart()
    second.client.start()
    expect(await take(second.client, 'notes', 2)).toEqual(['a', 'b'])
  })

  test.each(['events', 'caught_up'] as const)(
    'ORD-9: %s beyond the head is refused before it is stored, so an honest server finds the device as it was',
    async (type) => {
      await publish(first, 'a')
      server.distort = (message) => {
        if (message.type === 'caught_up' && type === 'caught_up') return [{ ...message, user_seq: 1000 }]
        if (message.type === 'events' && type === 'events') return [{ ...message, through: 1000 }]
        return [message]
      }
      second.client.start()
      await gaveUp(second)
      await settle(second)
      expect(stopCode(second.client)).toBe('events_missing')
      server.distort = honest
      await second.restart()
      second.client.start()
      await settle(second)
      expect([second.client.state().type, second.client.cursor()]).toEqual(['live', 1])
    },
  )

  test('ORD-9: an event at a place far beyond the next is refused like an event that is missing', async () => {
    await publish(first, 'a')
    server.distort = (message) =>
      message.type === 'events'
        ? [{ ...message, events: message.events.map(([, ...rest]) => [2 ** 50, ...rest] as never), through: 2 ** 50 }]
        : [message]
    second.client.start()
    await gaveUp(second)
    await settle(second)
    expect([stopCode(second.client), second.client.cursor()]).toEqual(['events_missing', 0])
  })
})

describe('a hole that an own event could fill', () => {
  /** Of `a`, `b` and `c` the second device has the first and the last, and one own event on its way. */
  const openHole = async (): Promise<void> => {
    await publish(first, 'a', 'b')
    await publish(third, 'c')
    server.intercept = (message) => message.type === 'publish'
    await publishAll(second.client, ['own'])
    server.distort = without(2)
    second.client.start()
    await settle(second)
    expect(await take(second.client, 'notes', 2)).toEqual(['a', 'c'])
    server.intercept = () => false
  }

  test('ORD-9: once the own event stands elsewhere the hole is read again, and the late event takes its own place', async () => {
    await openHole()
    const late: number[] = []
    second.client.onLate((events) => late.push(...events.map(({ userSeq }) => userSeq)))
    // The own event comes to stand at 4: nothing explains 2 any more.
    second.clock.advance(60_000)
    await until(() => server.events.length === 4, 'the own event')
    server.distort = honest
    await settle(second)
    await until(() => second.client.cursor() === 4, 'the own event in its place')
    await until(() => late.length > 0, 'the late event')
    expect(late).toEqual([2])
    expect(await take(second.client, 'notes', 3)).toEqual(['a', 'b', 'c'])
    await publish(first, 'd')
    await publish(third, 'e')
    expect(await take(second.client, 'notes', 5)).toEqual(['a', 'b', 'c', 'd', 'e'])
    expect(await verifyDevice(crypto, second.client.device)).toMatchObject({ isSound: true, events: 5, ownEvents: 1 })
    // A reader between the late event and the cursor of that moment may have passed it; no other has.
    const passed = async (position: number) =>
      (await second.client.latePassedBy(position)).map(({ userSeq }) => userSeq)
    expect([await passed(1), await passed(2), await passed(3), await passed(4)]).toEqual([[], [2], [2], []])
  })

  test('ORD-9: a later event of its device asks for it too', async () => {
    await openHole()
    server.distort = honest
    await publishAll(first.client, ['d'])
    await gaveUp(second)
    server.intercept = (message, peer) =>
      message.type === 'publish' && peer.deviceId.toString() === second.identity.deviceId.toString()
    await settle(second)
    expect(await take(second.client, 'notes', 4)).toEqual(['a', 'b', 'c', 'd'])
  })

  test('ORD-9: still missing when it is read again, it is an alarm, and `republish` reads on from before it', async () => {
    await openHole()
    second.clock.advance(60_000)
    await gaveUp(second)
    await settle(second)
    expect(stopCode(second.client)).toBe('events_missing')
    const { problems } = await verifyDevice(crypto, second.client.device)
    expect(problems.map(({ code }) => code)).toEqual(['events_missing'])
    server.distort = honest
    await second.client.close()
    const { through, otherEvents } = await acceptLog({
      ...parts(server, second.store),
      identity: second.identity,
      device: second.client.device,
      signal: AbortSignal.timeout(10_000),
    })
    expect([through, otherEvents]).toEqual([1, 1])
    await second.restart()
    second.client.start()
    expect(await take(second.client, 'notes', 3)).toEqual(['a', 'b', 'c'])
    await settle(second)
    expect(second.client.device.localLog.progress.holes).toEqual([])
  })

  test('ORD-9: an event that is read again and is another than it was is an alarm', async () => {
    await openHole()
    server.distort = (message) =>
      message.type === 'events'
        ? [{ ...message, events: message.events.map(([at, seq, ms, ...rest]) => [at, seq, ms + 1, ...rest] as never) }]
        : [message]
    second.clock.advance(60_000)
    await gaveUp(second)
    await settle(second)
    expect(stopCode(second.client)).toBe('history_changed')
  })

  test('ORD-9: a late event whose number in its stream does not fit its place is an alarm', async () => {
    await openHole()
    server.distort = (message) =>
      message.type === 'events'
        ? [
            {
              ...message,
              events: message.events.map((item) => (item[0] === 2 ? [2, 3, ...item.slice(2)] : item) as never),
            },
          ]
        : [message]
    second.clock.advance(60_000)
    await gaveUp(second)
    await settle(second)
    expect(stopCode(second.client)).toBe('stream_order_broken')
  })

  test('ORD-9: holes are kept over a restart', async () => {
    await openHole()
    await second.restart()
    expect(second.client.device.localLog.progress.holes).toEqual([{ from: 2, to: 2 }])
  })
})

test('ORD-9: a receipt that puts an own event where another event stands is an alarm, and overwrites nothing', async () => {
  await publish(first, 'a')
  second.client.start()
  await settle(second)
  server.intercept = (message, peer) => {
    if (message.type !== 'publish') return false
    peer.send({ type: 'receipts', receipts: [[1, 2, 1, 1_700_000_000_000, false]] })
    return true
  }
  await publishAll(second.client, ['own'])
  expect(await waitForStop(second.client)).toBe('receipt_contradiction')
  expect(await verifyDevice(crypto, second.client.device)).toMatchObject({ isSound: true, events: 1 })
})
