// The same chance for devices that run the client SDK: real homes, real outboxes, processes that end and begin again,
// a network that cuts, nodes that restart. The SDK checks every rule itself and stops with an alarm when one is broken.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeUtf8, toBase64Url, toHex } from '@valise/protocol'
import { expect } from 'vitest'
import { type NodeDevice, openNodeDevice } from '../../../client/src/node/node-device.ts'
import { createSeededRandom, type SeededRandom } from '../support/seeded-random.ts'
import { type SocketProxy, startSocketProxy } from '../support/socket-proxy.ts'
import { oneTo } from './observed-log.ts'
import { letPass, type World } from './world.ts'

const STEPS = 40
const DEVICES = 3
const DEADLINE_MS = 20_000

interface Home {
  readonly folder: string
  device: NodeDevice
  /** What was published, in order. */
  readonly published: string[]
}

const openHome = (folder: string): Promise<NodeDevice> => openNodeDevice(folder, { checkpointEvery: 0 })

/** The first home makes the account, the others are linked to it. */
async function setUpHomes(folder: string, proxy: SocketProxy, fingerprint: string): Promise<Home[]> {
  const homes: Home[] = []
  for (let i = 0; i < DEVICES; i++) {
    const homeFolder = join(folder, `device-${i}`)
    const device = await openHome(homeFolder)
    homes.push({ folder: homeFolder, device, published: [] })
    const options = { serverUrl: proxy.url, fingerprint, name: `device ${i}` }
    if (i === 0) {
      await device.initialise(options)
    } else {
      const approve = (request: string) => homes[0]!.device.approve({ request, confirm: async () => true })
      let approving: Promise<unknown> | undefined
      await device.link({ ...options, onRequest: ({ text }) => (approving = approve(text)) })
      await approving
    }
    device.client().start()
  }
  return homes
}

async function step(world: World, proxy: SocketProxy, homes: readonly Home[], random: SeededRandom): Promise<void> {
  const home = random.pick(homes)
  const dice = random.below(100)
  if (dice < 70) {
    for (let left = 1 + random.below(6); left > 0; left--) {
      const text = `${homes.indexOf(home)}-${home.published.length}`
      home.published.push(text)
      const content = { type: 'text', body: encodeUtf8(text) }
      await home.device.client().publish(random.pick(['a', 'b']), content)
    }
  } else if (dice < 80) {
    proxy.pointTo(random.pick(world.nodes).url)
    proxy.cut()
  } else if (dice < 86) {
    await home.device.close()
    home.device = await openHome(home.folder)
    home.device.client().start()
  } else if (dice < 94) {
    if (random.chance(70)) world.breakBus(random)
    else world.mendBus()
  } else if (dice < 97) {
    await random.pick(world.nodes).restart()
  } else {
    await world.killConnections?.()
  }
}

interface HeldEvent {
  readonly userSeq: number
  readonly streamSeq: number
  readonly eventId: string
  readonly streamId: string
  readonly text: string
}

/** The first `count` events that a home holds; rejects when they do not come, or the client stopped with an alarm. */
async function readHeld({ device }: Home, count: number): Promise<HeldEvent[]> {
  const held: HeldEvent[] = []
  const signal = AbortSignal.timeout(DEADLINE_MS)
  for await (const event of device.client().events(undefined, { includeOwn: true, signal })) {
    const { userSeq, streamSeq, eventId, streamId, content } = event
    const text = Buffer.from(content.body).toString('utf8')
    held.push({ userSeq, streamSeq, eventId: toHex(eventId), streamId: toHex(streamId), text })
    if (held.length === count) break
  }
  return held
}

export async function runSdkSeed(world: World, seed: number): Promise<void> {
  const random = createSeededRandom(seed)
  const folder = await mkdtemp(join(tmpdir(), 'valise-homes-'))
  const [node] = world.nodes
  const proxy = await startSocketProxy(node!.url)
  world.mendBus()
  let homes: Home[] = []
  try {
    homes = await setUpHomes(folder, proxy, toBase64Url(node!.fingerprint))
    for (let i = 0; i < STEPS; i++) {
      await step(world, proxy, homes, random)
      await letPass(random.below(6))
    }
    world.mendBus()
    await Promise.all(homes.map(({ device }) => device.client().flush(AbortSignal.timeout(DEADLINE_MS))))
    await expectOneLog(homes)
  } finally {
    for (const { device } of homes) await device.close()
    await proxy.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function expectOneLog(homes: readonly Home[]): Promise<void> {
  const count = homes.reduce((sum, { published }) => sum + published.length, 0)
  const logs = await Promise.all(homes.map((home) => readHeld(home, count)))
  const [log] = logs
  expect(log).toHaveLength(count)
  for (const other of logs) expect(other).toEqual(log)
  for (const [i, { published }] of homes.entries()) {
    const ofDevice = log!.filter(({ text }) => text.startsWith(`${i}-`))
    expect(ofDevice.map(({ text }) => text)).toEqual(published)
  }
  for (const streamId of new Set(log!.map((event) => event.streamId))) {
    const stream = log!.filter((event) => event.streamId === streamId)
    expect(stream.map(({ streamSeq }) => streamSeq)).toEqual(oneTo(stream.length))
  }
  for (const { device } of homes) expect(await device.verify()).toMatchObject({ isSound: true, problems: [] })
}
