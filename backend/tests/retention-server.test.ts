// Lifetimes and the quota of a running server, seen by devices over sockets: what they get, and what they are told.

import { type LeafItem, type ServerMessage, toHex } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseConfig } from '../src/config.ts'
import { createAccount, type TestAccount, type TestDevice } from './support/account.ts'
import { DATABASE_KINDS, waitFor } from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const QUOTA_BYTES = 1024 * 1024
const BODY_BYTES = 200 * 1024

describe.each(DATABASE_KINDS)('what a server on %s lets go', (database) => {
  let server: TestServer
  beforeAll(async () => {
    const flags = { VALISE_USER_BYTES: String(QUOTA_BYTES), VALISE_RETENTION_INTERVAL_MS: '50' }
    server = await startTestServer({ database, flags })
  })
  afterAll(() => server?.close())

  const metric = (name: string) => server.app.metrics.read(name)

  const publish = async (
    session: RawSession,
    device: TestDevice,
    count: number,
    options: Parameters<TestDevice['seal']>[1],
  ) => {
    const before = session.receipts.length
    for (let i = 0; i < count; i++) session.publish([(await device.seal('notes', options)).wire])
    await session.until('the receipts', () => session.receipts.length === before + count)
  }

  const replay = async (device: TestDevice, cursor = 0) => {
    const session = await device.connect(server, { cursor })
    await session.until('the end of the replay', () => session.isCaughtUp)
    const told = session.messages.filter((message): message is Told => message.type === 'resync_required')
    const shape = session.events.map((event) => (event.wire === undefined ? 'leaf' : 'bytes'))
    const first = session.messages.findIndex(({ type }) => type === 'resync_required')
    const events = session.messages.findIndex(({ type }) => type === 'events')
    await session.close()
    return { told: told.map(({ reason, from, to }) => [reason, from, to]), shape, isToldFirst: first < events }
  }
  type Told = Extract<ServerMessage, { type: 'resync_required' }>

  const withTwo = async (
    work: (parts: { account: TestAccount; writer: TestDevice; reader: TestDevice }) => Promise<void>,
  ) => {
    const account = await createAccount(server, { devices: 2 })
    await work({ account, writer: account.devices[0]!, reader: account.devices[1]! })
  }

  test('RET-1: the bytes are gone soon after the lifetime ended, and a replay gives leaf and place', () =>
    withTwo(async ({ writer, reader }) => {
      const session = await writer.connect(server)
      const expired = await metric('valise_events_expired_total')
      await publish(session, writer, 1, { header: { ttlS: 1 } })
      await publish(session, writer, 1, {})
      expect((await replay(reader)).shape).toEqual(['bytes', 'bytes'])
      await waitFor(
        'the lifetime to end',
        () => metric('valise_events_expired_total'),
        (count) => count === expired + 1,
      )
      expect(await replay(reader)).toEqual({ told: [], shape: ['leaf', 'bytes'], isToldFirst: true })
      await session.close()
    }))

  test('RET-1, ORD-5: a page says when it was read and where the log ended, word that is live does not; a leaf says all', () =>
    withTwo(async ({ writer, reader }) => {
      const session = await writer.connect(server)
      const live = await reader.connect(server, { cursor: 0 })
      await live.until('the replay', () => live.isCaughtUp)
      const expired = await metric('valise_events_expired_total')
      await publish(session, writer, 1, { header: { ttlS: 1 } })
      await publish(session, writer, 1, {})
      await live.until('both', () => live.events.length === 2)
      const momentsOf = ({ messages }: RawSession) =>
        messages.flatMap((message) => (message.type === 'events' ? [{ at: message.at, head: message.head }] : []))
      expect(momentsOf(live)).toEqual([
        { at: undefined, head: undefined },
        { at: undefined, head: undefined },
      ])
      await waitFor(
        'the lifetime to end',
        () => metric('valise_events_expired_total'),
        (count) => count === expired + 1,
      )
      const late = await reader.connect(server, { cursor: 0 })
      await late.until('the replay', () => late.isCaughtUp)
      expect(momentsOf(late)).toEqual([{ at: expect.any(Number), head: 2 }])
      const page = late.messages.find((message) => message.type === 'events')
      const [, , storedAtMs, , , ttlS, flags, inner] = page!.events[0] as LeafItem
      expect(page!.at).toBeGreaterThanOrEqual(storedAtMs + ttlS * 1000)
      const leaf = writer.sealed[0]!.leaf
      expect({ ttlS, flags, inner: toHex(inner) }).toEqual({ ...leaf, inner: toHex(leaf.inner) })
      for (const open of [session, live, late]) open.drop()
    }))

  test('RET-2, RET-3: over the quota the oldest go by themselves, and a device that comes back is told before it gets leaves', () =>
    withTwo(async ({ writer, reader }) => {
      const session = await writer.connect(server)
      const pruned = await metric('valise_events_pruned_total')
      await publish(session, writer, 8, { data: new Uint8Array(BODY_BYTES) })
      await waitFor(
        'the oldest to go',
        () => metric('valise_events_pruned_total'),
        (count) => count === pruned + 3,
      )
      const seen = await replay(reader)
      expect(seen.told).toEqual([['retention', 4, 8]])
      expect(seen.isToldFirst).toBe(true)
      expect(seen.shape).toEqual(['leaf', 'leaf', 'leaf', 'bytes', 'bytes', 'bytes', 'bytes', 'bytes'])
      expect(await replay(reader, 3)).toMatchObject({ told: [], shape: seen.shape.slice(3) })
      expect(await metric('valise_prune_duration_seconds')).toBeGreaterThan(0)
      await session.close()
    }))

  test('RET-2: what a node did not count before it went away is counted when one is there again', () =>
    withTwo(async ({ writer, reader }) => {
      const session = await writer.connect(server)
      const pruned = await metric('valise_events_pruned_total')
      await publish(session, writer, 4, { data: new Uint8Array(BODY_BYTES) })
      session.drop()
      await server.restart()
      const again = await writer.connect(server)
      await publish(again, writer, 4, { data: new Uint8Array(BODY_BYTES) })
      await waitFor(
        'the oldest to go',
        () => metric('valise_events_pruned_total'),
        (count) => count > 0,
      )
      expect(pruned).toBeGreaterThanOrEqual(0)
      await waitFor(
        'three to be gone',
        () => replay(reader),
        ({ told }) => told[0]?.[1] === 4,
      )
      await again.close()
    }))
})

