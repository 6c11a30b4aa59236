// Sockets that hold on to the server (SES-4, P5): they say nothing, come in crowds, break while they are refused, or ask
// and take no answer. Each ends with its code or is held at a bound, and the others are served.

import { ERRORS, encodeMessage } from '@valise/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import { answerOf, endOf, indexes, startHandshake, within } from './bad-input/handshake-steps.ts'
import { sendRaw, UPGRADE } from './bad-input/raw-http.ts'
import { until } from './bad-input/server-state.ts'
import { createAccount } from './support/account.ts'
import { dial, type RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer, type TestServerOptions } from './support/server.ts'

let server: TestServer

async function start(flags: TestServerOptions['flags'] = {}): Promise<void> {
  server = await startTestServer({ database: 'postgres', flags })
}
afterEach(() => server?.close())

async function expectPong(session: RawSession, id: number): Promise<void> {
  session.send({ type: 'ping', id })
  await session.until('the pong', () => session.messages.some((said) => said.type === 'pong' && said.id === id))
}

test('SES-1: a handshake that is not finished in time → 4408, at every step of it; sessions stay', async () => {
  await start({ VALISE_HANDSHAKE_TIMEOUT_MS: '300' })
  const [device] = (await createAccount(server)).devices
  const session = await device!.connect(server)
  const silent = await dial(server.url)
  const halfWay = await startHandshake(server, device!)
  halfWay.raw.socket.send(halfWay.client.hello)
  expect(await answerOf(halfWay.raw)).toEqual(expect.any(String))
  const { close: code, text: reason } = ERRORS.handshake_timeout
  for (const raw of [silent, halfWay.raw]) expect(await endOf(raw)).toEqual({ code, reason })
  await expectPong(session, 1)
  await session.close()
})

describe('P5: more sockets than the server takes', () => {
  test('P5: → HTTP 503, until one leaves', async () => {
    await start({ VALISE_MAX_CONNECTIONS: '2' })
    const [first] = [await dial(server.url), await dial(server.url)]
    await expect(dial(server.url)).rejects.toThrow()
    const refused = await sendRaw(server.url, UPGRADE)
    expect(await refused.status()).toBe(503)
    await refused.closed
    first.socket.close()
    await until(async () => expect(await server.app.metrics.read('valise_connections')).toBe(1))
    const next = await dial(server.url)
    expect(next.socket.readyState).toBe(next.socket.OPEN)
  })

  test('P5: who is refused and breaks the connection, or will not close it, takes nothing with him', async () => {
    await start({ VALISE_MAX_CONNECTIONS: '1' })
    const holder = await dial(server.url)
    for (const _attempt of indexes(50)) {
      const refused = await sendRaw(server.url, UPGRADE)
      refused.socket.resetAndDestroy()
      await refused.closed
    }
    const open = await sendRaw(server.url, UPGRADE, { allowHalfOpen: true })
    expect(await open.status()).toBe(503)
    await until(async () => {
      // Nobody reads what is written to a connection that is gone; the peer is told so by a reset.
      open.socket.write('still here')
      expect(open.socket.destroyed).toBe(true)
    })
    expect(holder.socket.readyState).toBe(holder.socket.OPEN)
    expect((await fetch(`${server.app.adminUrl}/live`)).status).toBe(200)
  })
})

describe('P5: a peer that asks and takes no answer', () => {
  const ping = encodeMessage({ type: 'ping', id: 1 })
  const ballast = encodeMessage({ type: 'publish', events: [new Uint8Array(900_000)] })
  const BALLAST_FRAMES = 24
  const EVENTS = 64
  let greedy: RawSession
  let other: RawSession

  /** `greedy` reads nothing more, and what is sent to it fills every buffer on the way. */
  async function stopReading(flags: TestServerOptions['flags']): Promise<void> {
    await start({ VALISE_SEND_BUFFER_BYTES: '16384', ...flags })
    const [publisher, reader] = (await createAccount(server, { devices: 2 })).devices
    greedy = await reader!.connect(server, { cursor: 0 })
    other = await publisher!.connect(server)
    await greedy.until('the replay', () => greedy.isCaughtUp)
    greedy.socket.pause()
    for (const sent of indexes(EVENTS)) {
      other.publish([(await publisher!.seal('notes', { data: new Uint8Array(250_000) })).wire])
      await other.until('the receipt', () => other.receipts.length === sent + 1)
    }
    expect(await server.app.metrics.read('valise_connections_behind')).toBe(1)
  }

  test('P5: is not read either, and gets every answer once it reads again', async () => {
    await stopReading({})
    for (const _frame of indexes(BALLAST_FRAMES)) {
      greedy.sendPayload(ping)
      greedy.sendPayload(ballast)
    }
    let waiting = Number.POSITIVE_INFINITY
    let pingId = 100
    // It stands still: while the other is answered many times, nothing more is taken from this one.
    await until(async () => {
      const before = waiting
      for (const _round of indexes(20)) await expectPong(other, pingId++)
      waiting = greedy.socket.bufferedAmount
      expect(waiting).toBe(before)
    })
    expect(waiting).toBeGreaterThan((BALLAST_FRAMES * ballast.length) / 4)

    greedy.socket.resume()
    await greedy.until('all answers', () => greedy.refusals.length === BALLAST_FRAMES)
    expect(greedy.messages.filter(({ type }) => type === 'pong').length).toBe(BALLAST_FRAMES)
    await greedy.until('all events', () => greedy.events.length === EVENTS)
    await greedy.close()
    await other.close()
  })

  test('SES-4: is closed as too slow when it goes on like that, however much it says', async () => {
    await stopReading({ VALISE_SLOW_CONSUMER_MS: '1000' })
    await until(async () => {
      greedy.sendPayload(ping)
      expect(await server.app.metrics.read('valise_closes_total', { code: '4420' })).toBe(1)
    })
    greedy.socket.resume()
    const { close: code, text: reason } = ERRORS.slow_consumer
    expect(await within('the close', greedy.closed)).toEqual({ code, reason })
    await other.close()
  })
})
