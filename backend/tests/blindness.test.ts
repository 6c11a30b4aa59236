// P1: three devices of the real SDK set up an account, link, pair, publish and read, and errors are provoked in every
// layer; then everything their server has is searched for what only they may know: payloads, names, the recovery phrase,
// keys, the secrets of linking and pairing. Nothing of it is there, in any form.

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { type NodeDevice, openNodeDevice } from '../../client/src/node/index.ts'
import type { PairingStep } from '../../client/src/pairing/run-pairing.ts'
import { readRecoveryPhrase } from '../../client/src/sealing/recovery.ts'
import { createLog } from '../src/telemetry/log.ts'
import { provokeErrors } from './blindness/provoke-errors.ts'
import { dataFolderOf, dumpTables, readFolder } from './blindness/remains.ts'
import { findSecrets, formsOf } from './blindness/search.ts'
import { waitFor } from './support/open-database.ts'
import { startOtlpReceiver } from './support/otlp-receiver.ts'
import { type RedisMonitor, startRedisMonitor } from './support/redis-monitor.ts'
import { type RedisProxy, startRedisProxy } from './support/redis-proxy.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function openDevice(): Promise<NodeDevice> {
  const home = await mkdtemp(join(tmpdir(), 'valise-home-'))
  undo.push(() => rm(home, { recursive: true, force: true }))
  const device = await openNodeDevice(home, { checkpointEvery: 5 })
  undo.push(device.close)
  return device
}

/** Reads until `count` events are here. */
async function readBodies(device: NodeDevice, count: number): Promise<Buffer[]> {
  const bodies: Buffer[] = []
  const deadline = AbortSignal.timeout(20_000)
  for await (const { content } of device.client().events(undefined, { signal: deadline })) {
    bodies.push(Buffer.from(content.body))
    if (bodies.length === count) return bodies
  }
  throw new Error(`only ${bodies.length} of ${count} events came`)
}

const planted = (what: string): string => `planted ${what} ${randomBytes(9).toString('base64url')}`
const STREAMS = [planted('stream one'), planted('stream two')] as const
const NAMES = [planted('laptop'), planted('phone'), planted('tablet')] as const
const TYPE = planted('type')
const LINES = Array.from({ length: 12 }, (_, index) => planted(`line ${index}`))
/** A piece of a text is as bad as the whole. */
const PIECE_CHARACTERS = 12
const FILE = randomBytes(20_000)
const BROUGHT_OVER = 'a mailbox carries what its sender put in'

/** The address of the QR that the laptop showed. */
async function pair(laptop: NodeDevice, tablet: NodeDevice): Promise<string> {
  const watch = { onStep: () => {}, onResumed: () => {}, onRenewed: () => {} }
  let showCheck: (digits: string) => void = () => {}
  const check = new Promise<string>((resolve) => {
    showCheck = resolve
  })
  let pairing: Promise<unknown> = Promise.resolve()
  const offer = await new Promise<string>((resolve, reject) => {
    const screen = { ...watch, onShown: ({ url }: { readonly url: string }) => resolve(url) }
    pairing = laptop.pairExisting({ screen, decide: () => check })
    pairing.catch(reject)
  })
  const screen = {
    ...watch,
    onShown: () => {},
    onStep: (step: PairingStep) => step.check !== undefined && showCheck(step.check),
  }
  await tablet.pairNew({ offer, name: NAMES[2], screen })
  await pairing
  return offer
}

interface Story {
  publish(): Promise<void>
  close(): Promise<void>
  readonly secrets: Map<string, Uint8Array>
  /** What the server does have: the search must find it. */
  readonly known: Map<string, Uint8Array>
}

