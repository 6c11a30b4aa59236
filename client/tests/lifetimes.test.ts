// A lifetime ends on the devices too: its event is shown to nobody from its end on, and is erased, while chains close.

import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseEvent } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { afterEach, expect, test } from 'vitest'
import { openFileStore } from '../src/node/file-store.ts'
import type { Store } from '../src/store/store.ts'
import { verifyDevice } from '../src/verify.ts'
import { createPair, type DevicePair, publishAll } from './support/device-pair.ts'
import { check, exportOf } from './support/export-of.ts'
import { createManualClock } from './support/manual-clock.ts'
import { take, text, toText } from './support/test-device.ts'
import { until } from './support/until.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0)) await step()
})

/** A brief event between two that stay, on both devices, which are live. */
async function createScene(briefCount = 1): Promise<DevicePair> {
  const pair = await createPair()
  const { first, second } = pair
  for (const { client } of [first, second]) client.start()
  await publishAll(first.client, ['before'])
  for (let index = 0; index < briefCount; index++) await first.client.publish('notes', text('brief'), { ttlS: 60 })
  await publishAll(first.client, ['after'])
  await first.client.flush()
  await take(second.client, 'notes', briefCount + 2)
  return pair
}

/** Anything in the store holds the ciphertext of an event with a lifetime. */
async function holdsBrief(store: Store, { server }: DevicePair): Promise<boolean> {
  const held: Uint8Array[] = []
  for await (const [, value] of store.range({})) held.push(value)
  const all = Buffer.concat(held)
  const brief = server.events.map(({ item }) => parseEvent(item[3])!).filter(({ ttlS }) => ttlS > 0)
  return brief.some(({ ciphertext }) => all.includes(Buffer.from(ciphertext)))
}

