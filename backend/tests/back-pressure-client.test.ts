// A client that slept so long that the server closed it as too slow and cut the socket (P5): the close frame stands
// behind what it has not read, and never comes. It does what it would do for the code.

import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../client/src/clock.ts'
import { type HeldWay, startHeldWay } from './back-pressure/held-way.ts'
import { readMetric, until } from './back-pressure/scene.ts'
import { SEND_BUFFER_BYTES } from './back-pressure/stopped-reader.ts'
import { createAccount } from './support/account.ts'
import { openSdkDevice, type SdkDevice } from './support/sdk-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const TEXT_LENGTH = 200 * 1024

let server: TestServer
let way: HeldWay
let writer: SdkDevice
let reader: SdkDevice
afterEach(async () => {
  await reader?.close()
  await writer?.close()
  await way?.close()
  await server?.close()
})

test('P5: a client cut before it was told why comes back by itself, and gets everything once, in order', {
  timeout: 60_000,
}, async () => {
  server = await startTestServer({
    database: 'postgres',
    flags: { VALISE_SEND_BUFFER_BYTES: String(SEND_BUFFER_BYTES), VALISE_SLOW_CONSUMER_MS: '1000' },
  })
  const { fingerprint } = server
  const [writing, reading] = (await createAccount(server, { devices: 2 })).devices
  way = await startHeldWay(server.url)
  writer = await openSdkDevice(server, writing!, systemClock)
  reader = await openSdkDevice({ url: way.url, fingerprint }, reading!, systemClock)

  way.hold()
  const texts: string[] = []
  const publish = async (): Promise<void> => {
    texts.push(`${texts.length}`.padStart(TEXT_LENGTH))
    await writer.publish(texts.at(-1)!)
    await until('its receipt', () => writer.receipts.length === texts.length)
  }
  while ((await readMetric(server, 'valise_send_buffered_bytes')) <= SEND_BUFFER_BYTES) await publish()
  await until('the close', async () => (await readMetric(server, 'valise_closes_total', { code: '4420' })) === 1)
  await until('the cut', async () => (await readMetric(server, 'valise_connections')) === 1)
  await publish()
  expect([reader.connections, reader.states.at(-1)]).toEqual([1, 'live'])

  way.release()
  await until('everything', () => reader.bodies.length >= texts.length)
  // Compared so, a difference prints numbers and not 200 KiB of spaces each.
  expect(reader.bodies.map((text) => text.trim())).toEqual(texts.map((text) => text.trim()))
  expect([reader.connections, reader.states.at(-1)]).toEqual([2, 'live'])
  expect(reader.states).not.toContain('stopped')
})
