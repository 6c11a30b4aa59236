// What a server lets in, at work over real sockets: bytes a second, appends to the device log, and new accounts.

import type { ServerMessage } from '@valise/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../client/src/clock.ts'
import type { RawConfig } from '../src/config.ts'
import { createRegistration } from '../src/devices/registration.ts'
import { createRegistrationLimits } from '../src/limits/registration-limits.ts'
import {
  appendEntry,
  authorOf,
  createKeys,
  offerEntry,
  openRegistration,
  register,
  registrationIdentity,
  sealAdd,
  sealGenesis,
  sealRevoke,
  sealRotate,
} from './bad-input/entries.ts'
import { follow, haveReceipts, wiresOf } from './event-ordering/publishing.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { waitFor } from './support/open-database.ts'
import { openSession } from './support/raw-device.ts'
import { openSdkDevice } from './support/sdk-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

let server: TestServer
const start = async (flags: RawConfig): Promise<TestServer> => {
  server = await startTestServer({ database: 'postgres', flags })
  return server
}
afterEach(() => server?.close())

const limited = (scope: string): Promise<number> => server.app.metrics.read('valise_rate_limited_total', { scope })
const codeOf = (answer: ServerMessage): string => (answer.type === 'error' ? answer.code : answer.type)
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe('bytes a second', () => {
  const EVENT_BYTES = 200 * 1024
  const sealLarge = async (device: TestDevice, count: number) => {
    const events = []
    for (let i = 0; i < count; i++) events.push(await device.seal('a', { data: new Uint8Array(EVENT_BYTES) }))
    return events
  }

  test('LIM-25, LIM-3: events over the limit in bytes are told when to come again, and so is a small one after them', async () => {
    await start({ VALISE_DEVICE_BYTES_PER_S: '100000', VALISE_DEVICE_BYTES_BURST: '1000000' })
    const device = (await createAccount(server)).devices[0]!
    const session = await follow(server, device)
    const wires = wiresOf([...(await sealLarge(device, 6)), await device.seal('a')])
    for (const wire of wires) session.publish([wire])
    await session.until('all answers', () => session.receipts.length + session.refusals.length >= wires.length)
    const stored = session.receipts.length
    expect(stored).toBe(Math.floor(1_000_000 / wires[0]!.length))
    expect(session.refusals.map(({ device_seq }) => device_seq)).toEqual(range(stored + 1, wires.length))
    for (const { code, retry_after_ms } of session.refusals) {
      expect(code).toBe('rate_limited')
      expect(retry_after_ms).toBeGreaterThan(0)
    }
    expect(await limited('device_bytes')).toBe(1)
    expect(session.closeFrame).toBeUndefined()
  })

  test('LIM-25, P4: two clients over the limit of their user end with all stored, in order, once', {
    timeout: 120_000,
  }, async () => {
    const EVENTS = 60
    await start({ VALISE_USER_BYTES_PER_S: '3000000', VALISE_USER_BYTES_BURST: '1000000' })
    const { devices } = await createAccount(server, { devices: 2 })
    const [one, other] = await Promise.all(devices.map((device) => openSdkDevice(server, device, systemClock)))
    const both = [one!, other!]
    try {
      const texts = range(1, EVENTS).map((n) => String(n).padStart(100_000))
      await Promise.all(
        both.map(async (device) => {
          for (const text of texts) await device.publish(text)
        }),
      )
      await Promise.all(both.map(({ client }) => client.flush(AbortSignal.timeout(90_000))))
      for (const { receipts } of both) expect(receipts.map(({ deviceSeq }) => deviceSeq)).toEqual(range(1, EVENTS))
      await waitFor(
        'each to have what the other wrote',
        async () => Math.min(one!.bodies.length, other!.bodies.length),
        (count) => count >= EVENTS,
      )
      for (const { bodies, states } of both) {
        expect(bodies.map((text) => text.trim())).toEqual(range(1, EVENTS).map(String))
        expect(states).not.toContain('stopped')
      }
      expect(await limited('user_bytes')).toBeGreaterThan(0)
    } finally {
      await Promise.all(both.map((device) => device.close()))
    }
  })
})

