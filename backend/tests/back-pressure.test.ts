// Peers that take nothing, over real sockets (P5): what they cost, whom they harm, and what they find when they read
// again.

import { afterEach, describe, expect, test } from 'vitest'
import { growthPerRound, measureMemory, readMetric, until } from './back-pressure/scene.ts'
import {
  createStoppedReader,
  ONE_PAGE_BYTES,
  ROUND_BYTES,
  range,
  SEND_BUFFER_BYTES,
  type StoppedReader,
  seqsOf,
} from './back-pressure/stopped-reader.ts'
import { follow, roundTrip } from './event-ordering/publishing.ts'
import { createAccount } from './support/account.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const ROUNDS = 12

describe('a reader that stops', () => {
  let scene: StoppedReader
  afterEach(() => scene?.server.close())

  test('P5: costs its bound and one page however much comes, harms nobody, and gets all in order later', {
    timeout: 180_000,
  }, async () => {
    scene = await createStoppedReader({})
    const { server, asleep } = scene
    await scene.publishUntilFull()
    const memoryByRound: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      await scene.publishRound()
      memoryByRound.push(await measureMemory())
      await scene.passBetweenStrangers()
    }
    expect(scene.worstBytes).toBeGreaterThan(SEND_BUFFER_BYTES)
    expect(scene.worstBytes).toBeLessThanOrEqual(SEND_BUFFER_BYTES + ONE_PAGE_BYTES)
    // What does not wait in the send buffer waits nowhere else: of a round's bytes nothing stays.
    expect(growthPerRound(memoryByRound)).toBeLessThan(ROUND_BYTES / 8)
    expect(await readMetric(server, 'valise_connections_behind')).toBe(1)

    asleep.socket.resume()
    await asleep.until('everything', () => asleep.through === scene.published)
    expect(seqsOf(asleep)).toEqual(range(1, scene.published))
    await roundTrip(asleep)
    await until('no connection to be behind', async () => (await readMetric(server, 'valise_connections_behind')) === 0)
    expect(await scene.bufferedBytes()).toBe(0)
  })

  test('P5: is closed with 4420 when it takes nothing for too long, and finds all of it when it is back', async () => {
    scene = await createStoppedReader({ VALISE_SLOW_CONSUMER_MS: '1000' })
    const { server, asleep } = scene
    await scene.publishUntilFull()
    await until('the close', async () => (await readMetric(server, 'valise_closes_total', { code: '4420' })) === 1)
    asleep.socket.resume()
    expect((await asleep.closed).code).toBe(4420)
    await scene.publishRound()
    const back = await follow(server, scene.sleeper, asleep.through)
    await back.until('the rest', () => back.through === scene.published)
    expect(seqsOf(asleep, back)).toEqual(range(1, scene.published))
    expect(await readMetric(server, 'valise_sockets_paused')).toBe(0)
  })
})

describe('a peer that asks and never reads', () => {
  /** So that an answer with the device log is large: the kernel takes up to tens of MiB before the server's bound. */
  const DEVICES = 45
  const ASKED_AT_ONCE = 16
  const PINGS = 10_000
  let server: TestServer
  const bufferedBytes = (): Promise<number> => readMetric(server, 'valise_send_buffered_bytes')
  afterEach(() => server?.close())

  test('P5: is asked nothing more above its bound, and gets every answer when it reads', {
    timeout: 180_000,
  }, async () => {
    server = await startTestServer({
      database: 'postgres',
      // Without the sweeps of heads the only queries are those of the requests.
      flags: { VALISE_SEND_BUFFER_BYTES: String(SEND_BUFFER_BYTES), VALISE_HEAD_POLL_MS: '600000' },
    })
    const [device, other] = (await createAccount(server, { devices: DEVICES })).devices
    const answers = { pong: 0, device_log: 0, rate_limited: 0 }
    const session = await device!.connect(server, {
      onMessage: (message) => {
        if (message.type === 'pong' || message.type === 'device_log') answers[message.type]++
        if (message.type === 'error' && message.code === 'rate_limited') answers.rate_limited++
      },
    })
    const bystander = await follow(server, other!)
    session.socket.pause()
    let asked = 0
    const isPaused = async (): Promise<boolean> => (await readMetric(server, 'valise_sockets_paused')) === 1
    await until('the server to stop reading', async () => {
      const queries = await readMetric(server, 'database_queries_total')
      for (let i = 0; i < ASKED_AT_ONCE; i++) {
        session.send({ type: 'fetch_device_log', request_id: ++asked, after_seq: null })
      }
      // Each answer is made of two queries.
      const isAnswered = async () => (await readMetric(server, 'database_queries_total')) >= queries + 2 * ASKED_AT_ONCE
      await until('some answers', async () => (await isAnswered()) || (await isPaused()))
      return isPaused()
    })
    for (let id = 0; id < PINGS; id++) session.send({ type: 'ping', id })
    // Whatever the server reads, it has read by then.
    for (let i = 0; i < 5; i++) await roundTrip(bystander)
    const worst = await bufferedBytes()
    expect(worst).toBeGreaterThan(SEND_BUFFER_BYTES)
    expect(worst).toBeLessThanOrEqual(SEND_BUFFER_BYTES + ONE_PAGE_BYTES)

    session.socket.resume()
    await session.until(
      'every answer',
      () => answers.pong === PINGS && answers.device_log + answers.rate_limited === asked,
    )
    expect(await readMetric(server, 'valise_sockets_paused')).toBe(0)
  })
})