describe.each(DATABASE_KINDS)('what a server on %s keeps for some days', (database) => {
  test('RET-2, RET-3: what is older goes by itself, and a device from beyond the horizon is told', async () => {
    let aheadMs = 0
    const flags = { VALISE_EVENT_RETENTION_DAYS: '30', VALISE_RETENTION_INTERVAL_MS: '50' }
    const server = await startTestServer({ database, flags, now: () => Date.now() + aheadMs })
    try {
      const { devices } = await createAccount(server, { devices: 2 })
      const [writer, reader] = [devices[0]!, devices[1]!]
      const session = await writer.connect(server)
      session.publish((await writer.sealMany('notes', 3)).map(({ wire }) => wire))
      await session.until('the receipts', () => session.receipts.length === 3)
      aheadMs = 31 * 86_400_000
      const pruned = () => server.app.metrics.read('valise_events_pruned_total')
      await waitFor('them to go', pruned, (count) => count === 3)
      const back = await reader.connect(server, { cursor: 0 })
      await back.until('the end of the replay', () => back.isCaughtUp)
      expect(back.events.map(({ wire }) => wire)).toEqual([undefined, undefined, undefined])
      const told = back.messages.find(({ type }) => type === 'resync_required')
      expect(told).toMatchObject({ reason: 'retention', from: 4 })
    } finally {
      await server.close()
    }
  })

  test('RET-1, ORD-1: what comes again after its lifetime has its first receipt', async () => {
    let aheadMs = 0
    const server = await startTestServer({ database, now: () => Date.now() + aheadMs })
    try {
      const writer = (await createAccount(server)).devices[0]!
      const session = await writer.connect(server)
      const { wire } = await writer.seal('notes', { header: { ttlS: 60 } })
      session.publish([wire])
      await session.until('the receipt', () => session.receipts.length === 1)
      aheadMs = 61_000
      session.publish([wire])
      await session.until('the receipt again', () => session.receipts.length + session.refusals.length === 2)
      expect(session.receipts[1]).toEqual([...session.receipts[0]!.slice(0, 4), true])
      session.drop()
    } finally {
      await server.close()
    }
  })

  test('RET-2: by default nothing goes for its age', () => {
    expect(parseConfig({}, {}).retention).toMatchObject({ maxAgeMs: undefined, maxUserBytes: 1 << 30 })
    const { retention } = parseConfig({}, { VALISE_EVENT_RETENTION_DAYS: '30' })
    expect(retention.maxAgeMs).toBe(30 * 86_400_000)
  })
})