describe('appends to the device log', () => {
  const FLAGS = {
    VALISE_DEVICE_APPENDS_PER_MIN: '6',
    VALISE_DEVICE_APPENDS_BURST: '4',
    VALISE_USER_APPENDS_PER_MIN: '6',
    VALISE_USER_APPENDS_BURST: '6',
  }

  test('LIM-26: entries over the limit are refused with a time, garbage is counted too, and the session goes on', async () => {
    await start(FLAGS)
    const account = await createAccount(server)
    const manager = account.devices[0]!
    const session = await manager.connect(server)
    await appendEntry(account, session, await sealRotate(account, authorOf(manager)))
    const garbage = { entry: new Uint8Array(150), boxes: [], links: [] }
    const codes = []
    for (let i = 0; i < 4; i++) codes.push(codeOf(await offerEntry(session, garbage)))
    expect(codes.slice(0, 3)).toEqual(Array.from({ length: 3 }, () => 'device_log_refused'))
    const answer = await offerEntry(session, await sealRotate(account, authorOf(manager)))
    expect(answer).toMatchObject({ type: 'error', code: 'rate_limited' })
    const retryAfterMs = answer.type === 'error' ? (answer.retry_after_ms ?? 0) : 0
    expect(retryAfterMs).toBeGreaterThan(0)
    expect(retryAfterMs).toBeLessThanOrEqual(10_000)
    expect(await limited('append')).toBe(2)
    session.publish(wiresOf(await manager.sealMany('a', 1)))
    await haveReceipts(session, 1)
  })

  test('LIM-26: a manager revokes the device that used up what all of the user may append, and many in a row', async () => {
    await start(FLAGS)
    const account = await createAccount(server, { devices: 4 })
    const [manager, thief, third, fourth] = account.devices as [TestDevice, TestDevice, TestDevice, TestDevice]
    const stolen = await thief.connect(server)
    const garbage = { entry: new Uint8Array(150), boxes: [], links: [] }
    let answer: ServerMessage
    do answer = await offerEntry(stolen, garbage)
    while (codeOf(answer) !== 'rate_limited')
    const session = await manager.connect(server)
    for (const revoked of [thief, third, fourth]) {
      await appendEntry(account, session, await sealRevoke(account, authorOf(manager), [revoked]))
    }
    // What is not urgent waits for the user's limit.
    expect(codeOf(await offerEntry(session, await sealRotate(account, authorOf(manager))))).toBe('rate_limited')
    await stolen.until('the end of the stolen device', () => stolen.closeFrame !== undefined)
  })

  test('LIM-26: the recovery phrase signs a device in whatever the others used up', async () => {
    await start(FLAGS)
    const phrase = await createKeys('recovery')
    const account = await createAccount(server, { recovery: phrase })
    const manager = account.devices[0]!
    const session = await manager.connect(server)
    while (codeOf(await offerEntry(session, { entry: new Uint8Array(150), boxes: [], links: [] })) !== 'rate_limited');
    const recovering = await openSession(server, {
      identity: { ...registrationIdentity(phrase), mode: 'recovery', publicKey: new Uint8Array(32) },
      signer: phrase.signer,
    })
    const author = { signer: phrase.signer, deviceId: phrase.deviceId, timeMs: Date.now() }
    await appendEntry(account, recovering, await sealAdd(account, author, await createKeys('manager')))
    recovering.drop()
  })
})

describe('registrations', () => {
  const registerOne = async (invitation?: Uint8Array): Promise<ServerMessage> => {
    const keys = await createKeys('manager')
    const session = await openRegistration(server, keys)
    const genesis = await sealGenesis(keys)
    const answer = await register(session, invitation === undefined ? genesis : { ...genesis, invitation })
    session.drop()
    return answer
  }

  test('LIM-27, LIM-3: an address registers as many accounts as it may, and is then told when to come again', async () => {
    await start({ VALISE_REGISTRATIONS_PER_HOUR: '60', VALISE_REGISTRATIONS_BURST: '3' })
    const answers = []
    for (let i = 0; i < 4; i++) answers.push(await registerOne())
    expect(answers.map(codeOf)).toEqual(['registered', 'registered', 'registered', 'rate_limited'])
    const last = answers[3]!
    const retryAfterMs = last.type === 'error' ? (last.retry_after_ms ?? 0) : 0
    expect(retryAfterMs).toBeGreaterThan(0)
    expect(retryAfterMs).toBeLessThanOrEqual(60_000)
    expect(await limited('registration')).toBe(1)
  })

  test('LIM-27: the node as a whole has a limit, whatever the addresses', async () => {
    await start({ VALISE_NODE_REGISTRATIONS_PER_MIN: '1', VALISE_NODE_REGISTRATIONS_BURST: '2' })
    const answers = []
    for (let i = 0; i < 3; i++) answers.push(await registerOne())
    expect(answers.map(codeOf)).toEqual(['registered', 'registered', 'rate_limited'])
  })

  test('LIM-27: a network has a limit of its own, several times that of an address, and others are not concerned', () => {
    let nowMs = 0
    const { refuseRegistration } = createRegistrationLimits({
      rules: { address: { perSecond: 0.01, burst: 2 }, node: undefined },
      countLimited: () => {},
      now: () => nowMs,
    })
    const admitted = (addresses: readonly string[]): number =>
      addresses.filter((address) => refuseRegistration(address) === undefined).length
    expect(admitted(range(1, 50).map((n) => `198.51.100.${n}`))).toBe(8)
    expect(admitted(['203.0.113.1'])).toBe(1)
    // A /56 of 256 networks of the size that counts as one address, and the /48 around it.
    expect(admitted(range(0, 49).map((n) => `2001:db8:1:${(0x200 + n).toString(16)}::/64`))).toBe(8)
    expect(admitted(range(0, 99).map((n) => `2001:db8:1:${(n * 0x100).toString(16)}::/64`))).toBe(32 - 8)
    expect(admitted(['2001:db8:2:200::/64'])).toBe(1)
    nowMs = 100_000
    expect(admitted(['198.51.100.60', '198.51.100.61', '198.51.100.62', '198.51.100.63', '198.51.100.64'])).toBe(4)
  })

  test('LIM-27: an invitation is not held up by what its address or the node registered without one', async () => {
    const registered: string[] = []
    const { register: registerInvited } = createRegistration({
      mode: 'invite',
      accounts: {
        register: async () => {
          registered.push('one')
          return { type: 'deleted' }
        },
      },
      limits: { refuseRegistration: () => 60_000 },
      isStorageLow: () => false,
      storageRetryMs: 1,
      countLimited: () => {},
      now: () => 0,
    })
    const keys = await createKeys('manager')
    const message = { ...(await sealGenesis(keys)), invitation: new Uint8Array(16) }
    const prover = { deviceId: keys.deviceId, publicKey: keys.record.edPub }
    expect(await registerInvited(prover, message, '127.0.0.1')).toEqual({ type: 'deleted' })
    expect(registered).toEqual(['one'])
  })
})
