// What becomes of the times and limits that a server names, and of a device whose server names absurd ones: counted over
// simulated hours (SES-7).

import { DEFAULT_LIMITS, type ServerMessage } from '@valise/protocol'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { boundLog, type ClientLogEntry } from '../src/client-log.ts'
import { systemClock } from '../src/clock.ts'
import { boundMessage, boundSessionEnd } from '../src/server-times.ts'
import { publishAll } from './support/device-pair.ts'
import { createManualClock, type ManualClock } from './support/manual-clock.ts'
import { createFirstDevice } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const HOUR_MS = 3_600_000

describe('the bounds of what a server names', () => {
  test.each([0, 1, 249, 250, 5000, HOUR_MS, HOUR_MS + 1, 2 ** 31, Number.MAX_SAFE_INTEGER])(
    'SES-7: %d ms is a wait between 250 ms and an hour in every message',
    (ms) => {
      const bounded = Math.min(Math.max(ms, 250), HOUR_MS)
      const request_id = 1
      expect(boundMessage({ type: 'draining', reconnect_after_ms: ms })).toMatchObject({ reconnect_after_ms: bounded })
      const messages: ServerMessage[] = [
        { type: 'unavailable', retry_after_ms: ms },
        { type: 'error', code: 'rate_limited', retry_after_ms: ms },
        { type: 'refused', device_seq: 1, code: 'rate_limited', retry_after_ms: ms },
      ]
      for (const message of messages) expect(boundMessage(message)).toMatchObject({ retry_after_ms: bounded })
      expect(boundMessage({ type: 'pairing_opened', request_id, nameplate: 1, lifetime_ms: ms })).toMatchObject({
        lifetime_ms: bounded,
      })
    },
  )

  test('SES-7: a session ends within a day', () => {
    expect([-1, 4 * HOUR_MS, Number.MAX_SAFE_INTEGER].map(boundSessionEnd)).toEqual([250, 4 * HOUR_MS, 24 * HOUR_MS])
  })

  test('LIM-8: announced limits are never nothing, and never more than the protocol has', () => {
    const established = {
      type: 'session_established',
      session_id: new Uint8Array(16),
      user_id: new Uint8Array(32) as never,
      device_id: new Uint8Array(16) as never,
      server_time: 1,
      expires_at: 1,
      device_log_seq: 0,
      device_log_head: new Uint8Array(32),
      key_epoch: 1,
      log_epoch: new Uint8Array(16),
      log_epoch_at: 0,
      last_device_seq: 0,
      head: 0,
    } as const
    const { max_payload, max_frame, max_batch_events } = DEFAULT_LIMITS
    for (const [told, believed] of [
      [0, { max_payload: 1, max_frame: 1, max_batch_events: 1 }],
      [2 ** 32 - 1, { max_payload, max_frame, max_batch_events }],
    ] as const) {
      const limits = { ...DEFAULT_LIMITS, max_payload: told, max_frame: told, max_batch_events: told }
      expect(boundMessage({ ...established, limits })).toMatchObject({ limits: believed })
    }
  })
})

describe('the clock', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  test('SES-7: a timer that the platform cannot count is made of several, and ends when it should', () => {
    const delayMs = 2 ** 31 + 5000
    let fired = 0
    systemClock.after(delayMs, () => {
      fired += 1
    })
    vi.advanceTimersByTime(delayMs - 1)
    expect(fired).toBe(0)
    vi.advanceTimersByTime(1)
    expect([fired, vi.getTimerCount()]).toEqual([1, 0])
    const cancel = systemClock.after(Number.MAX_SAFE_INTEGER, () => {
      fired += 1
    })
    vi.advanceTimersByTime(2 ** 31)
    cancel()
    expect([fired, vi.getTimerCount()]).toEqual([1, 0])
  })
})

test('SES-7: entries of one kind are written ten times a minute, and how many there were is said', () => {
  const clock = createManualClock()
  const written: ClientLogEntry[] = []
  const log = boundLog((entry) => void written.push(entry), clock)
  for (let i = 0; i < 1000; i++) log({ level: 'warn', event: 'client.error.receive', code: 'unavailable' })
  log({ level: 'warn', event: 'client.error.receive', code: 'rate_limited' })
  expect(written).toHaveLength(11)
  clock.advance(60_000)
  log({ level: 'warn', event: 'client.error.receive', code: 'unavailable' })
  expect(written.at(-1)).toMatchObject({ code: 'unavailable', suppressed: 990 })
})