const DEADLINE_MS = 20_000
async function untilErased(pair: DevicePair, store: Store): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS
  while (await holdsBrief(store, pair)) {
    if (performance.now() > deadline) throw new Error('waited in vain for the event to be erased')
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const readAll = async (pair: DevicePair, own: boolean): Promise<string[]> => {
  const { client } = own ? pair.first : pair.second
  const bodies: string[] = []
  const ended = new AbortController()
  const end = client.cursor()
  for await (const event of client.events('notes', { includeOwn: own, signal: ended.signal })) {
    bodies.push(toText(event.content.body))
    if (event.userSeq === end) ended.abort()
  }
  return bodies
}

test('RET-9: from its end on it is shown neither to the reader nor on its own device, erased or not', async () => {
  const pair = await createScene()
  for (const { clock } of [pair.first, pair.second]) clock.sleep(MINUTE_MS - 1)
  expect(await readAll(pair, false)).toEqual(['before', 'brief', 'after'])
  for (const { clock } of [pair.first, pair.second]) clock.sleep(1)
  expect(await holdsBrief(pair.second.store, pair)).toBe(true)
  expect(await readAll(pair, false)).toEqual(['before', 'after'])
  expect(await readAll(pair, true)).toEqual(['before', 'after'])
  expect((await exportOf(pair.second)).join('\n')).not.toContain('"brief"')
})

test('RET-9: a reader that stands before it passes over it', async () => {
  const pair = await createScene()
  const { second } = pair
  const seen: string[] = []
  for await (const { content } of second.client.events('notes')) {
    seen.push(toText(content.body))
    // It was read from the store together with the first.
    second.clock.sleep(HOUR_MS)
    if (seen.length === 2) break
  }
  expect(seen).toEqual(['before', 'after'])
})

test('RET-9: its bytes are erased on both devices, and everything that is checked still holds', async () => {
  const pair = await createScene()
  const { server, first, second } = pair
  for (const { clock } of [first, second]) clock.advance(HOUR_MS)
  for (const device of [first, second]) {
    await untilErased(pair, device.store)
    const report = await verifyDevice(crypto, device.client.device)
    expect(report).toMatchObject({ isSound: true, expiredEvents: 1 })
    const lines = await exportOf(device)
    expect(lines.filter((line) => line.includes('"type":"leaf"'))).toHaveLength(1)
    expect(await check(lines)).toMatchObject({ expired: 1 })
  }
  await publishAll(first.client, ['later'])
  expect(await take(second.client, 'notes', 3)).toEqual(['before', 'after', 'later'])
  await second.restart()
  second.client.start()
  await second.client.whenLive()
  expect(await take(second.client, 'notes', 3)).toEqual(['before', 'after', 'later'])
  // What it says of the chains is what the others have.
  expect(second.client.device.checkpoints.list()).toEqual(first.client.device.checkpoints.list())
  expect(server.events).toHaveLength(4)
})

test('RET-9: what ended while the program was not running is erased at the next start, without a server', async () => {
  const pair = await createScene()
  const { server, second } = pair
  await second.client.close()
  server.isReachable = false
  second.clock.sleep(HOUR_MS)
  await second.restart()
  await untilErased(pair, second.store)
  expect(await take(second.client, 'notes', 2)).toEqual(['before', 'after'])
})

test('RET-9: the server’s time ends it, whatever this device’s own clock says', async () => {
  const pair = await createPair({ clock: createManualClock(1_700_000_000_000 + 24 * HOUR_MS) })
  const { first, second } = pair
  for (const { client } of [first, second]) client.start()
  await first.client.publish('notes', text('brief'), { ttlS: 60 })
  expect(await take(second.client, 'notes', 1)).toEqual(['brief'])
  second.clock.advance(MINUTE_MS)
  await untilErased(pair, second.store)
})

test('RET-9: many that end at once are erased in small batches', async () => {
  const pair = await createScene(300)
  const { second } = pair
  const { batch } = second.store
  const sizes: number[] = []
  ;(second.store as { batch: Store['batch'] }).batch = (operations) => {
    sizes.push(operations.length)
    return batch(operations)
  }
  second.clock.advance(HOUR_MS)
  await untilErased(pair, second.store)
  expect(Math.max(...sizes)).toBeLessThanOrEqual(200)
  expect(sizes.length).toBeGreaterThan(4)
  expect(await verifyDevice(crypto, second.client.device)).toMatchObject({ isSound: true, expiredEvents: 300 })
})

test('RET-9: an event of its own beyond the cursor is erased once the cursor has passed it', async () => {
  const pair = await createPair()
  const { server, first, second } = pair
  server.distort = (message) => (message.type === 'events' || message.type === 'caught_up' ? [] : [message])
  for (const { client } of [first, second]) client.start()
  await publishAll(second.client, ['unseen'])
  await second.client.flush()
  await first.client.publish('notes', text('brief'), { ttlS: 60 })
  await first.client.flush()
  first.clock.advance(HOUR_MS)
  await first.restart()
  server.distort = (message) =>
    message.type === 'session_established' ? [{ ...message, server_time: first.clock.now() }] : [message]
  first.client.start()
  await first.client.whenLive()
  await until(() => first.client.cursor() === 2, 'the cursor to pass')
  await untilErased(pair, first.store)
  expect(await verifyDevice(crypto, first.client.device)).toMatchObject({ isSound: true })
})

test('RET-9: nothing of it stays in the files of the store', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'valise-lifetimes-'))
  undo.push(() => rm(folder, { recursive: true, force: true }))
  const pair = await createPair()
  const files = await openFileStore(folder)
  undo.unshift(() => files.close())
  Object.assign(pair.second.store, files)
  await pair.second.restart()
  for (const { client } of [pair.first, pair.second]) client.start()
  await pair.first.client.publish('notes', text('brief'), { ttlS: 60 })
  await take(pair.second.client, 'notes', 1)
  const { ciphertext } = parseEvent(pair.server.events[0]!.item[3])!
  const isInFiles = async (): Promise<boolean> => {
    for (const name of await readdir(folder)) {
      const bytes = await readFile(join(folder, name)).catch(() => Buffer.alloc(0))
      if (bytes.includes(Buffer.from(ciphertext).subarray(0, 64))) return true
    }
    return false
  }
  expect(await isInFiles()).toBe(true)
  pair.second.clock.advance(HOUR_MS)
  await untilErased(pair, files)
  await pair.second.client.close()
  expect(await isInFiles()).toBe(false)
})
