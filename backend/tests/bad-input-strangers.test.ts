// SES-1: before a key is proved the server has one answer, whoever asks and whatever was wrong; the steps of a handshake
// come once and in their order; and nothing that is no handshake gets further than its close.

import {
  type ClientIdentity,
  createSessionChannel,
  ERRORS,
  encodeMessage,
  type Signer,
  toDeviceId,
  toUserId,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SMALL_ORDER_ENCODINGS } from '../../protocol/tests/support/crypto-suite.ts'
import { createHandClient } from '../../protocol/tests/support/hand-client.ts'
import {
  appendEntry,
  authorOf,
  createKeys,
  openRegistration,
  register,
  sealGenesis,
  sealRevoke,
} from './bad-input/entries.ts'
import {
  answerOf,
  claimOf,
  endOf,
  identityOf,
  indexes,
  proveHandshake,
  registering,
  startHandshake,
  within,
} from './bad-input/handshake-steps.ts'
import { until, untilNoConnections } from './bad-input/server-state.ts'
import { createStatementReader } from './bad-input/statement-reader.ts'
import { type DatabaseProxy, startDatabaseProxy } from './database-trouble/database-proxy.ts'
import { createAccount, type TestAccount, type TestDevice } from './support/account.ts'
import { createTestDatabase, type TestDatabase } from './support/database.ts'
import { dial, openSession, type RawSocket } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const failed = { code: 4401, reason: ERRORS.handshake_failed.text }

/** What a server asks by the clock, whoever knocks. */
const OWN_ROUNDS = [
  'read_migrations',
  'read_database_size',
  'delete_expired_mailboxes',
  'expire_events',
  'read_next_expiry',
  'find_uncounted_storage',
  'lock_storage_over_quota',
  'lock_storage_over_age',
]

/** The statements that the server ran, by name. */
const asked: string[] = []
let database: TestDatabase
let proxy: DatabaseProxy
let server: TestServer
let account: TestAccount
let manager: TestDevice
let revoked: TestDevice
let stranger: TestDevice

beforeAll(async () => {
  database = await createTestDatabase()
  proxy = await startDatabaseProxy(database.url, () => createStatementReader((name) => void asked.push(name)))
  // No sweep of heads comes between: the look-ups of handshakes are counted.
  const flags = { VALISE_HEAD_POLL_MS: '600000' }
  server = await startTestServer({ database: 'postgres', databaseUrl: proxy.url, flags })
  account = await createAccount(server, { devices: 2 })
  ;[manager, revoked] = account.devices as [TestDevice, TestDevice]
  stranger = (await createAccount(server)).devices[0]!
  const session = await manager.connect(server)
  await appendEntry(account, session, await sealRevoke(account, authorOf(manager), [revoked]))
  await session.close()
  await untilNoConnections(server)
})
afterAll(async () => {
  await server?.close()
  await proxy?.close()
  await database?.drop()
})

const randomUser = () => toUserId(nodeCrypto.randomBytes(32))!
const randomDevice = () => toDeviceId(nodeCrypto.randomBytes(16))!
const otherSigner = (): Signer => nodeCrypto.createSigner(nodeCrypto.randomBytes(32))

const askedSince = (count: number): string[] => asked.slice(count).filter((name) => !OWN_ROUNDS.includes(name))

/** What sessions leave to be done when they end is done: beside a few rounds of the server nothing is asked. */
const untilQuiet = (): Promise<unknown> =>
  until(async () => {
    const before = asked.length
    for (const _round of indexes(5)) await fetch(`${server.app.adminUrl}/ready`)
    expect(askedSince(before)).toEqual([])
  })

/** Everything a peer can see of a handshake's end, and what it cost the database. */
async function shakeHands(identity: ClientIdentity, signer: Signer) {
  const before = asked.length
  const outcome = await openSession(server, { identity, signer }).then(
    (session) => session.close().then(() => 'established'),
    (error: Error) => error.message,
  )
  return { outcome, queries: askedSince(before).length }
}

