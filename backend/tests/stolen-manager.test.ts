// A stolen manager at the server: what waits, how long, who ends it, and what a suspended device may still do.

import { buildRole, PENDING_MS, type ServerMessage } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { DeviceKeys } from '../../client/src/sealing/device-keys.ts'
import { type Database, openPostgres } from '../src/db/postgres.ts'
import { closeDueAccounts } from '../src/db/queries/pending-closes.ts'
import {
  appendEntry,
  askForRecovery,
  authorOf,
  createKeys,
  offerEntry,
  sealAdd,
  sealCancel,
  sealClose,
  sealRevoke,
  sealRotate,
  sealSettle,
  sealSuspend,
} from './bad-input/entries.ts'
import { haveReceipts, wiresOf } from './event-ordering/publishing.ts'
import { createAccount, type TestAccount, type TestDevice } from './support/account.ts'
import { createCapturedParts } from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const DAY_MS = 24 * 60 * 60 * 1000

let server: TestServer
let db: Database
beforeAll(async () => {
  server = await startTestServer({ database: 'postgres' })
  db = await openPostgres({ ...createCapturedParts().parts, url: server.databaseUrl!, poolSize: 2 })
})
afterAll(async () => {
  await db?.close()
  await server?.close()
})

const run = (text: string, values: readonly unknown[]) => db.query<Record<string, unknown>>({ name: '', text }, values)

let account: TestAccount
let phrase: DeviceKeys
let manager: TestDevice
let member: TestDevice
let session: RawSession
beforeEach(async () => {
  phrase = await createKeys('recovery')
  account = await createAccount(server, { devices: 2, recovery: phrase })
  ;[manager, member] = account.devices as [TestDevice, TestDevice]
  session = await manager.connect(server)
  return () => session.drop()
})

const refusal = (answer: ServerMessage) =>
  answer.type === 'error' ? { code: answer.code, rule: answer.rule, retryAfterMs: answer.retry_after_ms } : answer.type

/** As if so much time had passed since the entries so far, by the database's clock. */
const letPass = async (ms: number): Promise<void> => {
  const back = `make_interval(secs => $2 / 1000.0)`
  const { userId } = account
  await run(`update device_log set appended_at = appended_at - ${back} where user_id = $1`, [userId, ms])
  await run(`update pending_closes set asked_at = asked_at - ${back} where user_id = $1`, [userId, ms])
}
/** The other manager: a device that the first one adds. */
const addManager = async (): Promise<DeviceKeys> => {
  const keys = await createKeys('manager')
  await appendEntry(account, session, await sealAdd(account, authorOf(manager), keys))
  return keys
}

describe('a new recovery device without the phrase', () => {
  test('DEV-15: is settled seven days later by the database’s clock, and not a moment earlier', async () => {
    await appendEntry(account, session, await askForRecovery(account, authorOf(manager), await createKeys('recovery')))
    const early = refusal(await offerEntry(session, await sealSettle(account, authorOf(manager))))
    expect(early).toMatchObject({ code: 'device_log_refused', rule: 'settle_too_early' })
    const { retryAfterMs = 0 } = early as { retryAfterMs?: number }
    expect(retryAfterMs).toBeGreaterThan(PENDING_MS - 60_000)
    expect(retryAfterMs).toBeLessThanOrEqual(PENDING_MS)
    await letPass(PENDING_MS - 60_000)
    const late = refusal(await offerEntry(session, await sealSettle(account, authorOf(manager))))
    expect(late).toMatchObject({ rule: 'settle_too_early' })
    await letPass(60_000)
    await appendEntry(account, session, await sealSettle(account, authorOf(manager)))
    const roles = await run('select role from devices where user_id = $1 and revoked_at is null', [account.userId])
    expect(roles.map(({ role }) => role).sort()).toEqual([1, 2, 3])
  })

  test('DEV-15: another one in its place starts the seven days again', async () => {
    await appendEntry(account, session, await askForRecovery(account, authorOf(manager), await createKeys('recovery')))
    await letPass(PENDING_MS)
    await appendEntry(account, session, await askForRecovery(account, authorOf(manager), await createKeys('recovery')))
    const early = refusal(await offerEntry(session, await sealSettle(account, authorOf(manager))))
    expect(early).toMatchObject({ rule: 'settle_too_early' })
  })

  test('DEV-14: is final at once when the phrase settles it', async () => {
    await appendEntry(account, session, await askForRecovery(account, authorOf(manager), await createKeys('recovery')))
    await appendEntry(account, session, await sealSettle(account, authorOf({ keys: phrase })))
    expect(account.log.pendingRecovery).toBeUndefined()
  })
})

