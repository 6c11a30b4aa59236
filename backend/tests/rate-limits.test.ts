// Limits at work over real sockets: what a device, a user and an address are answered when they want too much, and that
// a client which only goes on gets everything stored.

import { connect } from 'node:net'
import { DEFAULT_LIMITS, toDeviceId } from '@valise/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../client/src/clock.ts'
import type { RawConfig } from '../src/config.ts'
import { follow, haveReceipts, wiresOf } from './event-ordering/publishing.ts'
import { createAccount } from './support/account.ts'
import { waitFor } from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'
import { openSdkDevice } from './support/sdk-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

let server: TestServer
const start = async (flags: RawConfig): Promise<TestServer> => {
  server = await startTestServer({ database: 'postgres', flags })
  return server
}
afterEach(() => server?.close())

const limited = (scope: string): Promise<number> => server.app.metrics.read('valise_rate_limited_total', { scope })
const haveAnswers = (session: RawSession, count: number): Promise<void> =>
  session.until(`${count} answers`, () => session.receipts.length + session.refusals.length >= count)
const seqsOf = (session: RawSession): number[] => session.receipts.map(([deviceSeq]) => deviceSeq)
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe('events', () => {
  test('LIM-1, LIM-3: every event over the limit is answered, with a time after which it passes', async () => {
    await start({ VALISE_DEVICE_EVENTS_PER_S: '10', VALISE_DEVICE_EVENTS_BURST: '10' })
    const device = (await createAccount(server)).devices[0]!
    const session = await follow(server, device)
    const events = await device.sealMany('a', 14)
    session.publish(wiresOf(events))
    await haveAnswers(session, 14)
    expect(seqsOf(session)).toEqual(range(1, 10))
    expect(session.refusals.map(({ device_seq }) => device_seq)).toEqual(range(11, 14))
    for (const { code, retry_after_ms } of session.refusals) {
      expect(code).toBe('rate_limited')
      expect(retry_after_ms).toBeGreaterThan(0)
      expect(retry_after_ms).toBeLessThanOrEqual(400)
    }
    expect(await limited('device')).toBe(4)
    expect(session.closeFrame).toBeUndefined()
  })

  test('LIM-3: what follows a refused event is told to come later too, not that it left a gap', async () => {
    await start({ VALISE_DEVICE_EVENTS_PER_S: '1000', VALISE_DEVICE_EVENTS_BURST: '5' })
    const device = (await createAccount(server)).devices[0]!
    const session = await follow(server, device)
    const events = await device.sealMany('a', 12)
    session.publish(wiresOf(events.slice(0, 8)))
    await haveAnswers(session, 8)
    const stored = session.receipts.length
    // By now there are tokens again, and the next message would only be a gap.
    session.publish(wiresOf(events.slice(8)))
    await haveAnswers(session, 12)
    expect(session.refusals.map(({ code }) => code)).toEqual(Array.from({ length: 12 - stored }, () => 'rate_limited'))
    expect(seqsOf(session)).toEqual(range(1, stored))
  })

  test('LIM-1: the devices of a user share a limit, and another user has his own', async () => {
    await start({ VALISE_USER_EVENTS_PER_S: '1', VALISE_USER_EVENTS_BURST: '10' })
    const [first, second] = (await createAccount(server, { devices: 2 })).devices
    const stranger = (await createAccount(server)).devices[0]!
    const [a, b, c] = await Promise.all([first!, second!, stranger].map((device) => follow(server, device)))
    a!.publish(wiresOf(await first!.sealMany('a', 8)))
    await haveReceipts(a!, 8)
    b!.publish(wiresOf(await second!.sealMany('a', 8)))
    await haveAnswers(b!, 8)
    expect(b!.receipts.length).toBeLessThan(8)
    expect(b!.refusals[0]).toMatchObject({ code: 'rate_limited' })
    expect(await limited('user')).toBe(b!.refusals.length)
    c!.publish(wiresOf(await stranger.sealMany('a', 8)))
    await haveReceipts(c!, 8)
  })

  test('LIM-9: a long checkpoint counts as an event, and as one more for every eight positions', async () => {
    await start({ VALISE_DEVICE_EVENTS_PER_S: '1', VALISE_DEVICE_EVENTS_BURST: '50' })
    const device = (await createAccount(server)).devices[0]!
    const session = await follow(server, device)
    const positions = Array.from({ length: 512 }, (_, i) => {
      const deviceId = toDeviceId(Buffer.concat([Buffer.alloc(14), Buffer.from([i >> 8, i & 255])]))
      if (deviceId === undefined) throw new Error('16 bytes are no device id')
      return { deviceId, deviceSeq: 1, chain: new Uint8Array(32) }
    })
    const checkpoint = await device.sealAside('a', { header: { checkpoint: positions } })
    session.publish([checkpoint.wire])
    await haveAnswers(session, 1)
    expect(session.refusals).toMatchObject([{ code: 'checkpoint_false' }])
    session.publish(wiresOf(await device.sealMany('a', 1)))
    await haveAnswers(session, 2)
    // 50 - 1 - 64: one event passes 16 seconds later.
    expect(session.refusals[1]).toMatchObject({ code: 'rate_limited' })
    expect(session.refusals[1]?.retry_after_ms).toBeGreaterThan(10_000)
    expect(session.refusals[1]?.retry_after_ms).toBeLessThanOrEqual(16_000)
  })

  test('LIM-1: a new session of a device finds the limit where the last one left it', async () => {
    await start({ VALISE_DEVICE_EVENTS_PER_S: '1', VALISE_DEVICE_EVENTS_BURST: '50' })
    const device = (await createAccount(server)).devices[0]!
    const session = await follow(server, device)
    session.publish(wiresOf(await device.sealMany('a', 50)))
    await haveReceipts(session, 50)
    await session.close()
    const next = await follow(server, device)
    next.publish(wiresOf(await device.sealMany('a', 40)))
    await haveAnswers(next, 40)
    expect(next.refusals.length).toBeGreaterThan(0)
  })
})

