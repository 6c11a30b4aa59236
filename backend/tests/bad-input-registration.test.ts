// Registering an account with what is wrong (DEV-1): each fault has its rule, none makes an account, and the right genesis
// is still accepted in the same session, once.

import { ERRORS, type Register, type ServerMessage, toHex, userIdOf } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DeviceKeys } from '../../client/src/sealing/device-keys.ts'
import { SMALL_ORDER_ENCODINGS } from '../../protocol/tests/support/crypto-suite.ts'
import { createKeys, openRegistration, register, registrationIdentity, sealGenesis } from './bad-input/entries.ts'
import { flipByte, indexes, within } from './bad-input/handshake-steps.ts'
import { answersIn } from './bad-input/server-state.ts'
import { openSession, type RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const withEdPub = (keys: DeviceKeys, edPub: Uint8Array): DeviceKeys => ({ ...keys, record: { ...keys.record, edPub } })

const refusedBy = (rule: string): object => ({ type: 'error', code: 'device_log_refused', rule })
const mismatch = { type: 'error', code: 'envelope_mismatch' }
const userIdIn = (answer: ServerMessage): string => (answer.type === 'registered' ? toHex(answer.user_id) : answer.type)

describe('DEV-1: a genesis that does not fit', () => {
  let server: TestServer
  let keys: DeviceKeys
  let session: RawSession
  let genesis: Register

  beforeAll(async () => {
    server = await startTestServer({ database: 'postgres' })
  })
  afterAll(() => server?.close())

  const start = async (): Promise<void> => {
    keys = await createKeys('manager')
    genesis = await sealGenesis(keys)
    session = await openRegistration(server, keys)
  }

  /** The account stands now, as its only entry says. */
  const expectRegistered = async (): Promise<void> => {
    expect((await register(session, genesis)).type).toBe('registered')
    const log = await session.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })
    expect(log).toMatchObject({ type: 'device_log', head_seq: 0 })
    expect(log.type === 'device_log' && log.entries.map(toHex)).toEqual([toHex(genesis.entry)])
    await session.close()
  }

  test('DEV-1: every byte of a genesis entry flipped', async () => {
    await start()
    const rules = new Set<string>()
    for (const at of indexes(genesis.entry.length)) {
      const answer = await register(session, { ...genesis, entry: flipByte(genesis.entry, at) })
      expect(answer, `byte ${at}`).toMatchObject({ type: 'error' })
      rules.add(answer.type === 'error' ? (answer.rule ?? answer.code) : '')
    }
    for (const rule of ['malformed', 'signature', 'device_id', 'genesis', 'seq', 'prev', 'user_id']) {
      expect(rules).toContain(rule)
    }
    await expectRegistered()
  })

  test('H-2: a key of small order in genesis, of the manager or of the recovery device', async () => {
    await start()
    for (const encoding of SMALL_ORDER_ENCODINGS) {
      const edPub = Buffer.from(encoding, 'hex')
      const asManager = await sealGenesis(withEdPub(keys, edPub))
      expect(await register(session, asManager), encoding).toEqual(refusedBy('small_order_key'))
      const asRecovery = await sealGenesis(keys, withEdPub(await createKeys('recovery'), edPub))
      expect(await register(session, asRecovery), encoding).toEqual(refusedBy('small_order_key'))
    }
    await expectRegistered()
  })

  test('DEV-1: records that genesis does not allow', async () => {
    await start()
    const impostor = await createKeys('recovery')
    const cases: [string, Register][] = [
      ['role', await sealGenesis({ ...keys, record: { ...keys.record, role: 'member' } })],
      ['role', await sealGenesis(keys, await createKeys('member'))],
      ['key_reused', await sealGenesis(keys, { ...keys, record: { ...keys.record, role: 'recovery' } })],
      ['genesis_pop', await sealGenesis(keys, { ...impostor, signer: keys.signer })],
      ['device_key', await sealGenesis(await createKeys('manager'))],
    ]
    for (const [rule, message] of cases) expect(await register(session, message), rule).toEqual(refusedBy(rule))
    await expectRegistered()
  })

  test('DEV-1: the genesis of somebody else, under the name of his device, before he registers and after', async () => {
    await start()
    const thief = await createKeys('manager')
    const steal = async (): Promise<ServerMessage> => {
      const session = await openRegistration(server, { ...thief, deviceId: keys.deviceId })
      const answer = await register(session, genesis)
      session.drop()
      return answer
    }
    expect(await steal()).toEqual(refusedBy('device_key'))
    expect((await register(session, genesis)).type).toBe('registered')
    expect(await steal()).toEqual(refusedBy('device_key'))
    session.send({ type: 'ping', id: 1 })
    await session.until('the pong', () => session.messages.some(({ type }) => type === 'pong'))
    session.drop()
  })

  test('DEV-1: boxes that are not those the entry commits to', async () => {
    await start()
    const recovery = await createKeys('recovery')
    genesis = await sealGenesis(keys, recovery)
    const [first, second] = genesis.boxes as [Register['boxes'][0], Register['boxes'][0]]
    const boxes: Record<string, Register['boxes']> = {
      'one left out': [first],
      'one twice': [first, first],
      'changed in a byte': [first, { ...second, box: flipByte(second.box, 9) }],
      'cut by a byte': [first, { ...second, box: second.box.subarray(1) }],
      'exchanged between devices': [
        { ...first, box: second.box },
        { ...second, box: first.box },
      ],
      'for a device that is not there': [first, { ...second, device_id: (await createKeys('member')).deviceId }],
    }
    for (const [name, spoilt] of Object.entries(boxes)) {
      expect(await register(session, { ...genesis, boxes: spoilt }), name).toEqual(mismatch)
    }
    await expectRegistered()
  })

  test('DEV-1: the same genesis again finds the account; another one with its keys is refused', async () => {
    await start()
    const first = userIdIn(await register(session, genesis))
    session.send(genesis)
    await session.until('an answer', () => session.messages.some(({ type }) => type === 'error'))
    expect(answersIn(session).at(-1)).toEqual({ type: 'error', code: 'already_registered' })
    session.drop()

    session = await openRegistration(server, keys)
    expect(await register(session, await sealGenesis(keys))).toEqual(refusedBy('key_reused'))
    expect(userIdIn(await register(session, genesis))).toBe(first)
    const log = await session.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })
    expect(log).toMatchObject({ type: 'device_log', head_seq: 0 })
    session.drop()
  })

  test('DEV-1: the same genesis in two sessions at once makes one account', async () => {
    await start()
    const other = await openRegistration(server, keys)
    const outcomes = await Promise.all(
      [session, other].map(async (each) => {
        const { close } = ERRORS.session_superseded
        return register(each, genesis).then(userIdIn, async () => {
          expect((await within('the close', each.closed)).code).toBe(close)
          return undefined
        })
      }),
    )
    const userIds = new Set(outcomes.filter((outcome) => outcome !== undefined))
    expect(userIds.size).toBe(1)
    expect([...userIds][0]).toMatch(/^[0-9a-f]{64}$/)
    session.drop()
    other.drop()
  })

  test('MSG-2: garbage for an entry', async () => {
    await start()
    for (const length of [1, 64, 300, 16_384]) {
      const entry = nodeCrypto.randomBytes(length)
      expect(await register(session, { ...genesis, entry }), `${length} bytes`).toEqual(refusedBy('malformed'))
    }
    await expectRegistered()
  })
})

