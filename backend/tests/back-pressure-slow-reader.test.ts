// Who is too slow (P5), by a clock that the test moves, over real sockets: one that takes nothing for a minute is closed
// and told why; one that takes a little, however long a page lasts, is never closed.

import { afterEach, beforeEach, expect, test } from 'vitest'
import { type HeldWay, startHeldWay } from './back-pressure/held-way.ts'
import { readMetric, until } from './back-pressure/scene.ts'
import {
  createMovedClock,
  createStoppedReader,
  range,
  type StoppedReader,
  seqsOf,
} from './back-pressure/stopped-reader.ts'
import { roundTrip } from './event-ordering/publishing.ts'

/** The default of `VALISE_SLOW_CONSUMER_MS`. */
const SLOW_CONSUMER_MS = 60_000
/** Less than that, and longer than a session may be silent before it is pinged. */
const STEP_MS = 50_000
const STEPS = 8
/** Over this time neither a page is written nor takes the kernel more: it does so by the MiB. */
const A_LITTLE_BYTES = 300 * 1024

let scene: StoppedReader
let way: HeldWay
let clock: ReturnType<typeof createMovedClock>

beforeEach(async () => {
  clock = createMovedClock()
  scene = await createStoppedReader(
    {},
    {
      now: clock.now,
      wayTo: async (url) => {
        way = await startHeldWay(url)
        return way.url
      },
    },
  )
  way.hold()
  await scene.publishUntilFull()
  // So that the server has seen how much was taken until here.
  await clock.pass(scene, STEP_MS / 2)
})
afterEach(async () => {
  await way?.close()
  await scene?.server.close()
})

const closedAsSlow = (): Promise<number> => readMetric(scene.server, 'valise_closes_total', { code: '4420' })

test('P5: a reader that takes nothing for its time is closed with 4420', async () => {
  await clock.pass(scene, SLOW_CONSUMER_MS / 2)
  expect(await closedAsSlow()).toBe(0)
  await clock.pass(scene, SLOW_CONSUMER_MS)
  await until('the close', async () => (await closedAsSlow()) === 1)
  way.release()
  expect((await scene.asleep.closed).code).toBe(4420)
})

test('P5: a reader that takes a little steadily is never closed, and gets everything once, in order', {
  timeout: 120_000,
}, async () => {
  const { asleep } = scene
  for (let step = 0; step < STEPS; step++) {
    way.pass(A_LITTLE_BYTES)
    await until('a little to be taken', () => way.allowedBytes === 0)
    await scene.publishUntilFull()
    await clock.pass(scene, STEP_MS)
    expect([asleep.closeFrame, await closedAsSlow()]).toEqual([undefined, 0])
  }
  way.release()
  await asleep.until('everything', () => asleep.through === scene.published)
  expect(seqsOf(asleep)).toEqual(range(1, scene.published))
  await roundTrip(asleep)
})
