// Two nodes on one PostgreSQL and Redis, an ordinary user of the SDK, and a user who also does what is refused; with ids
// and texts planted wherever somebody may put one. Then one node is scraped, as Prometheus does it.

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import WebSocket from 'ws'
import { openNodeDevice } from '../../../client/src/node/index.ts'
import type { MetricDefinition } from '../../src/telemetry/metric-kinds.ts'
import { findSecrets } from '../blindness/search.ts'
import { createAccount } from '../support/account.ts'
import { startTestServer, testRedisUrl } from '../support/server.ts'

export interface BusyRun {
  /** What the first node answered to GET /metrics at the end. */
  readonly exposition: string
  readonly definitions: readonly MetricDefinition[]
  readonly planted: ReadonlyMap<string, Uint8Array>
  /** The names of what was planted and stands in `text`, in whatever form. */
  findPlanted(text: string): string[]
  /** Of both nodes, which go on. */
  readonly adminUrls: readonly string[]
  stopSecondNode(): Promise<void>
  close(): Promise<void>
}

const EVENTS = 25

export async function liveThroughBusyRun(): Promise<BusyRun> {
  const closers: (() => Promise<unknown>)[] = []
  const close = async (): Promise<void> => {
    for (const step of closers.splice(0).reverse()) await step()
  }
  const planted = new Map<string, Uint8Array>()
  const plant = (what: string): string => {
    const text = `planted ${what} ${randomBytes(9).toString('base64url')}`
    planted.set(what, Buffer.from(text))
    return text
  }
  try {
    const redisUrl = testRedisUrl()
    const here = await startTestServer({ database: 'postgres', redisUrl })
    closers.push(here.close)
    const { databaseUrl, identityFile } = here
    const shared = { database: 'postgres' as const, redisUrl, identityFile }
    const there = await startTestServer({ ...shared, ...(databaseUrl === undefined ? {} : { databaseUrl }) })
    closers.push(there.close)

    const home = await mkdtemp(join(tmpdir(), 'valise-home-'))
    closers.push(() => rm(home, { recursive: true, force: true }))
    const laptop = await openNodeDevice(home, { checkpointEvery: 5 })
    closers.push(laptop.close)
    await laptop.initialise({ serverUrl: here.url, name: plant('device name') })
    laptop.client().start()
    for (const what of ['body one', 'body two']) {
      await laptop.client().publish(plant('stream'), { type: plant('type'), body: Buffer.from(plant(what)) })
    }
    await laptop.client().flush()
    planted.set('the user of the SDK', laptop.account()!.userId)
    planted.set('the device of the SDK', laptop.account()!.deviceId)

    const account = await createAccount(here, { devices: 3 })
    const [writer, near, far] = account.devices
    if (writer === undefined || near === undefined || far === undefined) throw new Error('three devices were asked for')
    const [writing, reading, remote] = [
      await writer.connect(here),
      await near.connect(here, { cursor: 0 }),
      await far.connect(there, { cursor: 0 }),
    ]
    closers.push(async () => {
      for (const session of [writing, reading, remote]) session.drop()
    })
    await reading.until('the near reader to be live', () => reading.isCaughtUp)
    await remote.until('the far reader to be live', () => remote.isCaughtUp)
    const mine = await writer.sealMany('notes', EVENTS)
    writing.publish(mine.map(({ wire }) => wire))
    await reading.until('the events', () => reading.events.length === EVENTS)
    await remote.until('the events on the other node', () => remote.events.length === EVENTS)
    remote.publish((await far.sealMany('notes', EVENTS)).map(({ wire }) => wire))
    await reading.until('the events of the other node', () => reading.events.length === 2 * EVENTS)
    planted.set('the user', account.userId)
    planted.set('the device', writer.deviceId)
    planted.set('the stream', account.streamId('notes'))
    planted.set('an event', mine[0]!.eventId)
    planted.set('a session', writing.established.session_id)

    // What is refused, with texts in it.
    const refused = [await writer.sealAside('notes', { header: { deviceSeq: EVENTS + 9 } }), mine[0]!]
    writing.publish([...refused.map(({ wire }) => wire), Buffer.from(plant('event that is none'))])
    await writing.until('the refusals', () => writing.refusals.length === 2)
    writing.sendFrame(Buffer.from(plant('frame that does not open')))
    await writing.closed
    const stranger = new WebSocket(here.url, {
      headers: { 'user-agent': plant('agent'), 'x-forwarded-for': plant('address') },
    })
    await new Promise((resolve) => stranger.once('open', resolve))
    stranger.send(plant('hello'))
    await new Promise((resolve) => stranger.once('close', resolve))
    const admin = here.app.adminUrl
    await fetch(`${admin}/${encodeURIComponent(plant('path'))}`)
    await fetch(`${here.url.replace('ws', 'http')}/${encodeURIComponent(plant('public path'))}`)

    return {
      exposition: await (await fetch(`${admin}/metrics`)).text(),
      definitions: here.app.metrics.definitions,
      planted,
      findPlanted: (text) => findSecrets(planted, new Map([['the exposition', [Buffer.from(text)]]])),
      adminUrls: [admin, there.app.adminUrl],
      stopSecondNode: there.stop,
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
