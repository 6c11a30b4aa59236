// A real server changes its key under devices of the real SDK: connected, away, joining and recovering, on one node and
// on two.

import { cp, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fromBase64Url, toBase64Url } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { z } from 'zod'
import { type NodeDevice, openNodeDevice } from '../../client/src/node/index.ts'
import type { PairingStep } from '../../client/src/pairing/run-pairing.ts'
import { nextFileOf } from '../src/keys/identity-file.ts'
import { rotateKey } from '../src/keys/rotate-key.ts'
import { startBalancer } from './support/balancer.ts'
import { waitFor } from './support/open-database.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

let server: TestServer
let folder: string
let homes = 0
const undo: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'valise-rotation-'))
  undo.push(() => rm(folder, { recursive: true, force: true }))
  server = await startTestServer({ database: 'postgres' })
  undo.push(server.close)
})
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function openDevice(home = join(folder, `home-${++homes}`)): Promise<NodeDevice> {
  const device = await openNodeDevice(home, { checkpointEvery: 0 })
  undo.push(device.close)
  return device
}

async function openLaptop(url = server.url, name = 'laptop'): Promise<NodeDevice> {
  const laptop = await openDevice()
  await laptop.initialise({ serverUrl: url, name })
  laptop.client().start()
  await live(laptop)
  return laptop
}

const live = (device: NodeDevice): Promise<void> => device.client().whenLive(AbortSignal.timeout(20_000))
const pinOf = (device: NodeDevice): string => toBase64Url(device.account()!.serverFingerprint)
const stopOf = (device: NodeDevice) =>
  waitFor(
    'the stop',
    async () => device.client().state(),
    ({ type }) => type === 'stopped',
  )

/** Returns when the running server proves the new key. */
async function rotate(on: TestServer = server, nextFile?: string): Promise<string> {
  const { fingerprint } = await rotateKey(crypto, on.identityFile, nextFile)
  const now = toBase64Url(fingerprint)
  await waitFor(
    'the new key',
    async () => toBase64Url(on.app.fingerprint),
    (shown) => shown === now,
  )
  return now
}

const keysSchema = z.object({ changes: z.array(z.string()) })
const askKeys = async (on: TestServer, after: string) => {
  const response = await fetch(`${on.url.replace('ws:', 'http:')}/.well-known/valise/keys?after=${after}`)
  return { status: response.status, body: (await response.json()) as unknown }
}

/** Ends the sessions from outside, as a network does. */
const reconnect = async (device: NodeDevice): Promise<void> => {
  await server.restart()
  await live(device)
}

test('KEY-2: a server that runs takes the new key, and devices follow when they come back, each told once', async () => {
  const laptop = await openLaptop()
  const before = pinOf(laptop)
  const moves: string[][] = []
  laptop.client().onServerKeyMoved(({ from, to }) => moves.push([from, to].map(toBase64Url)))
  const now = await rotate()
  // A session that is up stays up.
  expect(laptop.client().state().type).toBe('live')
  await reconnect(laptop)
  await waitFor(
    'the pin to move',
    async () => pinOf(laptop),
    (pin) => pin === now,
  )
  expect(moves).toEqual([[before, now]])
  await laptop.client().publish('notes', { type: 'text', body: Uint8Array.of(1) })
  await laptop.client().flush(AbortSignal.timeout(20_000))
})

test('KEY-2: a device that was away for three changes follows them all, also over restarts of the server', async () => {
  const home = join(folder, 'away')
  const laptop = await openDevice(home)
  await laptop.initialise({ serverUrl: server.url, name: 'laptop' })
  await laptop.close()
  let now = ''
  for (let time = 0; time < 3; time++) {
    now = await rotate()
    await server.restart()
  }
  const back = await openDevice(home)
  back.client().start()
  await live(back)
  expect(pinOf(back)).toBe(now)
  expect(toBase64Url(back.account()!.serverNextFingerprint!)).toBe(toBase64Url(server.app.nextFingerprint))
})

