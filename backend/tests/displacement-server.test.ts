// A stolen member floods a running server: how much of the others' events it pushes out, and who is told (RET-8).

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createDisplacementWatch } from '../src/log/displacement-watch.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { DATABASE_KINDS, id, waitFor } from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const QUOTA_BYTES = 1024 * 1024
const BODY_BYTES = 8000

describe.each(DATABASE_KINDS)('a flood on %s', (database) => {
  let server: TestServer
  beforeAll(async () => {
    const flags = { VALISE_USER_BYTES: String(QUOTA_BYTES), VALISE_RETENTION_INTERVAL_MS: '50' }
    server = await startTestServer({ database, flags })
  })
  afterAll(() => server?.close())

  const sealOne = (device: TestDevice) => device.seal('notes', { data: new Uint8Array(BODY_BYTES) })

  /** `stored`, or in how many milliseconds it may come again. */
  const tryOnce = async (session: RawSession, wire: Uint8Array): Promise<'stored' | number> => {
    const stored = session.receipts.length
    const answers = stored + session.refusals.length
    session.publish([wire])
    await session.until('the answer', () => session.receipts.length + session.refusals.length > answers)
    if (session.receipts.length > stored) return 'stored'
    const refusal = session.refusals.at(-1)
    if (refusal?.code !== 'displacement_limit') throw new Error(`refused with ${refusal?.code}`)
    return refusal.retry_after_ms ?? 0
  }

  /** Publishes one event, again while pruning is behind, until it is stored or has to wait for hours. */
  const insist = async (session: RawSession, wire: Uint8Array): Promise<boolean> => {
    const isSettled = (answer: 'stored' | number): boolean => answer === 'stored' || answer > 60_000
    return (await waitFor('an answer that stays', () => tryOnce(session, wire), isSettled)) === 'stored'
  }

  test('RET-8: nine tenths of the others’ bytes stay, and the others are told once', async () => {
    const { devices } = await createAccount(server, { devices: 2 })
    const [owner, thief] = [devices[0]!, devices[1]!]
    const [watching, session] = [await owner.connect(server), await thief.connect(server)]
    const { wire } = await sealOne(owner)
    const count = Math.floor(QUOTA_BYTES / wire.length)
    watching.publish([wire])
    for (let i = 1; i < count; i++) watching.publish([(await sealOne(owner)).wire])
    await watching.until('the receipts', () => watching.receipts.length === count)

    let stored = 0
    for (;;) {
      const event = await sealOne(thief)
      if (!(await insist(session, event.wire))) {
        // It may try as often as it likes.
        for (let i = 0; i < 3; i++) expect(await insist(session, event.wire)).toBe(false)
        break
      }
      stored++
    }
    // A tenth of the quota, and what was free of it.
    expect(stored * wire.length).toBeLessThanOrEqual(QUOTA_BYTES / 10 + wire.length)
    expect(stored).toBeGreaterThan(0)
    await watching.until('the notice', () => watching.messages.some(({ type }) => type === 'storage_notice'))
    const notices = watching.messages.filter(({ type }) => type === 'storage_notice')
    expect(notices).toMatchObject([{ bytes: Math.floor(QUOTA_BYTES / 10) }])
    expect(session.messages.some(({ type }) => type === 'storage_notice')).toBe(false)
    expect(await server.app.metrics.read('valise_displacement_limits_total')).toBe(1)

    const reading = await thief.connect(server, { cursor: 0 })
    await reading.until('the replay', () => reading.isCaughtUp)
    const kept = reading.events.filter((event) => event.wire !== undefined).length
    expect(kept).toBeGreaterThanOrEqual(Math.floor(count * 0.9) - 1)
    for (const open of [watching, reading]) open.drop()
  })
})

test('RET-8: a device that keeps trying is reported once an hour, in the log, the audit log and a metric', () => {
  let nowMs = 0
  const lines: string[] = []
  const told: object[] = []
  const watch = createDisplacementWatch({
    maxUserBytes: 1000,
    log: createLog({ level: 'info', stream: { write: (line: string) => void lines.push(line) } }),
    count: () => told.push({ type: 'counted' }),
    noteAudit: async (detail) => void told.push(detail),
    announce: (announcement) => told.push(announcement),
    onFailure: () => {},
    now: () => nowMs,
  })
  const device = { userId: new Uint8Array(32), deviceId: id(), deviceKey: 'one' }
  for (const atMs of [0, 1, 3_599_999]) {
    nowMs = atMs
    watch.note(device)
  }
  expect(told).toMatchObject([
    { type: 'counted' },
    { type: 'storage_notice', deviceId: device.deviceId, bytes: 100 },
    { user: expect.any(String), device: expect.any(String), bytes: 100 },
  ])
  expect(lines.map((line) => JSON.parse(line).event)).toEqual(['log.displacement.limit'])
  nowMs = 3_600_000
  watch.note(device)
  watch.note({ ...device, deviceId: id(), deviceKey: 'two' })
  expect(told).toHaveLength(9)
})

test('P5: what is remembered of reports is bounded: the oldest is forgotten, and reported again', () => {
  let reports = 0
  const watch = createDisplacementWatch({
    maxUserBytes: 1000,
    log: createLog({ level: 'silent' }),
    count: () => reports++,
    noteAudit: async () => {},
    announce: () => {},
    onFailure: () => {},
    now: () => 0,
  })
  const note = (number: number): void =>
    watch.note({ userId: new Uint8Array(32), deviceId: new Uint8Array(16), deviceKey: String(number) })
  for (let number = 0; number <= 10_000; number++) note(number)
  expect(reports).toBe(10_001)
  for (const number of [1, 5_000, 10_000]) note(number)
  expect(reports).toBe(10_001)
  note(0)
  expect(reports).toBe(10_002)
})