/** What an ordinary user does, on two devices, across a restart of the server. */
async function liveThrough(server: TestServer): Promise<Story> {
  const secrets = new Map<string, Uint8Array>()
  const keep = (name: string, secret: string | Uint8Array): void => void secrets.set(name, Buffer.from(secret))
  const [laptop, phone, tablet] = [await openDevice(), await openDevice(), await openDevice()]
  const serverUrl = server.url

  const { sheet } = await laptop.initialise({ serverUrl, name: NAMES[0] })
  const recoveryPhrase = sheet.phrase
  let linking: Promise<unknown> = Promise.resolve()
  const request = await new Promise<string>((resolve, reject) => {
    linking = phone.link({ serverUrl, name: NAMES[1], onRequest: ({ text }) => resolve(text) })
    linking.catch(reject)
  })
  await laptop.approve({ request, confirm: async () => true })
  await linking
  for (const device of [laptop, phone]) device.client().start()
  const qr = await pair(laptop, tablet)

  const publish = (device: NodeDevice, stream: string, body: Uint8Array) =>
    device.client().publish(stream, { type: TYPE, body })
  for (const line of LINES.slice(0, 6)) await publish(laptop, STREAMS[0], Buffer.from(line))
  await laptop.client().flush()
  await server.restart()
  for (const line of LINES.slice(6)) await publish(laptop, STREAMS[1], Buffer.from(line))
  await publish(laptop, STREAMS[0], FILE)
  await laptop.client().flush()
  const received = await readBodies(phone, LINES.length + 1)
  expect(received.map(String).slice(0, -1)).toEqual(LINES)
  expect(received.at(-1)).toEqual(FILE)

  for (const text of [...LINES, ...STREAMS, ...NAMES, TYPE]) {
    keep(text, text)
    keep(`the beginning of ${text}`, text.slice(0, PIECE_CHARACTERS))
    keep(`the end of ${text}`, text.slice(-PIECE_CHARACTERS))
  }
  for (const at of [0, 8_000, 19_968]) keep(`the file at ${at}`, FILE.subarray(at, at + 32))
  const words = recoveryPhrase.split(' ')
  expect(words.length).toBe(12)
  keep('the recovery phrase', recoveryPhrase)
  for (const at of words.keys()) if (at > 0) keep(`words ${at}, ${at + 1} of it`, words.slice(at - 1, at + 1).join(' '))
  const reading = readRecoveryPhrase(recoveryPhrase)
  if (!reading.ok) throw new Error(reading.problem)
  keep('its entropy', reading.entropy)
  const linkBytes = Buffer.from(request.split('.')[1]!, 'base64url')
  keep('the link’s secret', linkBytes.subarray(16, 48))
  const [, , qrSecret = ''] = new URL(qr).hash.split('.')
  keep('the QR’s secret', Buffer.from(qrSecret, 'base64url'))
  for (const [index, device] of [laptop, phone, tablet].entries()) {
    const { identity, epochKeys } = device.client().device
    keep(`the signing key of ${NAMES[index]}`, identity.keys.secrets.signSeed)
    keep(`the KEM key of ${NAMES[index]}`, identity.keys.secrets.kemPrivateKey)
    keep('the epoch’s secret', epochKeys.secretOf(1)!)
    keep('the content key', epochKeys.contentKey(1)!)
  }
  const known = new Map<string, Uint8Array>([
    ['the user', laptop.account()!.userId],
    ['the phone', phone.account()!.deviceId],
    ['the mailbox', linkBytes.subarray(0, 16)],
    ['a stream', laptop.client().device.epochKeys.streamId(STREAMS[0])!],
  ])
  return {
    secrets,
    known,
    publish: async () => {
      await publish(laptop, STREAMS[0], Buffer.from(LINES[0]!))
      await laptop.client().flush()
    },
    close: async () => {
      for (const device of [laptop, phone, tablet]) await device.client().close()
    },
  }
}