describe('the end of an account without the phrase', () => {
  const carryOut = () =>
    closeDueAccounts(db, {
      pendingMs: PENDING_MS,
      limit: 100,
      onFailure: (error) => {
        throw error
      },
    })
  const isDeleted = async (): Promise<boolean> => {
    const [user] = await run('select deleted_at is not null as is_deleted from users where user_id = $1', [
      account.userId,
    ])
    return user?.['is_deleted'] === true
  }

  test('DEV-14, DEV-15: changes nothing for seven days, then the server carries it out', async () => {
    await appendEntry(account, session, await sealClose(account.log, authorOf(manager)))
    session.publish(wiresOf(await manager.sealMany('notes', 2)))
    await haveReceipts(session, 2)
    await letPass(PENDING_MS - 60_000)
    expect(await carryOut()).toEqual([])
    await letPass(60_000)
    const closed = await carryOut()
    expect(closed.map((userId) => Buffer.from(userId).toString('hex'))).toEqual([
      Buffer.from(account.userId).toString('hex'),
    ])
    expect(await isDeleted()).toBe(true)
    expect(await run('select 1 from events where user_id = $1', [account.userId])).toEqual([])
    await expect(manager.connect(server)).rejects.toThrow('4410')
    expect(await carryOut()).toEqual([])
  })

  test.each([
    ['a manager cancels it', async () => sealCancel(account, authorOf(manager), account.log.pendingClose!.hash)],
    ['the phrase signs anything', async () => sealRotate(account, authorOf({ keys: phrase }))],
  ] as const)('DEV-14: falls when %s', async (_, end) => {
    await appendEntry(account, session, await sealClose(account.log, authorOf(manager)))
    await appendEntry(account, session, await end())
    await letPass(PENDING_MS)
    expect(await carryOut()).toEqual([])
    expect(await isDeleted()).toBe(false)
  })

  test('DEV-14: falls with the device that asked, and may be asked again', async () => {
    const thief = await addManager()
    await appendEntry(account, session, await sealClose(account.log, authorOf({ keys: thief })))
    await appendEntry(account, session, await sealSuspend(account, authorOf(manager), thief))
    await letPass(PENDING_MS)
    expect(await carryOut()).toEqual([])
    await appendEntry(account, session, await sealClose(account.log, authorOf(manager)))
    expect(account.log.pendingClose).toBeDefined()
  })

  test('DEV-14, P6: ends at once with the phrase', async () => {
    const close = await sealClose(account.log, authorOf(manager), phrase.signer)
    expect((await offerEntry(session, close)).type).toBe('device_log_appended')
    expect((await session.closed).code).toBe(4410)
    expect(await isDeleted()).toBe(true)
  })
})

describe('a cut', () => {
  const cutFalse = { code: 'device_log_refused', rule: 'cut_false' }

  test('DEV-15: of a revocation or a suspension stands in the rows, or the entry is refused', async () => {
    const writing = await member.connect(server)
    const events = await member.sealMany('notes', 3)
    writing.publish(wiresOf(events))
    await haveReceipts(writing, 3)
    const other = new Uint8Array(32).fill(1)
    const author = authorOf(manager)
    const cuts = [
      { lastSeq: 2, chain: other },
      { lastSeq: 2, chain: events[0]!.chain },
      { lastSeq: 3, chain: events[1]!.chain },
      { lastSeq: 4, chain: events[2]!.chain },
      { lastSeq: 0, chain: other },
    ]
    for (const cut of cuts) {
      const revoked = await offerEntry(session, await sealRevoke(account, author, [member], cut))
      expect(refusal(revoked)).toMatchObject(cutFalse)
      const suspended = await offerEntry(session, await sealSuspend(account, author, member, cut))
      expect(refusal(suspended)).toMatchObject(cutFalse)
    }
    await appendEntry(
      account,
      session,
      await sealSuspend(account, author, member, { lastSeq: 2, chain: events[1]!.chain }),
    )
    await appendEntry(account, session, await sealRevoke(account, author, [member]))
    const [row] = await run(
      'select cut_device_seq, cut_chain, suspended_log_seq, revoked_log_seq from devices where user_id = $1 and device_id = $2',
      [account.userId, member.deviceId],
    )
    expect(row).toMatchObject({ cut_device_seq: 2, suspended_log_seq: 2, revoked_log_seq: 3 })
    expect(Buffer.from(row!['cut_chain'] as Uint8Array)).toEqual(Buffer.from(events[1]!.chain))
    writing.drop()
  })

  test('DEV-15: is true at the newest event, and at 0 with the start of the chain', async () => {
    const writing = await member.connect(server)
    const events = await member.sealMany('notes', 2)
    writing.publish(wiresOf(events))
    await haveReceipts(writing, 2)
    const chain = events[1]!.chain
    await appendEntry(account, session, await sealSuspend(account, authorOf(manager), member, { lastSeq: 2, chain }))
    const idle = await addManager()
    await appendEntry(account, session, await sealSuspend(account, authorOf(manager), idle))
    writing.drop()
  })
})

