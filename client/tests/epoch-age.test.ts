// Key epochs that end by themselves: after 30 days, once, by a manager, whoever else has the same thought.

import { describe, expect, test } from 'vitest'
import { createEpochWatch, untilRotation } from '../src/account/epoch-age.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import { createManualClock } from './support/manual-clock.ts'
import { createFirstDevice, createNextDevice, type TestDevice, take, text } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

describe('the age of an epoch', () => {
  const facts = { nowMs: 100 * DAY_MS, startedAtMs: 100 * DAY_MS, draw: 0, isMakerActive: true }

  test('DEV-8: is over after 30 days and a part of another that each device draws', () => {
    expect(untilRotation(facts)).toBe(30 * DAY_MS)
    expect(untilRotation({ ...facts, draw: 0.5 })).toBe(30.5 * DAY_MS)
    expect(untilRotation({ ...facts, nowMs: 130 * DAY_MS })).toBe(0)
  })

  test('DEV-8: is over at once when its maker is no device any more', () => {
    expect(untilRotation({ ...facts, isMakerActive: false })).toBe(0)
  })
})

describe('a manager', () => {
  const live = async (...devices: TestDevice[]): Promise<void> => {
    for (const { client } of devices) client.start()
    await Promise.all(devices.map(({ client }) => client.whenLive()))
  }
  /** Comes back after so many days, as a device does that was switched off. */
  const comeBack = async (device: TestDevice, days: number): Promise<void> => {
    await device.restart()
    device.clock.advance(days * DAY_MS)
    await live(device)
  }
  const settled = (server: TestServer, epoch: number): Promise<void> =>
    until(() => server.state!.epoch.n === epoch, `epoch ${epoch}`)

  test('DEV-8: rotates after 30 days, and goes on publishing', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server)
    const second = await createNextDevice(server, first)
    await live(first, second)
    await comeBack(first, 29)
    await first.client.publish('notes', text('before'))
    await first.client.flush()
    expect(server.state!.epoch.n).toBe(1)
    await comeBack(first, 1)
    await settled(server, 2)
    await first.client.publish('notes', text('after'))
    expect(await take(second.client, 'notes', 2)).toEqual(['before', 'after'])
    await comeBack(first, 1)
    await first.client.publish('notes', text('again'))
    await first.client.flush()
    expect(server.state!.epoch.n).toBe(2)
  })

  test('DEV-8: that stays online looks again every hour, and no sooner after an attempt that failed', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server)
    await live(first)
    const clock = createManualClock()
    const attempts: number[] = []
    const watch = createEpochWatch({
      store: createMemoryStore(),
      clock,
      random: () => 0.25,
      book: first.client.device.book,
      ownDeviceId: first.identity.deviceId,
      canOpen: () => true,
      guard: (task) => task(),
      rotate: async (isDue) => {
        expect(isDue(server.state!)).toBe(true)
        attempts.push(clock.now())
        throw new Error('the server does not take it')
      },
    })
    const begunAtMs = clock.now()
    watch.consider()
    await until(() => clock.waiting === 1, 'the first plan')
    for (let hour = 1; hour < 30.25 * 24; hour++) {
      clock.advance(HOUR_MS)
      await until(() => clock.waiting === 1, 'the next plan')
    }
    expect(attempts).toEqual([])
    clock.advance(HOUR_MS)
    await until(() => attempts.length === 1, 'the first attempt')
    expect(attempts).toEqual([begunAtMs + 30.25 * DAY_MS])
    await until(() => clock.waiting === 1, 'the plan after the failure')
    for (let i = 0; i < 3; i++) watch.consider()
    await until(() => clock.waiting === 1, 'the same plan again')
    clock.advance(HOUR_MS)
    await until(() => attempts.length === 2, 'the second attempt')
    watch.cancel()
    await until(() => clock.waiting === 0, 'the end')
  })

  test('DEV-8: leaves it to the other when both come at once, and a member never does it', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server)
    const second = await createNextDevice(server, first)
    const member = await createNextDevice(server, first)
    await live(first, second)
    await first.client.changeRole({ deviceId: second.identity.deviceId, role: 'manager' })
    await Promise.all([first.client.close(), second.client.close()])
    await comeBack(member, 40)
    await member.client.publish('notes', text('x'))
    await member.client.flush()
    expect(server.state!.epoch.n).toBe(1)
    await Promise.all([comeBack(first, 40), comeBack(second, 40)])
    await settled(server, 2)
    for (const { client } of [first, second]) {
      await client.publish('notes', text('y'))
      await client.flush()
    }
    expect(server.state!).toMatchObject({ epoch: { n: 2 }, seq: 4 })
  })

  test('DEV-8: by hand it rotates now', async () => {
    const server = createTestServer()
    const first = await createFirstDevice(server)
    await live(first)
    expect(await first.client.rotateEpoch()).toBe(2)
    expect(await first.client.rotateEpoch()).toBe(3)
    expect(first.client.device.epochKeys.secretOf(3)).toBeDefined()
  })
})
