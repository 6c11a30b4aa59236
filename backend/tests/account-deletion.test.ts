// The end of an account (P6): every row of the user gone on both databases and nobody else's, sockets on all nodes closed
// with its code, nothing left in Redis, a replay under way ended by it, and no device that brings the account back.

import { ERRORS, type ServerMessage } from '@valise/protocol'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../src/db/postgres.ts'
import { appendDeviceLogEntry } from '../src/db/queries/device-log.ts'
import { appendRuns } from '../src/db/queries/events.ts'
import { takeOpeningOfUser } from '../src/db/queries/pairing-limits.ts'
import { authorOf, createKeys, offerEntry, sealAdd, sealClose } from './bad-input/entries.ts'
import { createAccount, type TestAccount } from './support/account.ts'
import { createDeafBus } from './support/deaf-bus.ts'
import {
  addUser,
  continueRun,
  DATABASE_KINDS,
  makeEntry,
  makeEvents,
  openDatabase,
  waitFor,
} from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'
import { startRedis, type TestRedis } from './support/redis.ts'
import { startTestServer, type TestServer } from './support/server.ts'

describe.each(DATABASE_KINDS)('P6: the rows of a user on %s', (kind) => {
  const read = <Row extends object>(db: Queryable, text: string, values: readonly unknown[] = []): Promise<Row[]> =>
    db.query<Row>({ name: '', text }, values)

  /** Of every table that the catalogue knows: rows of the user where it has a user_id, else all its rows. */
  const countRows = async (db: Queryable, userId: Uint8Array): Promise<Record<string, number>> => {
    const tables = await read<{ name: string; is_of_users: boolean }>(
      db,
      `select c.relname as name, exists (
         select 1 from pg_attribute as a where a.attrelid = c.oid and a.attname = 'user_id' and not a.attisdropped
       ) as is_of_users
       from pg_class as c
       where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
       order by c.relname`,
    )
    const counts: Record<string, number> = {}
    for (const { name, is_of_users } of tables) {
      const [row] = is_of_users
        ? await read<{ count: number }>(db, `select count(*) as count from ${name} where user_id = $1`, [userId])
        : await read<{ count: number }>(db, `select count(*) as count from ${name}`)
      counts[is_of_users ? name : `${name} (all)`] = row!.count
    }
    return counts
  }

  /** A user with at least one row in every table that can hold one of his. */
  const fill = async (db: Queryable & Parameters<typeof addUser>[0]) => {
    const { devices, genesis } = await addUser(db, 2)
    await appendRuns(db, [continueRun(devices[0]!, makeEvents(3)), continueRun(devices[1]!, makeEvents(2))])
    // At the quota.
    const limits = { maxStreams: 10, maxUserBytes: 1500 }
    await appendRuns(db, [continueRun(devices[0]!, makeEvents(1))], limits)
    await takeOpeningOfUser(db, genesis.userId, { max: 5, windowMs: 60_000 })
    const asked = makeEntry(genesis, {
      epoch: { n: 2, links: [{ prevEpoch: 1, box: new Uint8Array(48) }] },
      pendingClose: 'asked',
    })
    await db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, asked))
    return asked
  }

  test('P6: every table is emptied of a deleted user but for its tombstone, and of nobody else', async () => {
    const { db, close } = await openDatabase(kind)
    try {
      const [leaving, staying] = [await fill(db), await fill(db)]
      const before = await countRows(db, leaving.userId)
      const others = await countRows(db, staying.userId)
      // A table that was forgotten in `fill` would pass unseen below.
      const unfilled = Object.entries(before).filter(([name, count]) => !name.endsWith(' (all)') && count === 0)
      expect(unfilled).toEqual([])
      expect(Object.keys(before).filter((name) => !name.endsWith(' (all)')).length).toBeGreaterThanOrEqual(8)

      const entry = makeEntry(leaving, { isClosed: true })
      expect(await db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, entry))).toBe('appended')

      const after = await countRows(db, leaving.userId)
      const left = Object.entries(after).filter(([name, count]) => !name.endsWith(' (all)') && count > 0)
      // The tombstone: that the account was there, and ids and public keys of its devices, so that each can be told.
      expect(Object.fromEntries(left)).toEqual({ users: 1, devices: 2 })
      expect(await countRows(db, staying.userId)).toEqual(others)
      // A request that waited behind the deletion leaves no row either.
      await takeOpeningOfUser(db, leaving.userId, { max: 5, windowMs: 60_000 })
      expect(await countRows(db, leaving.userId)).toEqual(after)
      const kept = await read(
        db,
        `select d.cursor, d.last_seen_at, d.revoked_at is not null as is_revoked, u.stream_count, u.published_bytes
         from devices as d join users as u on u.user_id = d.user_id
         where d.user_id = $1`,
        [leaving.userId],
      )
      const nothing = { cursor: 0, last_seen_at: null, is_revoked: true, stream_count: 0, published_bytes: 0 }
      expect(kept).toEqual([nothing, nothing])
    } finally {
      await close()
    }
  })
})