describe('SES-1: nothing is learned without a key', () => {
  test('SES-1: unknown user, unknown device, foreign device, wrong key, wrong mode: one answer, one look-up', async () => {
    const recovery = await createKeys('recovery')
    const keys = await createKeys('manager')
    const registration = await openRegistration(server, keys)
    expect((await register(registration, await sealGenesis(keys, recovery))).type).toBe('registered')
    await registration.close()
    await untilNoConnections(server)
    await untilQuiet()

    const { signer } = manager.keys
    const honest = identityOf(manager)
    const nobody = { mode: 'recovery' as const, userId: toUserId(new Uint8Array(32))! }
    const attempts: Record<string, [ClientIdentity, Signer]> = {
      'unknown user': [{ ...honest, userId: randomUser() }, signer],
      'unknown device': [{ ...honest, deviceId: randomDevice() }, signer],
      'unknown both': [{ ...honest, userId: randomUser(), deviceId: randomDevice() }, signer],
      'the device of another user': [{ ...honest, deviceId: stranger.deviceId }, stranger.keys.signer],
      'another user with my device': [{ ...honest, userId: stranger.userId }, signer],
      'wrong key': [honest, otherSigner()],
      'wrong key of a revoked device': [identityOf(revoked), otherSigner()],
      'recovery with a device that is none': [{ ...honest, ...nobody }, signer],
      'recovery with an unknown device': [{ ...honest, ...nobody, deviceId: randomDevice() }, otherSigner()],
      'recovery with the wrong key': [{ ...honest, ...nobody, deviceId: recovery.deviceId }, otherSigner()],
      'a recovery device as an ordinary one': [{ ...honest, deviceId: recovery.deviceId }, recovery.signer],
    }
    const seen: Record<string, unknown> = {}
    for (const [name, [identity, key]] of Object.entries(attempts)) seen[name] = await shakeHands(identity, key)
    const same = { outcome: 'the socket was closed with 4401', queries: 1 }
    expect(seen).toEqual(Object.fromEntries(Object.keys(attempts).map((name) => [name, same])))
    const right = await shakeHands({ ...honest, ...nobody, deviceId: recovery.deviceId }, recovery.signer)
    expect(right.outcome).toBe('established')
  })

  test('SES-1: only who holds the key of a revoked device learns of it', async () => {
    const { raw, finished } = await proveHandshake(server, revoked)
    raw.socket.send(finished.authText)
    await within('session_established', raw.nextText())
    const channel = createSessionChannel({ crypto: nodeCrypto, role: 'client', secrets: finished.secrets })
    raw.socket.send(channel.seal(encodeMessage({ type: 'resume', cursor: 0, log_epoch: null })))
    expect(await endOf(raw)).toEqual({ code: 4403, reason: ERRORS.device_revoked.text })
  })

  test('SES-1: a recorded handshake opens nothing', async () => {
    const { raw, client, finished } = await proveHandshake(server, manager)
    raw.socket.send(finished.authText)
    await within('session_established', raw.nextText())
    const replayed = await dial(server.url)
    replayed.socket.send(client.hello)
    await within('server_hello', replayed.nextText())
    replayed.socket.send(finished.authText)
    expect(await endOf(replayed)).toEqual(failed)
    expect(raw.socket.readyState).toBe(raw.socket.OPEN)
    raw.socket.terminate()
  })

  test('H-2: nobody registers under a key of small order', async () => {
    const { claim, key } = claimOf(manager)
    for (const encoding of SMALL_ORDER_ENCODINGS) {
      const raw = await dial(server.url)
      const client = createHandClient()
      raw.socket.send(client.hello)
      client.readServer(await within('server_hello', raw.nextText()))
      raw.socket.send(client.writeAuth(registering(claim, Buffer.from(encoding, 'hex')), key))
      expect(await endOf(raw), encoding).toEqual(failed)
    }
  })
})

