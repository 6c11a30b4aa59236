// Places of connections, by address and network (LIM-17), and the bytes that a socket may send before it has proved anything.

import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { RawConfig } from '../src/config.ts'
import { createNetworkBuckets } from '../src/limits/network-buckets.ts'
import { createPlaces } from '../src/limits/places.ts'
import { sealLarge } from './back-pressure/scene.ts'
import { startHandshake } from './bad-input/handshake-steps.ts'
import { until } from './bad-input/server-state.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { startTestServer, type TestServer } from './support/server.ts'

describe('places', () => {
  test('LIM-17: an address has its share, its networks theirs, and a place that is left is free once', () => {
    const places = createPlaces({ total: 100, perAddress: 2 })
    const first = places.take('192.0.2.1')
    expect(places.take('192.0.2.1')).toBeDefined()
    expect(places.take('192.0.2.1')).toBeUndefined()
    first?.()
    first?.()
    expect(places.takenCount).toBe(1)
    expect(places.take('192.0.2.1')).toBeDefined()
    // The /24 has four times as many.
    let taken = 0
    for (let i = 2; i < 250; i++) if (places.take(`192.0.2.${i}`) !== undefined) taken++
    expect(taken).toBe(6)
    expect(places.take('192.0.3.1')).toBeDefined()
  })

  test('LIM-17: the total bounds everybody, and a share of 0 nobody', () => {
    const places = createPlaces({ total: 3, perAddress: 0 })
    const all = [places.take('192.0.2.1'), places.take('192.0.2.1'), places.takeUncounted()]
    for (const leave of all) expect(leave).toBeDefined()
    expect(places.take('192.0.2.9')).toBeUndefined()
    expect(places.takeUncounted()).toBeUndefined()
    all[0]?.()
    expect(places.take('192.0.2.9')).toBeDefined()
  })
})

describe('buckets of networks', () => {
  test('LIM-2: IPv6 customers with many networks and IPv4 neighbours share larger buckets', () => {
    const buckets = createNetworkBuckets({ perSecond: 1, burst: 2 }, 1000)
    const spend = (addresses: readonly string[]): number => {
      let passed = 0
      for (const address of addresses) {
        if (buckets.waitMs(address, 1, 0) > 0) continue
        buckets.take(address, 1, 0)
        passed++
      }
      return passed
    }
    const many = Array.from({ length: 1000 }, (_, i) => i)
    expect(spend(many.map(() => '198.51.100.7'))).toBe(2)
    expect(spend(many.map((i) => `203.0.113.${i % 256}`))).toBe(8)
    expect(spend(many.map((i) => `2001:db8:1:${(i % 256).toString(16)}::/64`))).toBe(8)
    expect(spend(many.map((i) => `2001:db8:2:${((i * 256) % 65_536).toString(16)}::/64`))).toBe(32)
    expect(buckets.waitMs('198.51.100.7', 1, 0)).toBe(1000)
    expect(buckets.waitMs('198.51.100.8', 1, 0)).toBe(0)
  })
})

let server: TestServer
const sockets: Socket[] = []
const start = async (flags: RawConfig): Promise<void> => {
  server = await startTestServer({ database: 'postgres', flags })
}
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await server?.close()
})

/** A TCP connection from a loopback address of its own. */
function openFrom(localAddress: string, url: string, text = ''): Promise<{ socket: Socket; received(): string }> {
  const { port } = new URL(url)
  return new Promise((resolve, reject) => {
    let received = ''
    const socket = connect({ host: '127.0.0.1', port: Number(port), localAddress }, () => {
      socket.write(text)
      resolve({ socket, received: () => received })
    })
    sockets.push(socket)
    socket.setEncoding('utf8')
    socket.on('data', (data) => {
      received += data
    })
    socket.on('error', reject)
  })
}

const upgradeFrom = (localAddress: string): Promise<WebSocket | number> =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(server.url, { localAddress })
    socket.on('open', () => {
      sockets.push((socket as unknown as { _socket: Socket })._socket)
      resolve(socket)
    })
    socket.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0))
    socket.on('error', reject)
  })

describe('a server', () => {
  test('LIM-17: slow heads of one address leave places for others, on both ports', async () => {
    await start({ VALISE_MAX_HTTP_CONNECTIONS: '40', VALISE_MAX_HTTP_CONNECTIONS_PER_ADDRESS: '8' })
    const slow = await Promise.all(
      Array.from({ length: 60 }, () => openFrom('127.0.0.2', server.url, 'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n')),
    )
    await until(() => expect(slow.filter(({ received }) => received().includes(' 503 ')).length).toBe(52))
    for (let i = 0; i < 5; i++) expect(await upgradeFrom('127.1.0.3')).toBeInstanceOf(WebSocket)

    const admin = await Promise.all(
      Array.from({ length: 300 }, () => openFrom('127.0.0.2', server.app.adminUrl, 'GET / HTTP/1.1\r\n')),
    )
    await until(() => expect(admin.filter(({ received }) => received().includes(' 503 ')).length).toBe(300 - 128))
    expect((await fetch(`${server.app.adminUrl}/live`)).status).toBe(200)
  })

  test('LIM-17: WebSockets of one address leave places for others, and a place that is left is taken', async () => {
    await start({ VALISE_MAX_CONNECTIONS_PER_ADDRESS: '3' })
    const first = await upgradeFrom('127.0.0.2')
    await upgradeFrom('127.0.0.2')
    await upgradeFrom('127.0.0.2')
    expect(await upgradeFrom('127.0.0.2')).toBe(503)
    expect(await upgradeFrom('127.1.0.3')).toBeInstanceOf(WebSocket)
    if (first instanceof WebSocket) first.terminate()
    await until(async () => expect(await upgradeFrom('127.0.0.2')).toBeInstanceOf(WebSocket))
  })

  test('LIM-5: hellos of silent peers from one address keep no honest device waiting', async () => {
    await start({ VALISE_HANDSHAKE_TIMEOUT_MS: '30000' })
    const [device] = (await createAccount(server)).devices as [TestDevice]
    // Each is answered, though none of them ever goes on.
    await Promise.all(
      Array.from({ length: 200 }, async () => {
        const { raw, client } = await startHandshake(server, device)
        raw.socket.send(client.hello)
        expect(await raw.nextText()).toBeTypeOf('string')
      }),
    )
    for (let i = 0; i < 5; i++) await (await device.connect(server)).close()
  })

  test('LIM-18: before a session stands, a message above the size of a handshake is not gathered', async () => {
    await start({})
    const socket = await upgradeFrom('127.0.0.2')
    if (!(socket instanceof WebSocket)) throw new Error('no socket')
    const closed = new Promise<number>((resolve) => socket.once('close', (code) => resolve(code)))
    // The head of a frame of a MiB, and a few KiB of it: enough to be refused by its length alone.
    const head = Buffer.alloc(14)
    head[0] = 0x82
    head[1] = 0x80 | 127
    head.writeBigUInt64BE(1_048_576n, 2)
    ;(socket as unknown as { _socket: Socket })._socket.write(Buffer.concat([head, Buffer.alloc(4096)]))
    expect(await closed).toBe(1009)
  })

  test('LIM-18: a session that stands may send the largest frame there is', async () => {
    await start({})
    const [device] = (await createAccount(server)).devices as [TestDevice]
    const session = await device.connect(server)
    const large = await sealLarge(device, 3, 250_000)
    session.publish(large.map(({ wire }) => wire))
    await session.until('the receipts', () => session.receipts.length === 3)
    session.sendFrame(new Uint8Array(session.established.limits.max_frame + 1))
    expect((await session.closed).code).toBe(4413)
  })
})
