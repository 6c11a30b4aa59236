// The announced rate, kept: no honest server ever has to refuse for it, and nothing waits longer than it must.

import { setImmediate as turn } from 'node:timers/promises'
import { DEFAULT_LIMITS } from '@valise/protocol'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createPace } from '../src/publish/pace.ts'
import { publishAll } from './support/device-pair.ts'
import { createManualClock, type ManualClock } from './support/manual-clock.ts'
import { createFirstDevice } from './support/test-device.ts'
import { createTestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const NOTHING = {
  device_events_per_s: 0,
  device_events_burst: 1,
  user_events_per_s: 0,
  user_events_burst: 1,
  device_bytes_per_s: 0,
  device_bytes_burst: 1,
  user_bytes_per_s: 0,
  user_bytes_burst: 1,
}
const paceOf = (rates: Partial<typeof NOTHING>) => {
  const pace = createPace()
  pace.announced({ ...NOTHING, ...rates })
  // By events alone, each of a hundred bytes.
  const eventsOf = (events: number) => ({ events, bytes: events * 100, firstBytes: 100 })
  return {
    ...pace,
    room: (events: number, nowMs: number) => pace.room(eventsOf(events), nowMs).events,
    waitMs: (events: number, nowMs: number) => pace.waitMs(eventsOf(events), nowMs),
    take: (events: number, nowMs: number) => pace.take(eventsOf(events), nowMs),
  }
}

describe('the pace of publishing', () => {
  test('LIM-1: a burst, less a tenth, then as many as the rate allows, in messages worth sending', () => {
    const pace = paceOf({ device_events_per_s: 200, device_events_burst: 2000 })
    expect(pace.room(512, 0)).toBe(1800)
    pace.take(1800, 0)
    expect(pace.room(512, 0)).toBe(0)
    expect(pace.waitMs(512, 0)).toBe(50)
    expect(pace.room(512, 49)).toBe(0)
    expect(pace.room(512, 50)).toBe(10)
    pace.take(10, 50)
    // Of few there is nothing to gather.
    expect(pace.waitMs(1, 50)).toBe(5)
    expect(pace.room(1, 55)).toBe(1)
  })

  test('LIM-1: the slower of the two limits holds; 0 is none', () => {
    const pace = paceOf({
      device_events_per_s: 200,
      device_events_burst: 100,
      user_events_per_s: 10,
      user_events_burst: 1000,
    })
    expect(pace.room(512, 0)).toBe(90)
    pace.take(90, 0)
    expect(pace.room(512, 1000)).toBe(10)
    const unlimited = paceOf({})
    unlimited.take(1_000_000, 0)
    expect(unlimited.room(1, 0)).toBe(Number.POSITIVE_INFINITY)
    expect(unlimited.waitMs(1, 0)).toBe(0)
  })

  test('LIM-1: a new session finds the bucket where the last one left it, an announcement notwithstanding', () => {
    const pace = paceOf({ device_events_per_s: 10, device_events_burst: 100 })
    pace.take(90, 0)
    pace.announced({ ...NOTHING, device_events_per_s: 10, device_events_burst: 100 })
    expect(pace.room(1, 0)).toBe(0)
    expect(pace.room(1, 100)).toBe(1)
  })

  test('LIM-3: a refusal empties it', () => {
    const pace = paceOf({ device_events_per_s: 10, device_events_burst: 100 })
    pace.empty(0)
    expect([pace.room(1, 0), pace.waitMs(1, 0)]).toEqual([0, 100])
  })

  test('LIM-1: whoever keeps it is never refused by a server whose messages come late by up to a tenth of the burst', () => {
    const steps = fc.array(fc.tuple(fc.nat(400), fc.nat(600), fc.nat(100)), { maxLength: 200 })
    fc.assert(
      fc.property(steps, (plan) => {
        const [perSecond, burst] = [200, 200]
        const pace = paceOf({ device_events_per_s: perSecond, device_events_burst: burst })
        let nowMs = 0
        let server = { tokens: burst, atMs: 0 }
        for (const [pauseMs, wanted, lateMs] of plan) {
          nowMs += pauseMs
          const count = Math.min(wanted, pace.room(wanted, nowMs))
          pace.take(count, nowMs)
          // In order: a message is never there before the one before it.
          const atMs = Math.max(server.atMs, nowMs + lateMs)
          const tokens = Math.min(burst, server.tokens + ((atMs - server.atMs) / 1000) * perSecond) - count
          server = { tokens, atMs }
          expect(tokens).toBeGreaterThanOrEqual(-1e-6)
        }
      }),
    )
  })

  test('LIM-25: bytes are held back like events, whichever of the two is used up', () => {
    const pace = createPace()
    pace.announced({ ...NOTHING, device_bytes_per_s: 1000, device_bytes_burst: 10_000 })
    const waiting = { events: 50, bytes: 50_000, firstBytes: 1000 }
    expect(pace.room(waiting, 0)).toEqual({ events: Number.POSITIVE_INFINITY, bytes: 9000 })
    pace.take({ events: 9, bytes: 9000 }, 0)
    expect(pace.room(waiting, 0)).toEqual({ events: 0, bytes: 0 })
    expect(pace.waitMs(waiting, 0)).toBe(1000)
    expect(pace.room(waiting, 1000)).toMatchObject({ bytes: 1000 })
  })

  test('LIM-25: an event that is larger than the burst goes out of a full bucket, and what follows waits for it', () => {
    const pace = createPace()
    pace.announced({ ...NOTHING, device_bytes_per_s: 100, device_bytes_burst: 1000 })
    const waiting = { events: 2, bytes: 8000, firstBytes: 4000 }
    expect(pace.room(waiting, 0).bytes).toBe(4000)
    pace.take({ events: 1, bytes: 4000 }, 0)
    expect(pace.room(waiting, 0).bytes).toBe(0)
    expect(pace.waitMs(waiting, 0)).toBe(40_000)
  })

  test('LIM-1: what is announced by default is a limit', () => {
    const pace = createPace()
    pace.announced(DEFAULT_LIMITS)
    expect(pace.room({ events: 1, bytes: 100, firstBytes: 100 }, 0)).toEqual({
      events: 1800,
      bytes: Math.floor(DEFAULT_LIMITS.device_bytes_burst * 0.9),
    })
  })
})

/** Time goes on between two looks at it, and a timer may come before its time by it: so do those of a machine. */
function createRestlessClock(earlyMs: number): ManualClock {
  const clock = createManualClock()
  return {
    ...clock,
    now: () => {
      clock.advance(1)
      return clock.now()
    },
    after: (delayMs, task) => clock.after(delayMs - earlyMs, () => queueMicrotask(task)),
  }
}

describe('a client that keeps the pace', () => {
  test('LIM-1: what it holds back is sent, at whatever moment it looks at the time', async () => {
    const rates = { ...NOTHING, device_events_per_s: 125, device_events_burst: 100 }
    const names = Array.from({ length: 150 }, (_, i) => `event ${i}`)
    for (let earlyMs = 0; earlyMs < 8; earlyMs++) {
      const server = createTestServer()
      server.distort = (message) => [
        message.type === 'session_established' ? { ...message, limits: { ...message.limits, ...rates } } : message,
      ]
      const clock = createRestlessClock(earlyMs)
      const { client } = await createFirstDevice(server, { clock })
      await publishAll(client, names)
      client.start()
      // Twice the second that sixty events take at most, in steps that a timer can fall between.
      for (let ms = 0; ms < 2000 && server.events.length < names.length; ms++) {
        clock.advance(1)
        await turn()
      }
      expect(server.events.length, `timers ${earlyMs} ms early`).toBe(names.length)
      await client.close()
    }
  })

  test('LIM-25: it sends no more bytes than are announced, and all of them in the end', async () => {
    const rates = { ...NOTHING, device_bytes_per_s: 10_000, device_bytes_burst: 10_000 }
    const server = createTestServer()
    server.distort = (message) => [
      message.type === 'session_established' ? { ...message, limits: { ...message.limits, ...rates } } : message,
    ]
    const { client, clock } = await createFirstDevice(server)
    const names = Array.from({ length: 60 }, (_, i) => `${i}`.padEnd(900))
    await publishAll(client, names)
    client.start()
    const startedAtMs = clock.now()
    const bytesSent = (): number => server.received.reduce((sum, wire) => sum + wire.length, 0)
    await until(() => {
      if (server.events.length > 0) clock.advance(10)
      expect(bytesSent()).toBeLessThanOrEqual(9000 + (clock.now() - startedAtMs) * 10)
      return server.events.length === names.length
    }, 'the events')
    await client.close()
  })

  test('LIM-3: what was refused for its rate is sent again at the rate, and not as a burst', async () => {
    const rates = { ...NOTHING, device_events_per_s: 4, device_events_burst: 100 }
    const server = createTestServer()
    server.distort = (message) => [
      message.type === 'session_established' ? { ...message, limits: { ...message.limits, ...rates } } : message,
    ]
    const sizes: number[] = []
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      sizes.push(message.events.length)
      if (sizes.length > 1) return false
      for (const device_seq of [1, 2, 3]) {
        peer.send({ type: 'refused', device_seq, code: 'rate_limited', retry_after_ms: 250 })
      }
      return true
    }
    const { client, clock } = await createFirstDevice(server)
    await publishAll(client, ['a', 'b', 'c'])
    client.start()
    await until(() => {
      if (sizes.length > 0) clock.advance(10)
      return server.events.length === 3
    }, 'the events')
    expect(sizes.slice(0, 2)).toEqual([3, 1])
  })
})
