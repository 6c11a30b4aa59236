// The limits of session keys, through real sockets and a clock that is moved by hand: age, events in each direction,
// both at once, and clients that do not change their keys.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { hashForLog } from '../src/telemetry/log.ts'
import { oneTo } from './event-ordering/observed-log.ts'
import { follow, haveEvents, haveReceipts, roundTrip, wiresOf } from './event-ordering/publishing.ts'
import { createAccount, type PublishedEvent, type TestDevice } from './support/account.ts'
import type { RawSession } from './support/raw-device.ts'
import { expectRotationClose, HOUR_MS, openRotationScene, type RotationScene } from './support/rotation-scene.ts'

const ROTATE_LOG = 'gateway.session.rotate'
const STEP_MS = 60_000
const LIMIT = 1000

let scene: RotationScene
let writer: TestDevice
let reader: TestDevice

beforeEach(async () => {
  scene = await openRotationScene()
  const account = await createAccount(scene, { devices: 2 })
  writer = account.devices[0]!
  reader = account.devices[1]!
})
afterEach(() => scene?.close())

const noticesOf = ({ messages }: RawSession) => messages.filter(({ type }) => type === 'session_expiring')

/** Time passes while the device and the server hear of each other all along. */
async function passTime(session: RawSession, byMs: number): Promise<void> {
  for (const endMs = scene.now() + byMs; scene.now() < endMs; ) {
    scene.advance(Math.min(STEP_MS, endMs - scene.now()))
    await roundTrip(session)
  }
}

/** In two frames, so that the limit is met inside a session that has published before. */
function publish(session: RawSession, events: readonly PublishedEvent[]): void {
  const wires = wiresOf(events)
  for (let at = 0; at < wires.length; at += 500) session.publish(wires.slice(at, at + 500))
}

/** A hundred at a time, so that the keys can change meanwhile. */
async function publishPaced(session: RawSession, events: readonly PublishedEvent[]): Promise<void> {
  const before = session.receipts.length
  for (let at = 0; at < events.length; at += 100) {
    publish(session, events.slice(at, at + 100))
    await haveReceipts(session, before + Math.min(events.length, at + 100))
  }
}

describe('the age of a session', () => {
  test('SES-2: pings keep no session beyond 24 h; its client is told once, from 20 h on', async () => {
    const session = await follow(scene, writer)
    const beganAtMs = session.established.expires_at - 24 * HOUR_MS
    await passTime(session, beganAtMs + 20 * HOUR_MS - 1 - scene.now())
    expect(noticesOf(session)).toEqual([])
    await passTime(session, 1)
    expect(noticesOf(session)).toEqual([{ type: 'session_expiring', expires_at: session.established.expires_at }])

    await passTime(session, 4 * HOUR_MS - 1)
    expect(noticesOf(session)).toHaveLength(1)
    expect(scene.logged(ROTATE_LOG)).toEqual([])
    expect(session.phase).toBe(0)

    scene.advance(1)
    await expectRotationClose(session)
    expect(scene.logged(ROTATE_LOG)).toEqual([
      expect.objectContaining({
        msg: 'Session keys should be rotated - forcing re-handshake',
        deviceId: hashForLog(writer.deviceId),
        sessionAge: 24 * HOUR_MS,
        sessionAgeHours: '24.00',
        reason: 'age',
      }),
    ])
  })

  test('SES-2: keys changed in band do not make a session younger', async () => {
    const session = await follow(scene, writer)
    publish(session, await writer.sealMany('notes', 900))
    await haveReceipts(session, 900)
    await session.until('new keys', () => session.phase === 1)
    scene.advance(24 * HOUR_MS)
    await expectRotationClose(session)
  })

  test('SES-2: both limits at once end the session once, for its age', async () => {
    const session = await writer.connect(scene, { cursor: 0, onRekeyStep: () => false })
    publish(session, await writer.sealMany('notes', LIMIT - 1))
    await haveReceipts(session, LIMIT - 1)
    const last = await writer.seal('notes')
    scene.advance(24 * HOUR_MS)
    publish(session, [last])
    await expectRotationClose(session)
    expect(scene.logged(ROTATE_LOG)).toEqual([expect.objectContaining({ reason: 'age' })])

    const next = await follow(scene, writer)
    // Whether the tick or the event came first: it is stored once.
    next.publish([last.wire])
    await haveReceipts(next, 1)
    expect(next.receipts[0]!.slice(0, 3)).toEqual([LIMIT, LIMIT, LIMIT])
  })
})

