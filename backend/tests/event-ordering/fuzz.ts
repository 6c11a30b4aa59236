// The seeded fuzz: devices of two users publish, lose sockets, move between nodes and come back, while nodes restart,
// announcements go astray and connections to the database die. In the end every device of a user holds the same log,
// without a gap, and a device that starts from nothing reads it too; and no session, superseded ones included, was told
// anything but what is stored. `VALISE_ORDERING_SEEDS=7,8` runs other seeds.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAccount } from '../support/account.ts'
import { createSeededRandom, type SeededRandom } from '../support/seeded-random.ts'
import { createFuzzDevice, type FuzzDevice } from './fuzz-device.ts'
import { expectSoundLog } from './observed-log.ts'
import { expectExactSessions } from './observed-sessions.ts'
import { runSdkSeed } from './sdk-fuzz.ts'
import { letPass, type World } from './world.ts'

const STEPS = 120
const STREAM_NAMES = ['a', 'b', 'c'] as const
export interface FuzzSeeds {
  /** For devices at protocol level. */
  readonly raw: readonly number[]
  /** For devices that run the client SDK. */
  readonly sdk: readonly number[]
}

const seedsOr = (fallback: readonly number[]): readonly number[] => {
  const given = process.env['VALISE_ORDERING_SEEDS']
  return given ? given.split(',').map(Number) : fallback
}

/** One thing happens; the odds say how often. */
async function step(world: World, devices: readonly FuzzDevice[], random: SeededRandom): Promise<void> {
  const device = random.pick(devices)
  const dice = random.below(100)
  if (dice < 55) {
    await device.publish(Array.from({ length: 1 + random.below(8) }, () => random.pick(STREAM_NAMES)))
  } else if (dice < 70) {
    void device.connect(random.pick(world.nodes))
  } else if (dice < 80) {
    device.drop()
  } else if (dice < 83) {
    device.pause()
  } else if (dice < 86) {
    for (const paused of devices) paused.resume()
  } else if (dice < 92) {
    if (random.chance(70)) world.breakBus(random)
    else world.mendBus()
  } else if (dice < 95) {
    world.releaseBus()
  } else if (dice < 97) {
    // A peer that does not read would hold the node's end up until its grace is over.
    for (const paused of devices) paused.resume()
    await random.pick(world.nodes).restart()
  } else {
    await world.killConnections?.()
  }
}

interface FuzzUser {
  readonly devices: readonly FuzzDevice[]
  /** Comes when all is over, and knows nothing. */
  readonly newcomer: FuzzDevice
}

async function createUser(world: World, deviceCount: number, random: SeededRandom): Promise<FuzzUser> {
  const { devices } = await createAccount(world.nodes[0]!, { devices: deviceCount + 1 })
  const [newcomer, ...others] = devices.map((device, i) =>
    createFuzzDevice(`device ${i} of ${deviceCount}`, device, random),
  )
  return { devices: others, newcomer: newcomer! }
}

/** A new session stands while the old one still publishes and is delivered to. */
async function takeOver(world: World, device: FuzzDevice, random: SeededRandom): Promise<void> {
  const publish = () => device.publish(Array.from({ length: 8 }, () => random.pick(STREAM_NAMES)))
  await publish()
  const taking = device.connect(random.pick(world.nodes))
  await publish()
  await taking
}

/** How many sessions ended because a newer one of the device took over. */
const countSuperseded = (devices: readonly FuzzDevice[]): number =>
  devices.flatMap(({ sessions }) => sessions).filter(({ session }) => session.closeFrame?.code === 4405).length

async function runSeed(world: World, seed: number): Promise<void> {
  const random = createSeededRandom(seed)
  world.mendBus()
  const users = await Promise.all([3, 2].map((count) => createUser(world, count, random)))
  const devices = users.flatMap((user) => user.devices)
  for (const device of devices) await device.connect(random.pick(world.nodes))

  await Promise.all(devices.map((device) => takeOver(world, device, random)))
  for (let i = 0; i < STEPS; i++) {
    await step(world, devices, random)
    await letPass(random.below(6))
    expect(devices.flatMap((device) => device.problems)).toEqual([])
  }

  world.mendBus()
  world.releaseBus()
  for (const user of users) {
    const total = user.devices.reduce((sum, { device }) => sum + device.sealed.length, 0)
    expect(total).toBeGreaterThan(0)
    await Promise.all(user.devices.map((device) => device.settle(world.nodes, total)))
    await user.newcomer.settle(world.nodes, total)
    const { log } = user.newcomer
    expectSoundLog(log, total)
    for (const device of user.devices) expect(device.log).toEqual(log)
    await Promise.all(user.devices.map((device) => device.untilOthersEnd()))
    const stored = user.newcomer.sessions.flatMap(({ session }) => session.events)
    for (const { device, sessions } of user.devices) expectExactSessions(device, sessions, stored)
  }
  expect(countSuperseded(devices)).toBeGreaterThan(0)
  for (const device of users.flatMap((user) => [...user.devices, user.newcomer])) {
    expect(device.problems).toEqual([])
    device.drop()
  }
}

/** A failing seed says how to run it again. */
const naming = (seed: number, running: Promise<void>): Promise<void> =>
  running.catch((cause: unknown) => {
    throw new Error(`the fuzz failed: VALISE_ORDERING_SEEDS=${seed} runs it again`, { cause })
  })

export function describeFuzz(seeds: FuzzSeeds, createWorld: () => Promise<World>): void {
  describe('under chance', () => {
    let world: World

    beforeAll(async () => {
      world = await createWorld()
    })
    afterAll(() => world?.close())

    test.each(seedsOr(seeds.raw))('P2, P4: seed %i: all devices of a user hold the same log', (seed) =>
      naming(seed, runSeed(world, seed)),
    )

    test.each(seedsOr(seeds.sdk))('P2, P4: seed %i: all homes of the client hold the same log', (seed) =>
      naming(seed, runSdkSeed(world, seed)),
    )
  })
}
