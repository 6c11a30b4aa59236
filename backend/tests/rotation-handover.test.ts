// The client SDK and a server's clock: a session of full age is replaced before it ends, and neither a reader nor a
// writer notices (SES-2). Two nodes, so that the new session may begin elsewhere than the old one.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createManualClock, type ManualClock } from '../../client/tests/support/manual-clock.ts'
import { until } from '../../client/tests/support/until.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { waitFor } from './support/open-database.ts'
import { HOUR_MS, openRotationScene, type RotationScene } from './support/rotation-scene.ts'
import { openSdkDevice, type SdkDevice } from './support/sdk-device.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'
import { type SocketProxy, startSocketProxy } from './support/socket-proxy.ts'

let scene: RotationScene
let other: TestServer
let proxy: SocketProxy
let clock: ManualClock
let writerDevice: TestDevice
let writer: SdkDevice
let reader: SdkDevice

beforeEach(async () => {
  const redisUrl = testRedisUrl()
  scene = await openRotationScene({ redisUrl })
  const { databaseUrl = '', identityFile } = scene.server
  other = await startTestServer({ database: 'postgres', redisUrl, databaseUrl, identityFile, now: scene.now })
  proxy = await startSocketProxy(scene.url)
  const account = await createAccount(scene, { devices: 2 })
  clock = createManualClock(scene.now())
  writerDevice = account.devices[0]!
  const target = { url: proxy.url, fingerprint: scene.fingerprint }
  writer = await openSdkDevice(target, writerDevice, clock)
  reader = await openSdkDevice(target, account.devices[1]!, clock)
})
afterEach(async () => {
  await Promise.all([writer?.close(), reader?.close()])
  await proxy?.close()
  await other?.close()
  await scene?.close()
})

/** 20 of 24 hours pass on the node; it says so with its next tick, and each device plans its new session. */
async function reachTwentyHours(): Promise<void> {
  const idle = clock.waiting
  scene.advance(20 * HOUR_MS)
  await until(() => clock.waiting === idle + 2, 'the plans')
}

async function waitForConnections(node: TestServer, count: number): Promise<void> {
  const read = (): Promise<string> => node.app.metrics.render()
  await waitFor(`${count} connections`, read, (text) => text.includes(`\nvalise_connections ${count}\n`))
}

const expectSilence = (device: SdkDevice): void => {
  expect(device.states.slice(device.states.indexOf('live') + 1)).toEqual([])
  expect(device.client.state().type).toBe('live')
}

describe('make before break', () => {
  test.each(['the same node', 'another node'])(
    'SES-2: from 20 h on each client makes a session on %s before it ends the old one, and nobody notices',
    async (where) => {
      await writer.publish('before')
      await until(() => reader.bodies.length === 1 && writer.receipts.length === 1, 'the first event')
      await reachTwentyHours()
      if (where === 'another node') proxy.pointTo(other.url)

      expect([writer.connections, reader.connections]).toEqual([1, 1])
      const texts: string[] = []
      const publishing = (async () => {
        for (let i = 0; i < 300; i++) {
          texts.push(`during ${i}`)
          await writer.publish(`during ${i}`)
          if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
        }
      })()
      clock.advance(0)
      await publishing
      await until(() => writer.connections === 2 && reader.connections === 2, 'the new sockets')
      await writer.client.flush()
      await until(() => reader.bodies.length === 301, 'every event')

      expect(reader.bodies).toEqual(['before', ...texts])
      expect(writer.receipts.map(({ deviceSeq, userSeq }) => [deviceSeq, userSeq])).toEqual(
        Array.from({ length: 301 }, (_, i) => [i + 1, i + 1]),
      )
      if (where === 'another node') await waitForConnections(scene.server, 0)
      await waitForConnections(where === 'another node' ? other : scene.server, 2)
      expectSilence(writer)
      expectSilence(reader)

      // The sessions are new: the age at which the old ones would have ended passes.
      scene.advance(4 * HOUR_MS)
      await writer.publish('after')
      await until(() => reader.bodies.length === 302, 'the last event')
      expect([writer.connections, reader.connections]).toEqual([2, 2])
      expect(scene.logged('gateway.session.rotate')).toEqual([])
    },
  )

  test('SES-2: a client that cannot make its new session keeps the old one, and makes it half a minute later', async () => {
    await reachTwentyHours()
    const planned = clock.waiting
    proxy.pointTo('ws://127.0.0.1:1')
    clock.advance(0)
    await until(() => reader.connections === 2 && writer.connections === 2, 'the attempts')
    await writer.publish('still here')
    await until(() => reader.bodies.length === 1, 'the event')
    expectSilence(reader)

    proxy.pointTo(scene.url)
    await writer.client.flush()
    await until(() => clock.waiting === planned, 'the next plans')
    // Half a minute in two parts, with traffic between them: neither session may look silent.
    clock.advance(15_000)
    await writer.publish('waiting')
    await writer.client.flush()
    await until(() => reader.bodies.length === 2, 'the event between')
    clock.advance(15_000)
    await until(() => reader.connections === 3 && writer.connections === 3, 'the new sockets')
    await waitForConnections(scene.server, 2)
    await writer.publish('moved')
    await until(() => reader.bodies.length === 3, 'the event after')
    expectSilence(writer)
    expectSilence(reader)
  })

  test('SES-2: a client that did not make it in time comes back at once, and nothing is lost', async () => {
    await writer.publish('before')
    await writer.client.flush()
    scene.advance(24 * HOUR_MS)
    const publishing = Array.from({ length: 50 }, (_, i) => writer.publish(`at ${i}`))
    await Promise.all(publishing)
    await until(() => reader.states.includes('offline') && writer.states.includes('offline'), 'the closes')
    clock.advance(0)
    await until(() => reader.client.state().type === 'live', 'the reader to be back')
    await writer.client.flush()
    await until(() => reader.bodies.length === 51, 'every event')
    expect(reader.bodies.slice(1)).toEqual(publishing.map((_, i) => `at ${i}`))
    expect(scene.logged('gateway.session.rotate').length).toBe(2)
  })

  test('SES-3: another program with the same device is not taken for the own new session', async () => {
    const rival = await writerDevice.connect(scene)
    await until(() => writer.client.state().type === 'stopped', 'the stop')
    expect(writer.client.state()).toMatchObject({ cause: { type: 'refused', code: 'session_superseded' } })
    await rival.close()
  })
})