describe('P6: an account is deleted on one of two nodes', () => {
  const servers: TestServer[] = []
  let redis: TestRedis
  beforeAll(async () => {
    redis = await startRedis()
  })
  afterAll(() => redis?.close())
  afterEach(async () => {
    for (const server of servers.splice(0).reverse()) await server.close()
  })
  const bus = createDeafBus()
  const startTwo = async (options: { isDeaf?: boolean; flags?: Record<string, string> } = {}) => {
    const { isDeaf = false, flags = {} } = options
    const redisUrl = redis.url
    const left = await startTestServer({ database: 'postgres', redisUrl, flags })
    servers.push(left)
    const { databaseUrl, identityFile } = left
    const right = await startTestServer({
      database: 'postgres',
      redisUrl,
      databaseUrl: databaseUrl!,
      identityFile,
      flags,
      ...(isDeaf ? { bus: bus.wrap } : {}),
    })
    servers.push(right)
    bus.setDeaf(isDeaf)
    return { left, right }
  }
  const gone = { code: ERRORS.account_deleted.close, reason: ERRORS.account_deleted.text }

  const deleteOn = async (session: RawSession, account: TestAccount): Promise<ServerMessage> =>
    offerEntry(session, await sealClose(account.log, authorOf(account.devices[0]!)))

  test('P6, BUS-4: all sockets are closed with 4410, Redis holds nothing of it, and no device comes back', async () => {
    const { left, right } = await startTwo()
    const account = await createAccount(left, { devices: 3 })
    const [manager, reader, writer] = account.devices
    const sessions = [
      await manager!.connect(left, { cursor: 0 }),
      await reader!.connect(right, { cursor: 0 }),
      await writer!.connect(right, { cursor: 0 }),
    ]
    sessions[2]!.publish((await writer!.sealMany('notes', 5)).map(({ wire }) => wire))
    await sessions[1]!.until('the events', () => sessions[1]!.events.length === 5)
    // Nobody else uses this Redis.
    const readKeys = async (): Promise<number> => {
      const keys = await redis.send('KEYS', '*')
      return Array.isArray(keys) ? keys.length : 0
    }
    await waitFor('presence in Redis', readKeys, (count) => count > 0)
    // Events are under way while the account ends.
    sessions[2]!.publish((await writer!.sealMany('notes', 50)).map(({ wire }) => wire))
    const answer = await deleteOn(sessions[0]!, account)
    expect(answer.type).toBe('device_log_appended')
    for (const session of sessions) expect(await session.closed).toEqual(gone)
    await waitFor('Redis to hold nothing of it', readKeys, (count) => count === 0)
    const subscribers = () => right.app.metrics.read('redis_subscribers_active')
    await waitFor('the channel to be left', subscribers, (count) => count === 0)
    for (const device of account.devices) {
      for (const node of [left, right]) await expect(device.connect(node)).rejects.toThrow('4410')
    }
  })

  test('P6: a replay that word of the end does not reach is ended by the log itself; nothing is delivered after', async () => {
    // The node hears of nothing, and compares nothing.
    const { left, right } = await startTwo({ isDeaf: true, flags: { VALISE_HEAD_POLL_MS: '600000' } })
    const account = await createAccount(left, { devices: 2 })
    const [writer, reader] = account.devices
    const writing = await writer!.connect(left, { cursor: 0 })
    const data = new Uint8Array(200_000)
    const events = []
    for (let i = 0; i < 100; i++) events.push(await writer!.seal('notes', { data }))
    for (const { wire } of events) writing.publish([wire])
    await writing.until('the receipts', () => writing.receipts.length === events.length)

    const replaying = await reader!.connect(right)
    // More than the buffers between hold: the replay stands still until the reader takes it.
    replaying.socket.pause()
    replaying.send({ type: 'resume', cursor: 0, log_epoch: null })
    await waitFor(
      'the replay to wait for its reader',
      () => right.app.metrics.read('valise_send_buffered_bytes'),
      (bytes) => bytes > 500_000,
    )
    expect((await deleteOn(writing, account)).type).toBe('device_log_appended')
    replaying.socket.resume()
    expect(await replaying.closed).toEqual(gone)
    expect(replaying.isCaughtUp).toBe(false)
    expect(replaying.events.length).toBeLessThan(events.length)
  })

  test('P6: an entry signed before the end and sent after it is answered with the end', async () => {
    const { left, right } = await startTwo()
    const account = await createAccount(left, { devices: 2 })
    const [manager] = account.devices
    const session = await manager!.connect(left)
    const add = await sealAdd(account, authorOf(manager!), await createKeys('member'))
    await deleteOn(session, account)
    expect(await session.closed).toEqual(gone)
    await expect(manager!.connect(right).then((late) => offerEntry(late, add))).rejects.toThrow('4410')
  })
})