test('KEY-2: /.well-known/valise names both keys, and the changes after any key are a page of their own', async () => {
  const first = toBase64Url(server.app.fingerprint)
  expect(await askKeys(server, first)).toEqual({ status: 200, body: { changes: [] } })
  const second = await rotate()
  await rotate()
  const all = keysSchema.parse((await askKeys(server, first)).body).changes
  expect(all).toHaveLength(2)
  expect(keysSchema.parse((await askKeys(server, second)).body).changes).toEqual(all.slice(1))
  expect((await askKeys(server, toBase64Url(server.app.fingerprint))).body).toEqual({ changes: [] })
  expect((await askKeys(server, 'abc')).status).toBe(400)
  const response = await fetch(`${server.url.replace('ws:', 'http:')}/.well-known/valise`)
  expect(await response.json()).toMatchObject({
    fingerprint: toBase64Url(server.app.fingerprint),
    next_fingerprint: toBase64Url(server.app.nextFingerprint),
  })
})

test('KEY-5: two nodes with copies: while one has the old key devices come through the other, and none stops', async () => {
  const copied = join(folder, 'second', 'identity.key')
  const redisUrl = testRedisUrl()
  const shared = { database: 'postgres', redisUrl } as const
  const one = await startTestServer(shared)
  undo.push(one.close)
  await cp(one.identityFile, copied)
  const two = await startTestServer({ ...shared, databaseUrl: one.databaseUrl!, identityFile: copied })
  undo.push(two.close)
  const balancer = await startBalancer()
  undo.push(balancer.close)
  const useBoth = (): void =>
    balancer.setNodes([one, two].map(({ url, app }) => ({ port: Number(new URL(url).port), adminUrl: app.adminUrl })))
  useBoth()
  const devices = await Promise.all(['a', 'b', 'c', 'd'].map((name) => openLaptop(balancer.url, name)))
  const before = pinOf(devices[0]!)
  const now = await rotate(one)
  // The node that is behind answers for the one that is not.
  expect(keysSchema.parse((await askKeys(two, before)).body).changes).toHaveLength(1)
  const ready = await waitFor(
    'the note',
    async () => z.object({ notes: z.array(z.string()) }).parse(await (await fetch(`${two.app.adminUrl}/ready`)).json()),
    ({ notes }) => notes.length > 0,
  )
  expect(ready.notes).toEqual([expect.stringContaining('copy the new identity.key')])
  for (let round = 0; round < 3; round++) {
    await one.restart()
    useBoth()
    for (const device of devices) expect(device.client().state().type).not.toBe('stopped')
  }
  await cp(one.identityFile, copied)
  await waitFor(
    'the second node',
    async () => toBase64Url(two.app.fingerprint),
    (shown) => shown === now,
  )
  for (const device of devices) {
    await live(device)
    expect([before, now]).toContain(pinOf(device))
  }
})

test('KEY-2: the same change is published once by however many nodes, and another one of the same key is refused', async () => {
  const copy = join(folder, 'copy', 'identity.key')
  await cp(server.identityFile, copy)
  await cp(nextFileOf(server.identityFile), nextFileOf(copy))
  await rotate()
  // The same two keys on another machine: the operator, or a thief, signs a second change.
  const other = await rotateKey(crypto, copy)
  await cp(copy, server.identityFile)
  await expect(server.restart()).rejects.toThrow(/another change of the same key is published already/)
  const client = new pg.Client({ connectionString: server.databaseUrl })
  await client.connect()
  const { rows } = await client.query<{ change: Buffer }>('select change from server_key_changes')
  await client.end()
  expect(rows).toHaveLength(1)
  expect(rows[0]!.change.equals(other.change)).toBe(false)
})

test('KEY-5: a node does not start with a key that was changed', async () => {
  const old = join(folder, 'old.key')
  await cp(server.identityFile, old)
  await rotate()
  await rename(old, server.identityFile)
  await expect(server.restart()).rejects.toThrow(/holds a key that was changed: copy the identity\.key/)
})

test('KEY-3: a file that no signed change leads to is not taken by a server that runs', async () => {
  const shown = toBase64Url(server.app.fingerprint)
  const foreign = join(folder, 'foreign', 'identity.key')
  const other = await startTestServer({ database: 'postgres', identityFile: foreign })
  undo.push(other.close)
  await rotate(other)
  await cp(foreign, server.identityFile)
  // It has looked at the file when a later change of another file is in use.
  await rotate(other)
  expect(toBase64Url(server.app.fingerprint)).toBe(shown)
})