describe('a server that hurries its devices', () => {
  /** One at once in thirty seconds, and one in fifteen, the mean of a back-off that has reached its cap. */
  const MAX_HANDSHAKES_AN_HOUR = 120 + 240
  const HOURS = 2

  /** Lets everything happen that needs no time. */
  const settle = async (isBusy: () => boolean): Promise<void> => {
    for (let turns = 0; turns < 3 || (isBusy() && turns < 300); turns++) {
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  /** Handshakes in the simulated hours; gives up counting when there are far too many. */
  async function countHandshakes(server: TestServer): Promise<number> {
    let seed = 1
    const random = (): number => {
      seed = (seed * 16_807) % 2_147_483_647
      return seed / 2_147_483_647
    }
    const { client, clock } = await createFirstDevice(server, { random })
    server.connections = 0
    client.start()
    const isBusy = (): boolean => client.state().type === 'connecting' || client.state().type === 'replaying'
    for (let passedMs = 0; passedMs < HOURS * HOUR_MS; passedMs += 500) {
      await settle(isBusy)
      if (server.connections > 2 * HOURS * MAX_HANDSHAKES_AN_HOUR) break
      clock.advance(500)
    }
    await client.close()
    return server.connections
  }

  const after =
    (type: 'session_established' | 'caught_up', word: ServerMessage) =>
    (server: TestServer): void => {
      server.distort = (message) => (message.type === type ? [message, word] : [message])
    }
  const closeAfter =
    (type: 'session_established' | 'caught_up') =>
    (server: TestServer): void => {
      server.distort = (message) => {
        if (message.type === type) {
          queueMicrotask(() => {
            for (const peer of server.peers) peer.close(1001, 'Session key rotation required')
          })
        }
        return [message]
      }
    }

  test.each<[string, (server: TestServer) => void]>([
    [
      'session_expiring{0} after each greeting',
      after('session_established', { type: 'session_expiring', expires_at: 0 }),
    ],
    ['session_expiring{0} once live', after('caught_up', { type: 'session_expiring', expires_at: 0 })],
    ['draining{0} after each greeting', after('session_established', { type: 'draining', reconnect_after_ms: 0 })],
    ['a close for new keys after each greeting', closeAfter('session_established')],
    ['a close for new keys once live', closeAfter('caught_up')],
    [
      'an error after each greeting',
      after('session_established', { type: 'error', code: 'unavailable', retry_after_ms: 0 }),
    ],
  ])('SES-7: %s makes no storm of handshakes', { timeout: 60_000 }, async (_name, arrange) => {
    const server = createTestServer()
    const started = await createScene(server, arrange)
    expect(started).toBeLessThanOrEqual(HOURS * MAX_HANDSHAKES_AN_HOUR)
    // It does come back.
    expect(started).toBeGreaterThan(HOURS * 10)
  })

  const createScene = (server: TestServer, arrange: (server: TestServer) => void): Promise<number> => {
    const { distort } = server
    let isArranged = false
    // The account is made first, by a session of its own.
    server.distort = (message) => {
      if (message.type === 'registered' && !isArranged) {
        isArranged = true
        server.distort = distort
        queueMicrotask(() => arrange(server))
      }
      return [message]
    }
    return countHandshakes(server)
  }

  /** Publishes one event to a server that never takes it, and counts how often it was sent. */
  async function countSendings(
    answer: (deviceSeq: number) => ServerMessage,
  ): Promise<(clockMs: number) => Promise<number>> {
    const server = createTestServer()
    let sent = 0
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      sent += 1
      peer.send(answer(1))
      return true
    }
    const { client, clock }: { client: Awaited<ReturnType<typeof createFirstDevice>>['client']; clock: ManualClock } =
      await createFirstDevice(server)
    client.start()
    await publishAll(client, ['a'])
    await until(() => sent === 1, 'the first sending')
    return async (ms) => {
      sent = 0
      for (let passedMs = 0; passedMs < ms && sent < 10_000; passedMs += 50) {
        await settle(() => false)
        clock.advance(50)
      }
      await settle(() => false)
      return sent
    }
  }

  test.each<[string, (retryAfterMs: number) => (deviceSeq: number) => ServerMessage]>([
    ['unavailable', (retry_after_ms) => () => ({ type: 'unavailable', retry_after_ms })],
    [
      'rate_limited',
      (retry_after_ms) => (device_seq) => ({ type: 'refused', device_seq, code: 'rate_limited', retry_after_ms }),
    ],
  ])(
    'SES-7: %s with no time is sent again four times a second, with an absurd one after an hour',
    async (_name, of) => {
      const hurried = await countSendings(of(0))
      const inMinute = await hurried(60_000)
      expect(inMinute).toBeLessThanOrEqual(240)
      expect(inMinute).toBeGreaterThan(100)
      const delayed = await countSendings(of(Number.MAX_SAFE_INTEGER))
      // The session is pinged meanwhile, and the server answers.
      expect(await delayed(HOUR_MS - 60_000)).toBe(0)
      expect(await delayed(120_000)).toBe(1)
    },
  )
})
