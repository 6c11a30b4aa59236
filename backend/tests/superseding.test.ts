// A newer session of a device supersedes the older one, on one node and across two, whatever is lost or comes at once
// (SES-3). What the older one had in flight is stored, and its receipts are learned again.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { follow, haveReceipts, roundTrip, wiresOf } from './event-ordering/publishing.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { createDeafBus } from './support/deaf-bus.ts'
import { waitFor } from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

const SUPERSEDED = 4405

describe('superseding', () => {
  let first: TestServer
  let second: TestServer
  const bus = createDeafBus()

  beforeAll(async () => {
    const redisUrl = testRedisUrl()
    first = await startTestServer({ database: 'postgres', redisUrl })
    const { databaseUrl = '', identityFile } = first
    second = await startTestServer({ database: 'postgres', databaseUrl, identityFile, redisUrl, bus: bus.wrap })
  })
  afterAll(async () => {
    await second?.close()
    await first?.close()
  })

  const newDevice = async (): Promise<TestDevice> => (await createAccount(first)).devices[0]!

  test.each([
    ['one node', () => [first, first] as const],
    ['two nodes', () => [first, second] as const],
    ['two nodes, the other way', () => [second, first] as const],
  ])('SES-3: on %s the newer session stays and the older is closed', async (_, nodes) => {
    const device = await newDevice()
    const [before, after] = nodes()
    const older = await follow(before, device)
    const newer = await follow(after, device)
    expect((await older.closed).code).toBe(SUPERSEDED)
    await roundTrip(newer)
    expect(newer.closeFrame).toBeUndefined()
    await newer.close()
  })

  test('SES-3: sessions begun on two nodes at one moment end with exactly one', async () => {
    for (let round = 0; round < 8; round++) {
      const device = await newDevice()
      const outcomes = await Promise.all(
        [first, second, first, second].map((node) =>
          device.connect(node, { cursor: 0 }).catch((error: Error) => error),
        ),
      )
      const sessions = outcomes.filter((outcome): outcome is RawSession => !(outcome instanceof Error))
      await waitFor(
        'one session to be left',
        async () => sessions.filter(({ closeFrame }) => closeFrame === undefined),
        (open) => open.length === 1,
      )
      for (const { closeFrame } of sessions) expect(closeFrame?.code ?? SUPERSEDED).toBe(SUPERSEDED)
      const staying = sessions.find(({ closeFrame }) => closeFrame === undefined)!
      const events = await device.sealMany('notes', 3)
      staying.publish(wiresOf(events))
      await haveReceipts(staying, 3)
      await staying.close()
    }
  })

  test('SES-3: a lost announcement is made up for by comparing with the database', async () => {
    const device = await newDevice()
    const older = await follow(second, device)
    bus.setDeaf(true)
    const newer = await follow(first, device)
    expect((await older.closed).code).toBe(SUPERSEDED)
    bus.setDeaf(false)
    await roundTrip(newer)
    await newer.close()
  })

  test('SES-3: what the older session had in flight is stored, and its lost receipts are learned again', async () => {
    const device = await newDevice()
    const older = await follow(first, device)
    const events = await device.sealMany('notes', 20)
    older.socket.pause()
    older.publish(wiresOf(events))
    const newer = await follow(second, device)
    newer.publish(wiresOf(events))
    await haveReceipts(newer, 20)
    expect(newer.receipts.map(([deviceSeq, , userSeq]) => [deviceSeq, userSeq])).toEqual(
      events.map(({ deviceSeq }) => [deviceSeq, deviceSeq]),
    )
    older.socket.resume()
    expect((await older.closed).code).toBe(SUPERSEDED)
    await newer.close()
  })
})