test('LIM-8: every limit is announced', async () => {
  await start({
    VALISE_DEVICE_EVENTS_PER_S: '7',
    VALISE_DEVICE_EVENTS_BURST: '70',
    VALISE_USER_EVENTS_PER_S: '8',
    VALISE_USER_EVENTS_BURST: '80',
    VALISE_DEVICE_BYTES_PER_S: '900000',
    VALISE_DEVICE_BYTES_BURST: '9000000',
    VALISE_USER_BYTES_PER_S: '1000000',
    VALISE_USER_BYTES_BURST: '4294967295',
    VALISE_HANDSHAKES_PER_MIN: '900',
    VALISE_HANDSHAKES_BURST: '91',
    VALISE_HANDSHAKE_TIMEOUT_MS: '12000',
    VALISE_SEND_BUFFER_BYTES: '65536',
    VALISE_MAX_DEVICE_LOG_ENTRIES: '33',
    VALISE_MAX_STREAMS: '44',
    VALISE_USER_BYTES: '8589934592',
  })
  const session = await (await createAccount(server)).devices[0]!.connect(server)
  expect(session.established.limits).toEqual({
    ...DEFAULT_LIMITS,
    device_events_per_s: 7,
    device_events_burst: 70,
    user_events_per_s: 8,
    user_events_burst: 80,
    device_bytes_per_s: 900_000,
    device_bytes_burst: 9_000_000,
    user_bytes_per_s: 1_000_000,
    user_bytes_burst: 4_294_967_295,
    handshakes_per_min: 900,
    handshakes_burst: 91,
    handshake_timeout_ms: 12_000,
    send_buffer_bytes: 65_536,
    max_device_log_entries: 33,
    max_streams: 44,
    max_user_bytes: 8 * 1024 ** 3,
  })
  session.drop()
})