test('DEV-4: a server that takes no new users says so; those it has come in', async () => {
  const open = await startTestServer({ database: 'postgres' })
  const { databaseUrl, identityFile } = open
  const closed = await startTestServer({
    database: 'postgres',
    databaseUrl: databaseUrl!,
    identityFile,
    flags: { VALISE_REGISTRATION: 'closed' },
  })
  const outcomes: unknown[] = []
  const tryToEnter = async (keys: DeviceKeys, { entry }: Register): Promise<string> => {
    const identity = registrationIdentity(keys)
    const asDevice = { ...identity, mode: 'device' as const, userId: userIdOf(nodeCrypto, entry) }
    return openSession(closed, { identity: asDevice, signer: keys.signer }).then(
      (session) => session.close().then(() => 'established'),
      (error: Error) => error.message,
    )
  }
  try {
    for (const target of [open, closed]) {
      const keys = await createKeys('manager')
      const genesis = await sealGenesis(keys)
      const session = await openRegistration(target, keys)
      const { type, ...answer } = await register(session, genesis)
      await session.close()
      outcomes.push([type, 'code' in answer ? answer.code : undefined, await tryToEnter(keys, genesis)])
    }
  } finally {
    await closed.close()
    await open.close()
  }
  expect(outcomes).toEqual([
    ['registered', undefined, 'established'],
    ['error', 'registration_closed', 'the socket was closed with 4401'],
  ])
})
