// What has its receipt, or was refused for good, leaves the store with that very word: no restart publishes it again.

import { parseEvent } from '@valise/protocol'
import { expect, test } from 'vitest'
import { publishAll } from './support/device-pair.ts'
import { createFirstDevice, type TestDevice } from './support/test-device.ts'
import { createTestServer } from './support/test-server.ts'
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
