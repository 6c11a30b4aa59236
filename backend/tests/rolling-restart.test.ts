// Two nodes behind a balancer are restarted one after the other, and killed, while users write and read: nothing that
// was acknowledged is lost, nothing comes twice, and the reconnects are spread over the window (SES-5).

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { RawConfig } from '../src/config.ts'
import { spreadDelays } from '../src/gateway/drain.ts'
import { type Balancer, startBalancer } from './support/balancer.ts'
import { createTestDatabase } from './support/database.ts'
import { histogramOf } from './support/histogram.ts'
import { type LiveUser, openLiveUser } from './support/live-user.ts'
import { type NodeProcess, startNodeProcess } from './support/node-process.ts'
import { waitFor } from './support/open-database.ts'
import { createSeededRandom } from './support/seeded-random.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

const WINDOW_MS = 4000
/** No tenth of the window may hold more of the reconnects. */
const LARGEST_SHARE = 0.3
/** Each with two devices. */
const USERS = 12

const flags: RawConfig = {
  VALISE_DRAIN_MS: String(WINDOW_MS),
  VALISE_HANDSHAKES_PER_MIN: '0',
  VALISE_LOG_LEVEL: 'silent',
  VALISE_HEAD_POLL_MS: '500',
}

/** Every event has one receipt, and arrived once, in the order of the receipts' `user_seq`. */
function expectNothingLost({ acknowledged, publishedCount, received }: LiveUser): void {
  expect(publishedCount).toBeGreaterThan(0)
  expect(acknowledged.size).toBe(publishedCount)
  const inOrder = [...acknowledged].sort(([, a], [, b]) => a - b).map(([eventId]) => eventId)
  expect(received).toEqual(inOrder)
}

const areUp = (users: readonly LiveUser[]): boolean =>
  users.every(({ writer, reader }) => writer.state().type === 'live' && reader.state().type === 'live')

const haveAllUp = (users: readonly LiveUser[]): Promise<boolean> =>
  waitFor('every device to be live', async () => areUp(users), Boolean)

describe('the moments of a drain', () => {
  test('SES-5: each part of the window gets its share, in random order', () => {
    const random = createSeededRandom(5)
    const uniform = (): number => random.below(1_000_000) / 1_000_000
    const delays = spreadDelays(1000, 10_000, uniform)
    expect(histogramOf(delays, 10_000).counts).toEqual(new Array(10).fill(100))
    expect(delays).not.toEqual([...delays].sort((a, b) => a - b))
    expect(spreadDelays(0, 10_000, uniform)).toEqual([])
    expect(spreadDelays(3, 0, uniform)).toEqual([0, 0, 0])
  })
})

/** Real processes and a window each, on a machine that may have other things to do. */
const TIMEOUT_MS = 150_000

describe('two nodes under load', { timeout: TIMEOUT_MS }, () => {
  let balancer: Balancer
  let users: LiveUser[] = []

  beforeEach(async () => {
    balancer = await startBalancer()
  })
  afterEach(async () => {
    for (const user of users.splice(0)) await user.close()
    await balancer?.close()
  })

  const openUsers = async (fingerprint: Uint8Array, count = USERS): Promise<void> => {
    users = []
    for (let i = 0; i < count; i++) users.push(await openLiveUser({ url: balancer.url, fingerprint }))
    await haveAllUp(users)
    for (const user of users) user.startWriting()
  }

  const finish = async (): Promise<void> => {
    await haveAllUp(users)
    for (const user of users) await user.stopWriting()
    for (const user of users) expectNothingLost(user)
  }

  describe('in one process', () => {
    let nodes: TestServer[] = []
    beforeAll(async () => {
      const redisUrl = testRedisUrl()
      const first = await startTestServer({ database: 'postgres', redisUrl, flags })
      const { databaseUrl = '', identityFile } = first
      nodes = [first, await startTestServer({ database: 'postgres', databaseUrl, identityFile, redisUrl, flags })]
    })
    afterAll(async () => {
      for (const node of nodes.reverse()) await node.close()
    })

    test('SES-5: a rolling restart loses nothing and spreads the reconnects over the window', async () => {
      const balance = (): void =>
        balancer.setNodes(nodes.map(({ app, url }) => ({ port: Number(new URL(url).port), adminUrl: app.adminUrl })))
      balance()
      await openUsers(nodes[0]!.fingerprint)
      for (const node of nodes) {
        const before = balancer.acceptedAtMs.length
        const startedAtMs = performance.now()
        await node.restart()
        await haveAllUp(users)
        balance()
        const moments = balancer.acceptedAtMs.slice(before).map((atMs) => atMs - startedAtMs)
        const histogram = histogramOf(moments, WINDOW_MS)
        console.log(`reconnects by tenth of the window: ${histogram.line}`)
        expect(moments.length).toBeGreaterThanOrEqual(USERS / 2)
        expect(histogram.largestShare).toBeLessThanOrEqual(LARGEST_SHARE)
      }
      await finish()
    })
  })

  describe('as processes', () => {
    let folder: string
    let database: Awaited<ReturnType<typeof createTestDatabase>>
    let nodes: NodeProcess[] = []
    let fingerprint: Uint8Array

    const start = (drainMs = 1500): Promise<NodeProcess> =>
      startNodeProcess({
        ...flags,
        VALISE_DRAIN_MS: String(drainMs),
        PORT: '0',
        ADMIN_PORT: '0',
        VALISE_DATA_DIR: folder,
        DATABASE_URL: database.url,
        REDIS_URL: testRedisUrl(),
      })
    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'valise-nodes-'))
      database = await createTestDatabase()
      const first = await start()
      nodes = [first, await start()]
      const answer = await fetch(`${first.url.replace('ws', 'http')}/.well-known/valise`)
      fingerprint = Buffer.from(String(Object(await answer.json()).fingerprint), 'base64url')
      balancer.setNodes(nodes)
    })
    afterEach(async () => {
      for (const user of users.splice(0)) await user.close()
      for (const node of nodes) node.signal('SIGKILL')
      await Promise.all(nodes.map(({ exited }) => exited))
      await database?.drop()
      await rm(folder, { recursive: true, force: true })
    })

    test('SES-5: SIGTERM of one node after the other loses nothing', async () => {
      await openUsers(fingerprint, 3)
      for (const i of [0, 1]) {
        nodes[i]!.signal('SIGTERM')
        expect(await nodes[i]!.exited).toBe(0)
        nodes[i] = await start()
        balancer.setNodes(nodes)
        await haveAllUp(users)
      }
      await finish()
    })

    test('SES-5: kill -9 of a node loses nothing acknowledged, and its devices move to the other', async () => {
      await openUsers(fingerprint, 3)
      const before = balancer.acceptedAtMs.length
      nodes[0]!.signal('SIGKILL')
      await nodes[0]!.exited
      await waitFor(
        'devices to move',
        async () => balancer.acceptedAtMs.length - before,
        (moved) => moved >= 3,
      )
      await finish()
    })

    test('SES-5: a second signal ends at once with 130', async () => {
      const first = await start(600_000)
      nodes.push(first)
      balancer.setNodes([first])
      await openUsers(fingerprint, 2)
      first.signal('SIGTERM')
      let exitCode: number | null | undefined
      void first.exited.then((code) => {
        exitCode = code
      })
      // Within a second both count as one: under npm one Ctrl-C arrives twice.
      await waitFor(
        'the process to end',
        async () => {
          first.signal('SIGTERM')
          return exitCode
        },
        (code) => code !== undefined,
      )
      expect(exitCode).toBe(130)
    })
  })
})