describe.each(['postgres', 'pglite'] as const)('on %s', (database) => {
  test('P1: the server holds nothing that opens or names what its users keep', async () => {
    const lines: string[] = []
    const log = createLog({ level: 'trace', stream: { write: (line: string) => void lines.push(line) } })
    let redis: RedisProxy | undefined
    let monitor: RedisMonitor | undefined
    if (database === 'postgres') {
      redis = await startRedisProxy(Number(new URL(testRedisUrl()).port))
      monitor = await startRedisMonitor(testRedisUrl())
      undo.push(redis.close, monitor.close)
    }
    const collector = await startOtlpReceiver()
    undo.push(collector.close)
    const flags = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint }
    const redisUrl = redis === undefined ? {} : { redisUrl: redis.url }
    const server = await startTestServer({ database, log, flags, ...redisUrl })
    undo.push(server.close)
    const { secrets, known, publish, close } = await liveThrough(server)
    const heard =
      redis?.commands.filter(({ args }) => args[0] === 'SUBSCRIBE').flatMap(({ args }) => args.slice(1)) ?? []
    const provoked = await provokeErrors({
      server,
      redis: redis === undefined ? undefined : { url: testRedisUrl(), channels: [...new Set(heard)] },
      publish,
      untilLogged: (event) => waitFor(event, async () => lines.some((line) => line.includes(event)), Boolean),
    })
    for (const [where, secret] of provoked) secrets.set(where, Buffer.from(secret))
    await close()

    // A secret of the test's own, in each form, through a mailbox: what the search below must be able to find.
    const canaries = formsOf(Buffer.from(BROUGHT_OVER))
    const mailboxes = `${server.url.replace('ws', 'http')}/v1/mailboxes`
    for (const body of canaries) {
      const mailbox = `${mailboxes}/${randomBytes(16).toString('hex')}/0`
      expect((await fetch(mailbox, { method: 'PUT', body: new Uint8Array(body) })).status).toBe(201)
    }

    const metrics = await server.app.metrics.render()
    const seen = await Promise.all(
      ['/', '/status.json', '/ready'].map((path) => fetch(`${server.app.adminUrl}${path}`)),
    )
    const status = await Promise.all(seen.map((response) => response.text()))
    await server.stop()
    const tables = await dumpTables(server)
    // What the test announced itself, it is shown, too; that the server announces nothing of it, the bus below shows.
    const own = new Set([...provoked].map(([, secret]) => secret))
    const shown = monitor?.read().filter((bytes) => !own.has(Buffer.from(bytes).toString())) ?? []
    const remains = new Map<string, readonly Uint8Array[]>([
      ...tables,
      ['the log', lines.map((line) => Buffer.from(line))],
      ['the metrics', [Buffer.from(metrics)]],
      ['the status page', status.map((text) => Buffer.from(text))],
      ['the traces', collector.bodies.map((text) => Buffer.from(text))],
      ['the data folder', await readFolder(dataFolderOf(server))],
      ['the bus', (redis?.commands ?? []).flatMap(({ args }) => args.map((arg) => Buffer.from(arg, 'latin1')))],
      ['what Redis shows', shown],
    ])
    expect(findSecrets(secrets, remains)).toEqual([])

    // The search is worth something: it finds what is there, in every form.
    const found = findSecrets(known, remains)
    for (const where of ['the user in table users', 'the phone in table devices', 'a stream in table streams']) {
      expect(found).toContain(where)
    }
    expect(found).toContain('the mailbox in table pairings')
    for (const canary of canaries) {
      const single = new Map([
        ['table pairings', (tables.get('table pairings') ?? []).filter((cell) => canary.equals(cell))],
      ])
      expect(findSecrets(new Map([['it', Buffer.from(BROUGHT_OVER)]]), single)).toEqual(['it in table pairings'])
    }
    if (database === 'pglite') expect(found).toContain('the user in the data folder')
    if (redis !== undefined)
      expect(found).toEqual(expect.arrayContaining(['a stream in the bus', 'a stream in what Redis shows']))
    expect(status.join('')).toContain('valise')
    expect(collector.bodies.join('')).toContain('event.publish')
    expect(lines.join('')).toContain('gateway.')
    expect(metrics).toContain('valise_events_stored_total')
  })
})