describe('SES-1: the first words', () => {
  const body = (bytes: number): string => Buffer.alloc(bytes, 1).toString('base64url')
  const hello = (options: Parameters<typeof createHandClient>[0]): string => createHandClient(options).hello
  const good = (): string => hello({})
  const texts: Record<string, () => string> = {
    'an empty text': () => '',
    'no JSON': () => 'GET / HTTP/1.1',
    null: () => 'null',
    'an array': () => `[${good()}]`,
    'a number': () => '1e999',
    'an object without keys': () => '{}',
    'another type': () => JSON.stringify({ type: 'hello', body: body(104) }),
    'the type of a server': () => JSON.stringify({ type: 'server_hello', body: body(71), auth: body(180) }),
    'client_auth first': () => JSON.stringify({ type: 'client_auth', auth: body(257) }),
    'a key too many': () => good().replace('{', '{"x":1,'),
    'a prototype': () => good().replace('{', '{"__proto__":{},'),
    'no body': () => JSON.stringify({ type: 'client_hello' }),
    'a body that is no text': () => JSON.stringify({ type: 'client_hello', body: [1] }),
    'an empty body': () => JSON.stringify({ type: 'client_hello', body: '' }),
    'padded base64': () => good().replace('"}', '=="}'),
    'base64 of the other alphabet': () => JSON.stringify({ type: 'client_hello', body: `${body(103)}+/` }),
    'a body cut short': () => JSON.stringify({ type: 'client_hello', body: JSON.parse(good()).body.slice(0, -4) }),
    'a body with bytes behind it': () =>
      JSON.stringify({ type: 'client_hello', body: `${JSON.parse(good()).body}AAAA` }),
    'a text of 6 KiB': () => JSON.stringify({ type: 'client_hello', body: body(4608) }),
    'a text of 12 KiB': () => JSON.stringify({ type: 'client_hello', body: body(9216) }),
    'no suite': () => hello({ suites: [] }),
    'an unknown suite': () => hello({ suites: [7] }),
    'suite 2 alone': () => hello({ suites: [2], kemKey: new Uint8Array(1184) }),
    'an ML-KEM key without its suite': () => hello({ kemKey: new Uint8Array(1184) }),
    'a key share of zeros': () => hello({ keyShare: new Uint8Array(32) }),
    'a key share of small order': () => hello({ keyShare: new Uint8Array(32).fill(1, 0, 1) }),
  }

  test.each(Object.entries(texts))('SES-1: %s → 4401', async (_name, text) => {
    const raw = await dial(server.url)
    raw.socket.send(text())
    expect(await answerOf(raw)).toEqual(failed)
  })

  test('SES-1: another version → 4402, with what it means', async () => {
    const raw = await dial(server.url)
    raw.socket.send(hello({ version: 2 }))
    expect(await answerOf(raw)).toEqual({ code: 4402, reason: ERRORS.version_unsupported.text })
  })
})

describe('SES-1: the steps come once and in order', () => {
  const sendAll = (raw: RawSocket, ...messages: readonly (string | Uint8Array)[]): void => {
    for (const message of messages) raw.socket.send(message)
  }
  /** Sends what `next` makes of the server's answer to an honest hello. */
  const afterHello = async (next: (hello: string) => readonly (string | Uint8Array)[]) => {
    const { raw, client } = await startHandshake(server, manager)
    raw.socket.send(client.hello)
    await within('server_hello', raw.nextText())
    sendAll(raw, ...next(client.hello))
    return answerOf(raw)
  }

  test('SES-1: bytes instead of text', async () => {
    const raw = await dial(server.url)
    raw.socket.send(Buffer.alloc(64))
    expect(await answerOf(raw)).toEqual(failed)
    expect(await afterHello(() => [Buffer.alloc(64)])).toEqual(failed)
    expect(await afterHello((hello) => [Buffer.from(hello)])).toEqual(failed)
  })

  test('SES-1: a hello a second time, or before the first is answered', async () => {
    expect(await afterHello((hello) => [hello])).toEqual(failed)
    const { raw, client } = await startHandshake(server, manager)
    sendAll(raw, client.hello, client.hello)
    expect(await endOf(raw)).toEqual(failed)
  })

  test('SES-1: a proof a second time, before the first is looked at', async () => {
    const { raw, finished } = await proveHandshake(server, manager)
    sendAll(raw, finished.authText, finished.authText)
    expect(await endOf(raw)).toEqual(failed)
    await untilNoConnections(server)
  })

  test('SES-1: a proof that is cut, empty or no base64', async () => {
    const auth = (value: unknown) => afterHello(() => [JSON.stringify({ type: 'client_auth', auth: value })])
    for (const value of ['', 'AA', Buffer.alloc(15).toString('base64url'), 'not base64!', 7, null]) {
      expect(await auth(value), String(value)).toEqual(failed)
    }
    expect(await afterHello(() => ['{}'])).toEqual(failed)
  })

  test('SES-1: text that is no UTF-8 ends at WebSocket level', async () => {
    const raw = await dial(server.url)
    raw.socket.send(Buffer.from('7b22ff7d', 'hex'), { binary: false })
    expect((await endOf(raw)).code).toBe(1007)
  })

  test('SES-1: after all of it an honest device comes in at once', async () => {
    const session = await manager.connect(server, { cursor: 0 })
    await session.until('the replay', () => session.isCaughtUp)
    await session.close()
  })
})
