// Devices under chance: connections are cut, receipts lost, processes ended, and in the end all hold the same log.

import { describe, expect, test } from 'vitest'
import { createPair, publishAll, stopCode } from './support/device-pair.ts'
import { type TestDevice, toText } from './support/test-device.ts'
import { until } from './support/until.ts'

/** mulberry32: small, seeded, good enough to choose between misfortunes. */
function createChance(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const EVENTS = 40

async function readAll({ client }: TestDevice): Promise<string[]> {
  const held: string[] = []
  for await (const { userSeq, streamSeq, content } of client.events('notes', { includeOwn: true })) {
    held.push(`${userSeq} ${streamSeq} ${toText(content.body)}`)
    if (held.length === 2 * EVENTS) break
  }
  return held
}

describe.each([1, 2, 3, 4, 5, 6, 7, 8])('seed %i', (seed) => {
  test('P4: every event is held once, in one order, by every device', async () => {
    const chance = createChance(seed)
    const { server, first, second } = await createPair({ checkpointEvery: 10 })
    const devices = [first, second]
    server.distort = (message) => (message.type === 'receipts' && chance() < 0.1 ? [] : [message])
    for (const { client } of devices) client.start()
    for (let i = 0; i < EVENTS; i++) {
      for (const [index, device] of devices.entries()) {
        await publishAll(device.client, [`${index}-${i}`])
        if (chance() < 0.1) server.cut()
        if (chance() < 0.05) {
          await device.restart()
          device.client.start()
        }
        device.clock.advance(50)
      }
    }
    server.distort = (message) => [message]
    server.cut()
    await until(() => {
      for (const { clock } of devices) clock.advance(1)
      return devices.every(({ client }) => client.device.outbox.count === 0 || stopCode(client) !== undefined)
    }, 'all events to be stored')
    expect(devices.map(({ client }) => stopCode(client))).toEqual([undefined, undefined])
    const [a, b] = await Promise.all(devices.map(readAll))
    expect(a).toEqual(b)
    const bodies = a!.map((line) => line.split(' ')[2])
    for (const index of [0, 1]) {
      const expected = Array.from({ length: EVENTS }, (_, i) => `${index}-${i}`)
      expect(bodies.filter((body) => body!.startsWith(`${index}-`))).toEqual(expected)
    }
  })
})
