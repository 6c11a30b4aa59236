// Peers that ask for more than their share, against a real server: they wait, others do not, and nobody is left without an
// answer. What it costs others in time is measured by `npm run bench -- abuse`.

import { encodeMessage, MAX_REGISTER_FRAME_BYTES } from '@valise/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import { readMetric } from './back-pressure/scene.ts'
import {
  appendEntry,
  authorOf,
  createKeys,
  openRegistration,
  register,
  sealGenesis,
  sealRevoke,
} from './bad-input/entries.ts'
import { answersIn, until } from './bad-input/server-state.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

let server: TestServer
afterEach(() => server?.close())

const DATABASES = ['postgres', 'pglite'] as const
const BAD_MESSAGE = 4440
const FRAME_TOO_LARGE = 4413
const REVOKED = 4403

/** As many messages as one frame takes. */
const frameOf = (message: (index: number) => Parameters<RawSession['send']>[0]) =>
  Array.from({ length: 64 }, (_, i) => message(i))

describe.each(DATABASES)('sessions that ask for more than they may, on %s', (database) => {
  test('LIM-10: are not read while they owe, and are read again; another user is answered meanwhile', async () => {
    server = await startTestServer({
      database,
      flags: { VALISE_SESSION_WORK_PERCENT: '3' },
    })
    const abusive = await createAccount(server, { devices: 4 })
    const honest = await createAccount(server, { devices: 1 })
    const sessions = await Promise.all(abusive.devices.map((device) => device.connect(server)))
    const publisher = await (honest.devices[0] as TestDevice).connect(server)
    for (const session of sessions) {
      session.send(...frameOf((i) => ({ type: 'fetch_device_log', request_id: i, after_seq: null })))
      session.send(...frameOf(() => ({ type: 'resume', cursor: 0, log_epoch: null })))
      session.send({ type: 'ping', id: 77 })
    }
    await until(async () => expect(await readMetric(server, 'valise_sockets_resting')).toBeGreaterThan(0))
    const pongsBefore = sessions.filter(hasPong).length
    for (let i = 0; i < 5; i++) {
      publisher.publish([(await (honest.devices[0] as TestDevice).seal('notes')).wire])
      await publisher.until('the receipt', () => publisher.receipts.length === i + 1)
    }
    expect(pongsBefore).toBeLessThan(sessions.length)
    // Each request is answered, the ping after them too, and nobody was cut off.
    for (const session of sessions) {
      await session.until('the pong', () => hasPong(session))
      const answered = answersIn(session).filter(({ type }) => type === 'device_log' || type === 'error')
      expect(answered.length).toBeGreaterThanOrEqual(64)
      expect(session.closeFrame).toBeUndefined()
    }
    await until(async () => expect(await readMetric(server, 'valise_sockets_resting')).toBe(0))
    expect(await readMetric(server, 'valise_work_limited_total')).toBeGreaterThan(0)
  }, 120_000)

  test('LIM-10: a flood of acks and pings delays its sender alone, however many frames it fills', async () => {
    server = await startTestServer({ database, flags: { VALISE_SESSION_WORK_PERCENT: '2' } })
    const [device] = (await createAccount(server)).devices as [TestDevice]
    const other = (await createAccount(server)).devices[0] as TestDevice
    const flooding = await device.connect(server)
    const publisher = await other.connect(server)
    for (let frame = 0; frame < 200; frame++) {
      flooding.send(...frameOf((i) => (i % 2 === 0 ? { type: 'ack', cursor: 0 } : { type: 'ping', id: i })))
    }
    await until(async () => expect(await readMetric(server, 'valise_sockets_resting')).toBe(1))
    publisher.publish([(await other.seal('notes')).wire])
    await publisher.until('the receipt', () => publisher.receipts.length === 1)
    const pongs = flooding.messages.filter(({ type }) => type === 'pong').length
    expect(pongs).toBeLessThan(200 * 32)
    expect(flooding.closeFrame).toBeUndefined()
    flooding.drop()
  })
})

const hasPong = (session: RawSession): boolean =>
  session.messages.some((message) => message.type === 'pong' && message.id === 77)

