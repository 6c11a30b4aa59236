// What Valise promises about order (docs/PROTOCOL.md, ORD-1 to ORD-5, P2 to P4), shown through real sockets: on PostgreSQL
// with Redis, and again on the embedded database. Several nodes, a bus that fails, transactions stepped by hand and the
// seeded fuzz stand in the folder event-ordering/.

import { toHex } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeFuzz } from './event-ordering/fuzz.ts'
import { describeNodes } from './event-ordering/nodes.ts'
import { expectSoundLog, logOf, oneTo } from './event-ordering/observed-log.ts'
import { follow, haveEvents, haveReceipts, publishAll, publishInFrames, wiresOf } from './event-ordering/publishing.ts'
import { describeTransactions } from './event-ordering/transactions.ts'
import { HARSH_FLAGS, startWorldOfTwo, worldOfOne } from './event-ordering/world.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { createFaultBus } from './support/fault-bus.ts'
import type { RawSession } from './support/raw-device.ts'
import { createSeededRandom } from './support/seeded-random.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

const SEEDS = {
  postgres: { raw: [1, 2, 3], sdk: [1] },
  pglite: { raw: [2], sdk: [1] },
} as const

/** `through` never goes back, and never lies before an event that came with it or earlier. */
function expectMonotonicThrough(session: RawSession): void {
  let complete = 0
  for (const message of session.messages) {
    if (message.type !== 'events') continue
    expect(message.events.every(([userSeq]) => userSeq > complete && userSeq <= message.through)).toBe(true)
    complete = message.through
  }
}

