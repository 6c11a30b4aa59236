// Who is online, as devices are told it by two nodes: a snapshot, then changes, no ghosts (PRE-1 to PRE-3).

import { dirname } from 'node:path'
import { toHex } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { follow } from './event-ordering/publishing.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { createDeafBus } from './support/deaf-bus.ts'
import { startNodeProcess } from './support/node-process.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

const LEASE_MS = 3000

interface Seen {
  readonly isOnline: boolean
  readonly lastSeenAt: number | null
}

/** The picture that the messages so far add up to. */
function pictureOf(session: RawSession): Map<string, Seen> {
  let picture = new Map<string, Seen>()
  for (const message of session.messages) {
    if (message.type !== 'presence') continue
    if (message.is_snapshot) picture = new Map()
    for (const { device_id, is_online, last_seen_at } of message.devices) {
      picture.set(toHex(device_id), { isOnline: is_online, lastSeenAt: last_seen_at })
    }
  }
  return picture
}

const seen = (session: RawSession, device: TestDevice): Seen | undefined =>
  pictureOf(session).get(toHex(device.deviceId))
const haveSeen = (session: RawSession, device: TestDevice, isOnline: boolean): Promise<void> =>
  session.until(
    `the device to be ${isOnline ? 'online' : 'offline'}`,
    () => seen(session, device)?.isOnline === isOnline,
  )

describe.each([
  ['embedded, one node', false],
  ['two nodes over Redis', true],
] as const)('presence, %s', (_, hasRedis) => {
  let first: TestServer
  let second: TestServer
  const bus = createDeafBus()

  beforeAll(async () => {
    const flags = { VALISE_PRESENCE_LEASE_MS: String(LEASE_MS) }
    if (!hasRedis) {
      first = await startTestServer({ database: 'pglite', flags })
      second = first
      return
    }
    const redisUrl = testRedisUrl()
    first = await startTestServer({ database: 'postgres', redisUrl, flags })
    const { databaseUrl = '', identityFile } = first
    second = await startTestServer({ database: 'postgres', databaseUrl, identityFile, redisUrl, flags, bus: bus.wrap })
  })
  afterAll(async () => {
    if (second !== first) await second?.close()
    await first?.close()
  })

  test('PRE-2: a session is told of the other devices at once, and of each change', async () => {
    const { devices } = await createAccount(first, { devices: 3 })
    const [watching, coming, never] = [devices[0]!, devices[1]!, devices[2]!]
    const session = await follow(first, watching)
    await session.until('the snapshot', () => session.messages.some((message) => message.type === 'presence'))
    expect(session.messages.find((message) => message.type === 'presence')).toMatchObject({ is_snapshot: true })
    expect(pictureOf(session).size).toBe(2)
    expect(seen(session, never)).toEqual({ isOnline: false, lastSeenAt: null })

    const came = await follow(second, coming)
    await haveSeen(session, coming, true)
    await haveSeen(came, watching, true)
    await came.close()
    await haveSeen(session, coming, false)
    expect(seen(session, coming)!.lastSeenAt).toBeGreaterThan(0)
    expect(seen(session, never)).toEqual({ isOnline: false, lastSeenAt: null })
    await session.close()

    const later = await follow(second, coming)
    await haveSeen(later, watching, false)
    expect(seen(later, watching)!.lastSeenAt).toBeGreaterThan(0)
    await later.close()
  })

  test('PRE-2: a session that supersedes another never makes its device look offline', async () => {
    const { devices } = await createAccount(first, { devices: 2 })
    const watching = await follow(first, devices[0]!)
    const older = await follow(first, devices[1]!)
    await haveSeen(watching, devices[1]!, true)
    const newer = await follow(second, devices[1]!)
    await older.closed
    await newer.close()
    await haveSeen(watching, devices[1]!, false)
    const words = watching.messages.filter((message) => message.type === 'presence' && !message.is_snapshot)
    expect(words.map((message) => message.type === 'presence' && message.devices.map((d) => d.is_online))).toEqual([
      [true],
      [false],
    ])
    await watching.close()
  })

  // A node alone hears itself: there is nothing to lose.
  if (!hasRedis) return
  test('PRE-3: a lost announcement is made up for within the lease', async () => {
    const { devices } = await createAccount(first, { devices: 2 })
    const watching = await follow(second, devices[0]!)
    bus.setDeaf(true)
    const startedAtMs = performance.now()
    const silent = await follow(first, devices[1]!)
    await haveSeen(watching, devices[1]!, true)
    await silent.close()
    await haveSeen(watching, devices[1]!, false)
    bus.setDeaf(false)
    expect(performance.now() - startedAtMs).toBeLessThan(2 * LEASE_MS)
    await watching.close()
  })

  test('PRE-3: kill -9 of a node leaves no ghost for longer than the lease', async () => {
    const { devices } = await createAccount(first, { devices: 2 })
    const watching = await follow(second, devices[0]!)
    const node = await startNodeProcess({
      VALISE_LOG_LEVEL: 'silent',
      VALISE_PRESENCE_LEASE_MS: String(LEASE_MS),
      PORT: '0',
      ADMIN_PORT: '0',
      DATABASE_URL: first.databaseUrl!,
      REDIS_URL: testRedisUrl(),
      VALISE_DATA_DIR: dirname(first.identityFile),
      VALISE_IDENTITY_FILE: first.identityFile,
    })
    const lost = await follow({ url: node.url, fingerprint: first.fingerprint }, devices[1]!)
    await haveSeen(watching, devices[1]!, true)
    node.signal('SIGKILL')
    await lost.closed
    const killedAtMs = performance.now()
    await haveSeen(watching, devices[1]!, false)
    expect(performance.now() - killedAtMs).toBeLessThan(LEASE_MS)
    await watching.close()
  })
})