describe('a suspended device', () => {
  test('DEV-13: keeps its session, is shown the entry, reads on, and publishes nothing', async () => {
    const suspended = await member.connect(server, { cursor: 0 })
    await suspended.until('caught_up', () => suspended.isCaughtUp)
    await appendEntry(account, session, await sealSuspend(account, authorOf(manager), member))
    const { seq } = account.log
    await suspended.until('the entry', () =>
      suspended.messages.some((message) => message.type === 'device_log' && message.head_seq === seq),
    )
    suspended.publish([(await member.sealAside('notes')).wire])
    await suspended.until('the refusal', () => suspended.refusals.length > 0)
    expect(suspended.refusals).toMatchObject([{ device_seq: 1, code: 'device_suspended' }])
    const pairing = { type: 'open_pairing' as const, request_id: 0, mailbox_id: nodeCrypto.randomBytes(16) }
    const opened = await suspended.ask({ ...pairing, seat_key: nodeCrypto.randomBytes(16) })
    expect(refusal(opened)).toMatchObject({ code: 'device_suspended' })

    session.publish(wiresOf(await manager.sealMany('notes', 1)))
    await suspended.until('what others write', () => suspended.events.length === 1)
    await appendEntry(account, session, await sealRotate(account, authorOf(manager)))
    const envelopes = await suspended.ask({ type: 'fetch_envelopes', request_id: 0, after_epoch: 0 })
    expect(envelopes).toMatchObject({
      boxes: [{ epoch: 1 }, { epoch: 2 }],
      links: [{ epoch: 2, prev_epoch: 1 }],
    })
    suspended.drop()

    const again = await member.connect(server)
    again.publish([(await member.sealAside('notes')).wire])
    await again.until('the refusal', () => again.refusals.length > 0)
    expect(again.refusals).toMatchObject([{ code: 'device_suspended' }])
    again.drop()
  })

  test('DEV-13: signs no entry, and its links and boxes stay those of every epoch', async () => {
    const thief = await addManager()
    await appendEntry(account, session, await sealSuspend(account, authorOf(manager), thief))
    const answer = await offerEntry(session, await sealRotate(account, authorOf({ keys: thief })))
    expect(refusal(answer)).toMatchObject({ rule: 'signer_suspended' })
    await appendEntry(account, session, await sealRotate(account, authorOf(manager), []))
    await appendEntry(account, session, await sealRotate(account, authorOf(manager), [2, 1]))
    const envelopes = await session.ask({ type: 'fetch_envelopes', request_id: 0, after_epoch: 0 })
    expect(envelopes).toMatchObject({
      links: [
        { epoch: 3, prev_epoch: 2 },
        { epoch: 3, prev_epoch: 1 },
      ],
    })
    const [boxes] = await run('select count(*) as count from key_envelopes where user_id = $1 and device_id = $2', [
      account.userId,
      thief.deviceId,
    ])
    expect(boxes).toEqual({ count: 3 })
  })
})

describe('entries in a day', () => {
  const change = async (keys: Pick<TestDevice, 'keys'>, times: number): Promise<void> => {
    for (let i = 0; i < times; i++) {
      const role = i % 2 === 0 ? 'manager' : 'member'
      const entry = await buildRole(account.log, authorOf(keys), { deviceId: member.deviceId, role })
      await appendEntry(account, session, { entry, boxes: [], links: [] })
    }
  }

  test('DEV-15: are 100 of a device and 200 of a user, but for what saves the account', {
    timeout: 60_000,
  }, async () => {
    const second = await addManager()
    const third = await addManager()
    // Those that added the devices are of the day before.
    await letPass(DAY_MS)
    await change(manager, 100)
    const limited = { code: 'device_log_refused', rule: 'entry_rate_limited' }
    const again = refusal(await offerEntry(session, await sealRotate(account, authorOf(manager))))
    expect(again).toMatchObject(limited)
    const { retryAfterMs = 0 } = again as { retryAfterMs?: number }
    expect(retryAfterMs).toBeGreaterThan(DAY_MS - 120_000)
    expect(retryAfterMs).toBeLessThanOrEqual(DAY_MS)
    await change({ keys: second }, 100)
    expect(refusal(await offerEntry(session, await sealRotate(account, authorOf({ keys: third }))))).toMatchObject(
      limited,
    )
    await appendEntry(account, session, await sealSuspend(account, authorOf(manager), third))
    await appendEntry(account, session, await sealRevoke(account, authorOf(manager), [member]))
    await appendEntry(account, session, await sealRotate(account, authorOf({ keys: phrase })))
    await letPass(DAY_MS)
    await appendEntry(account, session, await sealRotate(account, authorOf(manager)))
  })
})