describe.each(['postgres', 'pglite'] as const)('order on %s', (database) => {
  const bus = createFaultBus()
  let server: TestServer

  beforeAll(async () => {
    server = await startTestServer({
      database,
      ...(database === 'postgres' ? { redisUrl: testRedisUrl() } : {}),
      bus: bus.wrap,
      // Heads are compared so rarely that no test is saved by it.
      flags: { ...HARSH_FLAGS, VALISE_HEAD_POLL_MS: '600000' },
    })
  })
  afterAll(() => server?.close())

  const createDevices = async (count: number): Promise<TestDevice[]> => [
    ...(await createAccount(server, { devices: count })).devices,
  ]

  test('ORD-1: device_seq is 1, 2, 3 … a device, however its events are framed', async () => {
    const [writer, reader] = await createDevices(2)
    const [writing, reading] = [await follow(server, writer!), await follow(server, reader!)]
    const events = [...(await writer!.sealMany('a', 20)), ...(await writer!.sealMany('b', 20))]
    publishInFrames(writing, events, 1)
    await haveReceipts(writing, 40)
    expect(writing.receipts.map(([deviceSeq]) => deviceSeq)).toEqual(oneTo(40))
    await haveEvents(reading, 40)
    expect(reading.events.map((event) => event.deviceSeq)).toEqual(oneTo(40))
  })

  test('ORD-1: devices count on their own, even in one stream', async () => {
    const devices = await createDevices(3)
    const sessions = await Promise.all(devices.map((device) => follow(server, device)))
    for (const [i, session] of sessions.entries()) {
      session.publish(wiresOf(await devices[i]!.sealMany('shared', 4 + i)))
    }
    await Promise.all(sessions.map((session, i) => haveReceipts(session, 4 + i)))
    for (const [i, session] of sessions.entries()) {
      expect(session.receipts.map(([deviceSeq]) => deviceSeq)).toEqual(oneTo(4 + i))
    }
  })

  test('ORD-1: a higher device_seq is refused with the one expected, and nothing of it is stored', async () => {
    const [writer, reader] = await createDevices(2)
    const [writing, reading] = [await follow(server, writer!), await follow(server, reader!)]
    const [first, missing, third, fourth] = await writer!.sealMany('notes', 4)
    writing.publish(wiresOf([first!]))
    writing.publish(wiresOf([third!, fourth!]))
    await writing.until('two refusals', () => writing.refusals.length === 2)
    expect(writing.refusals.map(({ device_seq, code, expected }) => ({ device_seq, code, expected }))).toEqual([
      { device_seq: 3, code: 'device_seq_gap', expected: 2 },
      { device_seq: 4, code: 'device_seq_gap', expected: 2 },
    ])
    writing.publish(wiresOf([missing!, third!, fourth!]))
    await haveReceipts(writing, 4)
    expect(writing.receipts.map(([, , , , isDuplicate]) => isDuplicate)).toEqual([false, false, false, false])
    await haveEvents(reading, 4)
    expectSoundLog(logOf(reader!, reading), 4)
  })

  test('ORD-1: another event at a stored device_seq is a conflict, and ends the session of the clone', async () => {
    const [writer, reader] = await createDevices(2)
    const [writing, reading] = [await follow(server, writer!), await follow(server, reader!)]
    const clones = [await writer!.sealAside('notes'), await writer!.sealAside('notes')]
    expect(clones.map((clone) => clone.deviceSeq)).toEqual([1, 1])
    writing.publish(wiresOf(clones.slice(0, 1)))
    await haveReceipts(writing, 1)
    writing.publish(wiresOf(clones.slice(1)))
    expect((await writing.closed).code).toBe(4409)
    expect(writing.refusals.map(({ code }) => code)).toEqual(['device_seq_conflict'])

    reading.publish(wiresOf(await reader!.sealMany('notes', 1)))
    await haveReceipts(reading, 1)
    expect(reading.receipts[0]?.slice(0, 3)).toEqual([1, 2, 2])
    expect(reading.events.map((event) => event.eventId)).toEqual([toHex(clones[0]!.eventId)])
  })

  test('P4: the same events again get their first receipts and are not relayed again', async () => {
    const [writer, reader] = await createDevices(2)
    const [writing, reading] = [await follow(server, writer!), await follow(server, reader!)]
    const events = await writer!.sealMany('notes', 10)
    writing.publish(wiresOf(events.slice(0, 6)))
    await haveReceipts(writing, 6)
    // One frame that begins in what is stored and ends in what is not.
    writing.publish(wiresOf(events.slice(3)))
    await haveReceipts(writing, 13)
    const [first, again] = [writing.receipts.slice(3, 6), writing.receipts.slice(6, 9)]
    expect(again).toEqual(first.map((receipt) => [...receipt.slice(0, 4), true]))
    expect(writing.receipts.slice(9).map(([deviceSeq, , userSeq]) => [deviceSeq, userSeq])).toEqual([
      [7, 7],
      [8, 8],
      [9, 9],
      [10, 10],
    ])
    await haveEvents(reading, 10)
    expect(reading.events.map((event) => event.userSeq)).toEqual(oneTo(10))
  })

  test('ORD-2: stream_seq is 1, 2, 3 … a stream, whoever publishes to it', async () => {
    const devices = await createDevices(3)
    const sessions = await Promise.all(devices.map((device) => follow(server, device)))
    await Promise.all(
      devices.map(async (device, i) => {
        for (const name of ['a', 'b', 'a', 'c', 'a', 'b']) sessions[i]!.publish(wiresOf(await device.sealMany(name, 2)))
      }),
    )
    await Promise.all(sessions.map((session) => haveReceipts(session, 12)))
    await Promise.all(sessions.map((session) => haveEvents(session, 24)))
    const log = logOf(devices[0]!, sessions[0]!)
    for (const [name, count] of [
      ['a', 18],
      ['b', 12],
      ['c', 6],
    ] as const) {
      const streamId = toHex(devices[0]!.account.streamId(name))
      const stream = log.filter((record) => record.streamId === streamId)
      expect(stream.map((record) => record.streamSeq)).toEqual(oneTo(count))
    }
  })

  test('ORD-2: users count on their own under the same stream name, and even the same stream id', async () => {
    const [[ann], [bob]] = [await createDevices(1), await createDevices(1)]
    const [annSession, bobSession] = [await follow(server, ann!), await follow(server, bob!)]
    annSession.publish(wiresOf(await ann!.sealMany('same', 7)))
    await haveReceipts(annSession, 7)
    // No client makes another user's stream id; a server that counted by it alone would be found out.
    const header = { streamId: ann!.account.streamId('same') }
    for (let i = 0; i < 5; i++)
      bobSession.publish(wiresOf([await bob!.seal('same', { header }), await bob!.seal('same')]))
    await haveReceipts(bobSession, 10)
    annSession.publish(wiresOf(await ann!.sealMany('same', 2)))
    await haveReceipts(annSession, 9)
    expectSoundLog(logOf(ann!, annSession), 9)
    expectSoundLog(logOf(bob!, bobSession), 10)
  })

  test('P2: several devices publishing at once are seen in one order by all', async () => {
    const devices = await createDevices(4)
    const sessions = await Promise.all(devices.map((device) => follow(server, device)))
    for (const device of devices) for (const name of ['a', 'b', 'a', 'c']) await device.sealMany(name, 10)
    for (const [i, session] of sessions.entries()) publishInFrames(session, devices[i]!.sealed, i)
    await Promise.all(sessions.map((session) => haveReceipts(session, 40)))
    await Promise.all(sessions.map((session) => haveEvents(session, 120)))
    const logs = sessions.map((session, i) => logOf(devices[i]!, session))
    expectSoundLog(logs[0]!, 160)
    for (const log of logs) expect(log).toEqual(logs[0])
  })

  test('ORD-4: by user_seq, each stream stays in the order of stream_seq and each device in that of device_seq', async () => {
    const devices = await createDevices(3)
    const sessions = await Promise.all(devices.map((device) => follow(server, device)))
    for (let round = 0; round < 8; round++) {
      for (const [i, session] of sessions.entries()) {
        const names = createSeededRandom(round * 3 + i).chance(50) ? ['a', 'b', 'c'] : ['c', 'a']
        for (const name of names) session.publish(wiresOf([await devices[i]!.seal(name)]))
      }
    }
    const total = devices.reduce((sum, device) => sum + device.sealed.length, 0)
    await Promise.all(sessions.map((session, i) => haveReceipts(session, devices[i]!.sealed.length)))
    await Promise.all(sessions.map((session, i) => haveEvents(session, total - devices[i]!.sealed.length)))
    expectSoundLog(logOf(devices[2]!, sessions[2]!), total)
  })

  test('ORD-5: events are relayed in order, each exactly once, and not to the sender', async () => {
    const devices = await createDevices(3)
    const sessions = await Promise.all(devices.map((device) => follow(server, device)))
    publishInFrames(sessions[0]!, await devices[0]!.sealMany('notes', 50), 5)
    await haveReceipts(sessions[0]!, 50)
    // What is relayed twice, or to its sender, comes before what another device publishes afterwards.
    sessions[1]!.publish(wiresOf(await devices[1]!.sealMany('notes', 1)))
    await Promise.all([haveEvents(sessions[0]!, 1), haveEvents(sessions[1]!, 50), haveEvents(sessions[2]!, 51)])
    const seen = sessions.map((session) => session.events.map((event) => event.userSeq))
    expect(seen).toEqual([[51], oneTo(50), oneTo(51)])
    const sent = [...devices[0]!.sealed, ...devices[1]!.sealed].map((event) => Buffer.from(event.wire))
    expect(sessions[2]!.events.map((event) => Buffer.from(event.wire!))).toEqual(sent)
  })

  test('ORD-5: through says up to where a device is complete, over the holes its own events leave', async () => {
    const [writer, other] = await createDevices(2)
    const [writing, otherSession] = [await follow(server, writer!), await follow(server, other!)]
    writing.publish(wiresOf(await writer!.sealMany('notes', 30)))
    await haveReceipts(writing, 30)
    otherSession.publish(wiresOf(await other!.sealMany('notes', 2)))
    await haveReceipts(otherSession, 2)
    writing.publish(wiresOf(await writer!.sealMany('notes', 5)))
    await haveReceipts(writing, 35)

    const again = await follow(server, writer!)
    expect(again.events.map((event) => event.userSeq)).toEqual([31, 32])
    expect(again.through).toBe(37)
    const further = await follow(server, writer!, again.through)
    expect([further.events, further.through]).toEqual([[], 37])
  })

  test('ORD-5: replay goes over into live without a gap and without a repeat', async () => {
    const [writer, reader] = await createDevices(2)
    const writing = await follow(server, writer!)
    writing.publish(wiresOf(await writer!.sealMany('notes', 100)))
    await haveReceipts(writing, 100)
    const late = await writer!.sealMany('notes', 90)
    const reading = await reader!.connect(server, { cursor: 0 })
    publishInFrames(writing, late, 7)
    await haveEvents(reading, 190)
    expect(reading.events.map((event) => event.userSeq)).toEqual(oneTo(190))
    expectMonotonicThrough(reading)
  })

  test('ORD-5: a reader that falls behind reads on from the log', async () => {
    const [writer, reader] = await createDevices(2)
    const [writing, reading] = [await follow(server, writer!), await follow(server, reader!)]
    const catchUps = await server.app.metrics.read('valise_catch_ups_total')
    reading.socket.pause()
    // More than the buffers of both sockets take.
    const data = new Uint8Array(100_000)
    for (let i = 0; i < 100; i++) writing.publish([(await writer!.seal('big', { data })).wire])
    await haveReceipts(writing, 100)
    reading.socket.resume()
    await haveEvents(reading, 100)
    expect(reading.events.map((event) => event.userSeq)).toEqual(oneTo(100))
    expect(await server.app.metrics.read('valise_catch_ups_total')).toBeGreaterThan(catchUps)
  })

  test('ORD-5: order goes on through changes of session keys', async () => {
    const [writer, reader] = await createDevices(2)
    const [writing, reading] = [await follow(server, writer!), await follow(server, reader!)]
    for (let sent = 0; sent < 500; sent += 50) await publishAll(writing, await writer!.sealMany('notes', 50))
    await haveEvents(reading, 500)
    expect(reading.events.map((event) => event.userSeq)).toEqual(oneTo(500))
    expect(reading.phase).toBeGreaterThan(1)
    expect(writing.phase).toBeGreaterThan(1)
  })

  test('P4: a socket destroyed in the middle of a batch: the same bytes again get the first receipts', async () => {
    const [writer, reader] = await createDevices(2)
    const [writing, reading] = [await follow(server, writer!), await follow(server, reader!)]
    const events = await writer!.sealMany('notes', 60)
    writing.socket.pause()
    publishInFrames(writing, events.slice(0, 40), 9)
    await haveEvents(reading, 40)
    writing.drop()
    await writing.closed
    expect(writing.receipts).toEqual([])

    const again = await writer!.connect(server)
    expect(again.established.last_device_seq).toBe(40)
    publishInFrames(again, events, 10)
    await haveReceipts(again, 60)
    expect(again.receipts.map(([deviceSeq, , , , isDuplicate]) => [deviceSeq, isDuplicate])).toEqual(
      oneTo(60).map((n) => [n, n <= 40]),
    )
    await haveEvents(reading, 60)
    const placeOf = ({ deviceSeq, streamSeq, userSeq, storedAtMs }: (typeof reading.events)[number]) => [
      deviceSeq,
      streamSeq,
      userSeq,
      storedAtMs,
    ]
    expect(again.receipts.map((receipt) => receipt.slice(0, 4))).toEqual(reading.events.map(placeOf))
    expect(reading.events.map((event) => event.userSeq)).toEqual(oneTo(60))
  })

  test('P4: a socket destroyed in the middle of a replay: the next one goes on after the cursor', async () => {
    const [writer, reader] = await createDevices(2)
    const writing = await follow(server, writer!)
    for (let sent = 0; sent < 300; sent += 100) await publishAll(writing, await writer!.sealMany('notes', 100))
    const cut = await reader!.connect(server, {
      cursor: 0,
      onMessage: ({ type }) => type === 'events' && cut.drop(),
    })
    await cut.closed
    expect(cut.through).toBeGreaterThan(0)
    expect(cut.through).toBeLessThan(300)
    const rest = await follow(server, reader!, cut.through)
    expect([...cut.events, ...rest.events].map((event) => event.userSeq)).toEqual(oneTo(300))
  })

  test('P2: the sequences go on after a restart of the server', async () => {
    const [writer, reader] = await createDevices(2)
    const writing = await follow(server, writer!)
    const events = await writer!.sealMany('notes', 30)
    writing.publish(wiresOf(events.slice(0, 20)))
    await haveReceipts(writing, 20)
    await server.restart()
    expect((await writing.closed).code).toBe(1012)

    const [again, reading] = [await follow(server, writer!), await follow(server, reader!)]
    again.publish(wiresOf(events.slice(10)))
    await haveReceipts(again, 20)
    expect(again.receipts.map(([deviceSeq, , , , isDuplicate]) => [deviceSeq, isDuplicate])).toEqual(
      oneTo(20).map((n) => [n + 10, n <= 10]),
    )
    await haveEvents(reading, 30)
    expectSoundLog(logOf(reader!, reading), 30)
  })

  describeFuzz(SEEDS[database], async () =>
    database === 'postgres' ? await startWorldOfTwo(server) : worldOfOne(server, bus),
  )
})

describeNodes()
describeTransactions()