describe('before an account stands', () => {
  test('LIM-12: what is neither register nor a ping is answered a few times, then the session is closed', async () => {
    server = await startTestServer({ database: 'postgres' })
    const session = await openRegistration(server, await createKeys('manager'))
    for (let i = 0; i < 20; i++) session.send({ type: 'ack', cursor: 1 })
    expect((await session.closed).code).toBe(BAD_MESSAGE)
    expect(answersIn(session).length).toBeLessThanOrEqual(8)
  })

  test('LIM-12: more than a ping a second closes it', async () => {
    server = await startTestServer({ database: 'postgres' })
    const session = await openRegistration(server, await createKeys('manager'))
    session.send(...frameOf((i) => ({ type: 'ping', id: i })))
    expect((await session.closed).code).toBe(BAD_MESSAGE)
    expect(session.messages.filter(({ type }) => type === 'pong').length).toBeLessThanOrEqual(10)
  })

  test('LIM-12: a frame above what a registration needs closes it, and an account made is free of that bound', async () => {
    server = await startTestServer({ database: 'postgres' })
    const large = await openRegistration(server, await createKeys('manager'))
    large.sendPayload(new Uint8Array(MAX_REGISTER_FRAME_BYTES + 1))
    expect((await large.closed).code).toBe(FRAME_TOO_LARGE)

    const keys = await createKeys('manager')
    const genesis = await sealGenesis(keys)
    expect(encodeMessage(genesis).length).toBeLessThan(MAX_REGISTER_FRAME_BYTES)
    const session = await openRegistration(server, keys)
    expect((await register(session, genesis)).type).toBe('registered')
    // Nonsense, but read: it is no frame that is too large.
    session.sendPayload(encodeMessage({ type: 'publish', events: [new Uint8Array(2 * MAX_REGISTER_FRAME_BYTES)] }))
    await session.until('the refusal', () => session.refusals.length === 1)
    expect(session.closeFrame).toBeUndefined()
    session.drop()
  })

  test('LIM-12: a registration that fails may be tried again', async () => {
    server = await startTestServer({ database: 'postgres' })
    const keys = await createKeys('manager')
    const genesis = await sealGenesis(keys)
    const session = await openRegistration(server, keys)
    const wrong = { ...genesis, boxes: genesis.boxes.map((box) => ({ ...box, box: new Uint8Array(10) })) }
    for (let i = 0; i < 7; i++) expect((await register(session, wrong)).type).toBe('error')
    expect((await register(session, genesis)).type).toBe('registered')
    session.drop()
  })
})

describe.each(DATABASES)('a revoked device that comes again and again, on %s', (database) => {
  test('LIM-13: one visit stands at a time, reads its log a few times at most, and its user pays for none of it', async () => {
    server = await startTestServer({ database, flags: { VALISE_USER_WORK_PERCENT: '1' } })
    const account = await createAccount(server, { devices: 2 })
    const [manager, victim] = account.devices as [TestDevice, TestDevice]
    const session = await manager.connect(server)
    await appendEntry(account, session, await sealRevoke(account, authorOf(manager), [victim]))

    const visits: RawSession[] = []
    for (let i = 0; i < 10; i++) visits.push(await victim.connect(server))
    for (const visit of visits.slice(0, -1)) expect((await visit.closed).code).toBe(REVOKED)
    const last = visits.at(-1)!
    expect(last.closeFrame).toBeUndefined()
    last.send(...frameOf((i) => ({ type: 'fetch_device_log', request_id: i, after_seq: null })))
    expect((await last.closed).code).toBe(REVOKED)
    expect(last.messages.filter(({ type }) => type === 'device_log').length).toBeLessThanOrEqual(16)

    const large = await victim.connect(server)
    large.sendPayload(new Uint8Array(2000))
    expect((await large.closed).code).toBe(FRAME_TOO_LARGE)
    // The user's own device is still served at once.
    session.send({ type: 'ping', id: 5 })
    await session.until('the pong', () =>
      session.messages.some((message) => message.type === 'pong' && message.id === 5),
    )
    expect(await readMetric(server, 'valise_sockets_resting')).toBe(0)
    await session.close()
  })
})