test('LIM-3, P4: two clients far over the limit of their user end with all stored, in order, once, and without an alarm', {
  timeout: 180_000,
}, async () => {
  const EVENTS = 3000
  await start({ VALISE_USER_EVENTS_PER_S: '2500', VALISE_USER_EVENTS_BURST: '300' })
  const { devices } = await createAccount(server, { devices: 2 })
  // Each keeps to the rate, so that both together are over it.
  const [one, other] = await Promise.all(devices.map((device) => openSdkDevice(server, device, systemClock)))
  const both = [one!, other!]
  try {
    await Promise.all(range(1, EVENTS).flatMap((n) => both.map((device) => device.publish(String(n)))))
    await Promise.all(both.map(({ client }) => client.flush(AbortSignal.timeout(150_000))))
    for (const { receipts } of both) {
      expect(receipts.map(({ deviceSeq }) => deviceSeq)).toEqual(range(1, EVENTS))
    }
    const streamSeqs = both.flatMap(({ receipts }) => receipts.map(({ streamSeq }) => streamSeq))
    expect(streamSeqs.sort((a, b) => a - b)).toEqual(range(1, 2 * EVENTS))
    await waitFor(
      'each to have what the other wrote',
      async () => Math.min(one!.bodies.length, other!.bodies.length),
      (count) => count >= EVENTS,
    )
    for (const { bodies, states } of both) {
      expect(bodies).toEqual(range(1, EVENTS).map(String))
      expect(states).not.toContain('stopped')
    }
    expect(await limited('user')).toBeGreaterThan(0)
    expect(await server.app.metrics.read('valise_closes_total', { code: '4429' })).toBe(0)
  } finally {
    await Promise.all(both.map((device) => device.close()))
  }
})

interface HttpAnswer {
  readonly status: number
  readonly head: string
  readonly body: string
}

/** Asks for a WebSocket and reads the HTTP answer; the socket is cut when it was let in. */
function requestUpgrade(forwardedFor?: string): Promise<HttpAnswer> {
  const { port, hostname } = new URL(server.url)
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname)
    let text = ''
    socket.on('error', reject)
    socket.on('close', () => {
      const [head = '', body = ''] = text.split('\r\n\r\n')
      resolve({ status: Number(head.split(' ')[1]), head, body })
    })
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      if (text.startsWith('HTTP/1.1 101')) socket.destroy()
    })
    socket.write(
      [
        'GET / HTTP/1.1',
        `Host: ${hostname}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
        ...(forwardedFor === undefined ? [] : [`X-Forwarded-For: ${forwardedFor}`]),
        '\r\n',
      ].join('\r\n'),
    )
  })
}

describe('handshakes', () => {
  const FLAGS = { VALISE_HANDSHAKES_PER_MIN: '2', VALISE_HANDSHAKES_BURST: '3' }

  test('LIM-2, LIM-3: an address over the limit is answered 429 before the upgrade, with the time to wait', async () => {
    await start(FLAGS)
    const answers: HttpAnswer[] = []
    for (let i = 0; i < 5; i++) answers.push(await requestUpgrade())
    expect(answers.map(({ status }) => status)).toEqual([101, 101, 101, 429, 429])
    const { head, body } = answers[4]!
    const retryAfterS = Number(/^retry-after: (\d+)$/im.exec(head)![1])
    expect(retryAfterS).toBeGreaterThan(0)
    expect(retryAfterS).toBeLessThanOrEqual(30)
    expect(JSON.parse(body)).toEqual({ code: 'rate_limited', retry_after_ms: expect.any(Number) })
    expect(await limited('address')).toBe(2)
    expect(await server.app.metrics.read('valise_handshakes_total', { result: 'rate_limited' })).toBe(2)
  })

  test('LIM-4: behind a trusted proxy each forwarded address has its own limit', async () => {
    await start({ ...FLAGS, VALISE_TRUSTED_PROXIES: '127.0.0.0/8, ::1' })
    const statuses: number[] = []
    for (const address of ['198.51.100.1', '198.51.100.1', '198.51.100.1', '198.51.100.1', '198.51.100.2']) {
      statuses.push((await requestUpgrade(`203.0.113.9, ${address}`)).status)
    }
    expect(statuses).toEqual([101, 101, 101, 429, 101])
  })

  test('LIM-4: a forwarded address from a peer that is not trusted never counts', async () => {
    await start({ ...FLAGS, VALISE_TRUSTED_PROXIES: '10.0.0.0/8' })
    const statuses: number[] = []
    for (let i = 0; i < 5; i++) statuses.push((await requestUpgrade(`198.51.100.${i}`)).status)
    expect(statuses).toEqual([101, 101, 101, 429, 429])
  })
})