describe('the events of a session', () => {
  test.each([
    [LIMIT - 1, 'open'],
    [LIMIT, 'closed'],
    [LIMIT + 1, 'closed'],
  ] as const)(
    'SES-2: %i published by a client that cannot rekey leave it %s, and are all stored',
    async (count, end) => {
      const session = await writer.connect(scene, { cursor: 0, canRekey: false })
      const events = await writer.sealMany('notes', count)
      publish(session, events)
      if (end === 'open') {
        await haveReceipts(session, count)
        await roundTrip(session)
        expect(session.closeFrame).toBeUndefined()
      } else {
        await expectRotationClose(session)
      }
      const next = await follow(scene, writer)
      await publishPaced(next, events)
      expect(next.receipts.map(([deviceSeq, , userSeq]) => deviceSeq === userSeq)).not.toContain(false)
      // What was committed when the session ended is found again; the event beyond the limit may not have been taken.
      const duplicates = next.receipts.filter(([, , , , isDuplicate]) => isDuplicate)
      expect(duplicates.length).toBeGreaterThanOrEqual(Math.min(count, LIMIT))
    },
  )

  test.each([
    [LIMIT - 1, 'open'],
    [LIMIT, 'open'],
    [LIMIT + 1, 'closed'],
  ] as const)('SES-2: %i published by a client that ignores the hint leave it %s', async (count, end) => {
    let hints = 0
    const session = await writer.connect(scene, { cursor: 0, onRekeyStep: () => ++hints === 0 })
    publish(session, await writer.sealMany('notes', count))
    if (end === 'closed') return expectRotationClose(session)
    await haveReceipts(session, count)
    await roundTrip(session)
    expect([session.closeFrame, hints, session.phase]).toEqual([undefined, 1, 0])
  })

  test.each([
    [LIMIT - 1, 'open'],
    [LIMIT, 'closed'],
    [LIMIT + 1, 'closed'],
  ] as const)('SES-2: %i delivered to a client that cannot rekey leave it %s', async (count, end) => {
    const source = await follow(scene, writer)
    await publishPaced(source, await writer.sealMany('notes', count))
    const session = await reader.connect(scene, { cursor: 0, canRekey: false })
    await haveEvents(session, Math.min(count, LIMIT))
    if (end === 'closed') await expectRotationClose(session)
    else await roundTrip(session)
    expect(session.events.map(({ userSeq }) => userSeq)).toEqual(oneTo(Math.min(count, LIMIT)))
    expect(session.closeFrame === undefined).toBe(end === 'open')
  })

  test('SES-2: a client that ignores the hint gets no event beyond the limit, and is closed after 30 s', async () => {
    const source = await follow(scene, writer)
    await publishPaced(source, await writer.sealMany('notes', LIMIT + 1))
    const session = await reader.connect(scene, { cursor: 0, onRekeyStep: () => false })
    await haveEvents(session, LIMIT)
    scene.advance(29_999)
    await roundTrip(session)
    await source.close()
    expect([session.events.length, session.closeFrame]).toEqual([LIMIT, undefined])
    scene.advance(1)
    await expectRotationClose(session)
    expect(session.events.map(({ userSeq }) => userSeq)).toEqual(oneTo(LIMIT))
    expect(scene.logged(ROTATE_LOG)).toEqual([expect.objectContaining({ reason: 'events' })])

    const next = await follow(scene, reader, LIMIT)
    expect(next.events.map(({ userSeq }) => userSeq)).toEqual([LIMIT + 1])
  })

  test('SES-2: a client that rekeys goes on through 3001 events each way, each delivered once, in order', async () => {
    const count = 3 * LIMIT + 1
    const [first, second] = await Promise.all([follow(scene, writer), follow(scene, reader)])
    const fromWriter = await writer.sealMany('a', count)
    const fromReader = await reader.sealMany('b', count)
    await Promise.all([publishPaced(first, fromWriter), publishPaced(second, fromReader)])
    await Promise.all([first, second].map((session) => haveEvents(session, count)))
    for (const session of [first, second]) {
      expect(session.events.map(({ deviceSeq }) => deviceSeq)).toEqual(oneTo(count))
      expect(session.phase).toBeGreaterThanOrEqual(6)
      expect(session.closeFrame).toBeUndefined()
    }
  })
})