test('KEY-3: after the next key was lost devices stop, and go on when their users trust the new key', async () => {
  const laptop = await openLaptop()
  const before = pinOf(laptop)
  await server.stop()
  await rm(server.identityFile)
  await rm(nextFileOf(server.identityFile))
  await server.start()
  const now = toBase64Url(server.app.fingerprint)
  expect(await stopOf(laptop)).toMatchObject({ cause: { type: 'refused', code: 'wrong_server_key' } })
  await expect(laptop.trustServer(before)).rejects.toMatchObject({ code: 'wrong_server_key' })
  await expect(laptop.trustServer('abc')).rejects.toMatchObject({ code: 'bad_fingerprint' })
  expect(pinOf(laptop)).toBe(before)
  expect(toBase64Url((await laptop.trustServer(now)).serverFingerprint)).toBe(now)
  laptop.client().start()
  await live(laptop)
  expect(pinOf(laptop)).toBe(now)
})

test('KEY-5: a device that has not come back since a change pairs, links and makes a sheet with the new key', async () => {
  const laptop = await openLaptop()
  const now = await rotate()
  const phone = await pair(laptop)
  expect([pinOf(laptop), pinOf(phone)]).toEqual([now, now])
  expect(toBase64Url(phone.account()!.serverNextFingerprint!)).toBe(toBase64Url(server.app.nextFingerprint))
  let shown: string | undefined
  const confirm = async (sheet: { serverFingerprint: string }) => {
    shown = sheet.serverFingerprint
    return true
  }
  await laptop.renewRecovery({ oldPhrase: undefined, confirm })
  expect(shown).toBe([server.app.fingerprint, server.app.nextFingerprint].map(toBase64Url).join('.'))
})

test('KEY-5: a link request from before a change is approved after it', async () => {
  const laptop = await openLaptop()
  const tablet = await openDevice()
  let tellRequest: (text: string) => void = () => {}
  const request = new Promise<string>((resolve) => {
    tellRequest = resolve
  })
  const linking = tablet.link({ serverUrl: server.url, name: 'tablet', onRequest: ({ text }) => tellRequest(text) })
  const text = await request
  const now = await rotate()
  expect(await laptop.approve({ request: text, confirm: async () => true })).toBeDefined()
  await linking
  tablet.client().start()
  await live(tablet)
  expect([pinOf(laptop), pinOf(tablet)]).toEqual([now, now])
})

test('KEY-2: a recovery with a sheet from before two changes finds the server', async () => {
  const laptop = await openDevice()
  const { sheet } = await laptop.initialise({ serverUrl: server.url, name: 'laptop' })
  await rotate()
  const now = await rotate()
  const fresh = await openDevice()
  await fresh.recover({
    serverUrl: server.url,
    fingerprint: sheet.serverFingerprint,
    phrase: sheet.phrase,
    name: 'fresh',
    confirm: async () => true,
  })
  expect(pinOf(fresh)).toBe(now)
  // The first half alone names no next key: nothing leads on from there.
  const alone = await openDevice()
  const [first] = sheet.serverFingerprint.split('.')
  expect(fromBase64Url(first!)).toHaveLength(32)
  await expect(
    alone.recover({
      serverUrl: server.url,
      fingerprint: first,
      phrase: sheet.phrase,
      name: 'alone',
      confirm: async () => true,
    }),
  ).rejects.toMatchObject({ stopCause: { code: 'wrong_server_key' } })
})

/** The laptop shows a QR, a new phone scans it. */
async function pair(laptop: NodeDevice): Promise<NodeDevice> {
  const phone = await openDevice()
  const watch = { onStep: () => {}, onResumed: () => {}, onRenewed: () => {}, onShown: () => {} }
  let tellCheck: (digits: string) => void = () => {}
  const check = new Promise<string>((resolve) => {
    tellCheck = resolve
  })
  let tellOffer: (url: string) => void = () => {}
  const offer = new Promise<string>((resolve) => {
    tellOffer = resolve
  })
  const letIn = laptop.pairExisting({
    screen: { ...watch, onShown: ({ url }) => tellOffer(url) },
    decide: () => check,
  })
  const onStep = (step: PairingStep): void => void (step.check !== undefined && tellCheck(step.check))
  const comesIn = phone.pairNew({ offer: await offer, name: 'phone', screen: { ...watch, onStep } })
  await Promise.all([letIn, comesIn])
  return phone
}
