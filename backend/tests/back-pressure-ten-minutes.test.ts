// P5 over ten minutes, by a clock that the test moves, over real sockets: a reader that stopped for so long, and whose
// time allows it, costs bounded memory, harms nobody, and gets everything in order, once, when it reads again.

import { afterEach, beforeEach, expect, test } from 'vitest'
import { growthPerRound, measureMemory } from './back-pressure/scene.ts'
import {
  createMovedClock,
  createStoppedReader,
  ONE_PAGE_BYTES,
  ROUND_BYTES,
  range,
  SEND_BUFFER_BYTES,
  type StoppedReader,
  seqsOf,
} from './back-pressure/stopped-reader.ts'
import { roundTrip } from './event-ordering/publishing.ts'

const TEN_MINUTES_MS = 600_000
/** Longer than a session may be silent before it is pinged. */
const STEP_MS = 50_000
const STEPS = TEN_MINUTES_MS / STEP_MS

let scene: StoppedReader
let clock: ReturnType<typeof createMovedClock>
beforeEach(() => {
  clock = createMovedClock()
})
afterEach(() => scene?.server.close())

const begin = async (flags: Readonly<Record<string, string>>): Promise<void> => {
  scene = await createStoppedReader(flags, { now: clock.now })
  await scene.publishUntilFull()
}

/** What a step brings: time, events for everybody, and word between strangers. */
const live = async (ms: number): Promise<number> => {
  await clock.pass(scene, ms)
  await scene.publishRound()
  await scene.passBetweenStrangers()
  return measureMemory()
}

function expectBounded(memoryByStep: readonly number[]): void {
  expect(scene.worstBytes).toBeGreaterThan(SEND_BUFFER_BYTES)
  expect(scene.worstBytes).toBeLessThanOrEqual(SEND_BUFFER_BYTES + ONE_PAGE_BYTES)
  expect(growthPerRound(memoryByStep)).toBeLessThan(ROUND_BYTES / 8)
}

test('P5: a reader that its time allows to stop for ten minutes stays, costs its bound, and gets all in order', {
  timeout: 120_000,
}, async () => {
  await begin({ VALISE_SLOW_CONSUMER_MS: String(2 * TEN_MINUTES_MS) })
  const { asleep } = scene
  const memoryByStep: number[] = []
  for (let step = 0; step < STEPS; step++) memoryByStep.push(await live(STEP_MS))
  expectBounded(memoryByStep)

  asleep.socket.resume()
  await asleep.until('everything', () => asleep.through === scene.published)
  expect(seqsOf(asleep)).toEqual(range(1, scene.published))
  expect(asleep.closeFrame).toBeUndefined()
  await roundTrip(asleep)
  expect(await scene.bufferedBytes()).toBe(0)
})
