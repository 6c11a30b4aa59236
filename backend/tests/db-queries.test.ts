// Pages, heads, cursors, the device log and its effects, envelopes, mailboxes and the end of an account, on both databases.

import { type EventLeaf, toHex } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { appendDeviceLogEntry, insertGenesis, readDeviceLog } from '../src/db/queries/device-log.ts'
import { findDeviceForSession, saveCursor } from '../src/db/queries/devices.ts'
import { readEnvelopes } from '../src/db/queries/envelopes.ts'
import { appendRuns, readEventsAfter, readHeads } from '../src/db/queries/events.ts'
import { expireEvents } from '../src/db/queries/expiry.ts'
import { deleteExpiredMailboxes, postMailboxMessage, readMailboxMessage } from '../src/db/queries/mailboxes.ts'
import { readLogEpoch } from '../src/db/queries/server-state.ts'
import { deleteAccount, findUser } from '../src/db/queries/users.ts'
import {
  addDevice,
  addUser,
  continueRun,
  DATABASE_KINDS,
  hash,
  id,
  leafOfItem,
  leafOfWire,
  makeEntry,
  makeEvents,
  makeGenesis,
  makeWire,
  type OpenedDatabase,
  openDatabase,
} from './support/open-database.ts'

const describeLeaf = ({ inner, ...rest }: EventLeaf) => ({ ...rest, inner: toHex(inner) })

describe.each(DATABASE_KINDS)('queries on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(() => opened.close())

  const inTransaction = <T>(work: Parameters<typeof opened.db.transaction<T>>[1]): Promise<T> =>
    opened.db.transaction({ name: 'test' }, work)
  const run = (text: string, values: readonly unknown[] = []) => opened.db.query({ name: '', text }, values)

  test('ORD-5: pages are bounded in events, and the next one begins where this one ends', async () => {
    const device = await addDevice(opened.db)
    await appendRuns(opened.db, [continueRun(device, makeEvents(7))])
    const pages: number[][] = []
    for (let cursor = 0; ; ) {
      const { items, through } = await readEventsAfter(opened.db, device.userId, cursor, {
        maxEvents: 3,
        maxBytes: 1e6,
      })
      if (through === cursor) break
      pages.push(items.map((item) => item.userSeq))
      cursor = through
    }
    expect(pages).toEqual([[1, 2, 3], [4, 5, 6], [7]])
  })

  test('P5: pages are bounded in bytes, but always hold one event', async () => {
    const device = await addDevice(opened.db)
    const sizes = [100, 100, 5000, 100]
    const events = sizes.flatMap((size) => makeEvents(1, { wire: Buffer.alloc(size, size % 251) }))
    await appendRuns(opened.db, [continueRun(device, events)])
    const read = (cursor: number) =>
      readEventsAfter(opened.db, device.userId, cursor, { maxEvents: 100, maxBytes: 1000 })
    expect((await read(0)).through).toBe(2)
    const big = await read(2)
    expect(big).toMatchObject({ through: 3, items: [{ userSeq: 3 }] })
    expect(big.items[0]?.wire).toEqual(Buffer.alloc(5000, 5000 % 251))
    expect((await read(3)).through).toBe(4)
    expect(await read(4)).toMatchObject({ items: [], through: 4, prunedThrough: 0, head: 4 })
  })

  test('ORD-5: own events are left out of a page and counted in `through`', async () => {
    const { devices } = await addUser(opened.db, 2)
    const [own, other] = [devices[0]!, devices[1]!]
    await appendRuns(opened.db, [continueRun(own, makeEvents(3))])
    await appendRuns(opened.db, [continueRun(other, makeEvents(1))])
    await appendRuns(opened.db, [continueRun(own, makeEvents(2))])
    const options = { maxEvents: 5, maxBytes: 300, excludeDeviceId: own.deviceId }
    const page = await readEventsAfter(opened.db, own.userId, 0, options)
    expect(page.items.map((item) => item.userSeq)).toEqual([4])
    expect(page.through).toBe(5)
    expect(await readEventsAfter(opened.db, own.userId, 5, options)).toMatchObject({
      items: [],
      through: 6,
      prunedThrough: 0,
    })
  })

  test('RET-1: an expired event keeps its place and its leaf, and loses its bytes', async () => {
    const device = await addDevice(opened.db)
    const wire = makeWire({ ttlS: 60, flags: 8 })
    const events = [...makeEvents(1, { ttlS: 60, wire }), ...makeEvents(1), ...makeEvents(1, { ttlS: 3600 })]
    const verdicts = await appendRuns(opened.db, [continueRun(device, events)])
    const storedAtMs = verdicts[0]?.status === 'stored' ? verdicts[0].storedAtMs : 0
    const read = async (nowMs: number) =>
      (await readEventsAfter(opened.db, device.userId, 0, { maxEvents: 9, maxBytes: 1e6, nowMs })).items
    const before = await read(storedAtMs + 59_999)
    expect(before.map((item) => item.wire !== undefined)).toEqual([true, true, true])
    const after = await read(storedAtMs + 60_000)
    expect(after.map((item) => item.wire !== undefined)).toEqual([false, true, true])
    expect(after[1]?.wire).toEqual(events[1]?.wire)
    const leaf = leafOfWire(events[0]!.wire)
    expect(leaf).toMatchObject({ ttlS: 60, flags: 8 })
    expect(after[0]!.wire).toBeUndefined()
    expect(describeLeaf(leafOfItem(after[0]!))).toEqual(describeLeaf(leaf))

    expect(await expireEvents(opened.db, { maxEvents: 100, nowMs: storedAtMs + 60_000 })).toBe(1)
    expect(await expireEvents(opened.db, { maxEvents: 100, nowMs: storedAtMs + 60_000 })).toBe(0)
    const swept = await read(storedAtMs)
    expect(swept.map((item) => item.wire !== undefined)).toEqual([false, true, true])
    expect(describeLeaf(leafOfItem(swept[0]!))).toEqual(describeLeaf(leaf))
    const again = await appendRuns(opened.db, [{ ...continueRun(device, []), firstSeq: 1, events, chainPrev: hash() }])
    expect(again[0]).toEqual({ ...verdicts[0], status: 'duplicate' })
  })

  test('BUS-3: the heads of many users come in one query', async () => {
    const [one, other] = [await addDevice(opened.db), await addDevice(opened.db)]
    await appendRuns(opened.db, [continueRun(one, makeEvents(4))])
    const heads = await readHeads(opened.db, [one.userId, other.userId, hash()])
    expect(heads).toEqual(
      new Map([
        [toHex(one.userId), 4],
        [toHex(other.userId), 0],
      ]),
    )
    expect(await readHeads(opened.db, [])).toEqual(new Map())
  })

  test('SES-1: a session finds its device, its counters and its user', async () => {
    const { devices, genesis } = await addUser(opened.db)
    const device = devices[0]!
    await appendRuns(opened.db, [continueRun(device, makeEvents(2))])
    await saveCursor(opened.db, device.userId, device.deviceId, 2)
    await saveCursor(opened.db, device.userId, device.deviceId, 1)
    expect(await findDeviceForSession(opened.db, device.deviceId, device.userId)).toEqual({
      userId: device.userId,
      deviceId: device.deviceId,
      edPub: genesis.added[0]!.edPub,
      role: 2,
      revokedSeq: undefined,
      lastDeviceSeq: 2,
      lastChain: device.chain,
      cursor: 2,
      user: { lastUserSeq: 2, logSeq: 0, logHead: genesis.head, keyEpoch: 1, isDeleted: false },
    })
    expect(await findDeviceForSession(opened.db, device.deviceId, hash())).toBeUndefined()
    expect(await findDeviceForSession(opened.db, id(), undefined)).toBeUndefined()
  })

  test('DEV-5: a recovery device is found by its id alone', async () => {
    const genesis = makeGenesis(2)
    const recovery = { ...genesis.added[1]!, role: 3 }
    await inTransaction((tx) => insertGenesis(tx, { ...genesis, added: [genesis.added[0]!, recovery] }))
    const found = await findDeviceForSession(opened.db, recovery.deviceId, undefined)
    expect(found).toMatchObject({ userId: genesis.userId, role: 3, edPub: recovery.edPub })
  })

  test('DEV-1: a genesis entry makes an account once, and its keys belong to nobody else', async () => {
    const genesis = makeGenesis(2)
    const insert = (change: typeof genesis) => inTransaction((tx) => insertGenesis(tx, change))
    expect(await insert(genesis)).toBe('inserted')
    expect(await insert(genesis)).toBe('exists')
    const thief = makeGenesis(1)
    expect(await insert({ ...thief, added: [genesis.added[1]!], boxes: [] })).toBe('key_taken')
    expect(await findUser(opened.db, thief.userId)).toBeUndefined()
    expect(await findUser(opened.db, genesis.userId)).toEqual({
      lastUserSeq: 0,
      logSeq: 0,
      logHead: genesis.head,
      keyEpoch: 1,
      epochLogSeq: 0,
      deletedAtMs: undefined,
    })
  })

  test('DEV-1: an entry is appended onto the head it was signed for, and onto no other', async () => {
    const { genesis } = await addUser(opened.db)
    const append = (change: typeof genesis) => inTransaction((tx) => appendDeviceLogEntry(tx, change))
    const second = makeEntry(genesis)
    expect(await append(second)).toBe('appended')
    expect(await append(second)).toBe('head_moved')
    expect(await append({ ...makeEntry(second), prevHead: hash() })).toBe('head_moved')
    expect(await append({ ...makeEntry(second), seq: 3 })).toBe('head_moved')
    const third = makeEntry(second)
    expect(await append(third)).toBe('appended')
    const rows = await readDeviceLog(opened.db, genesis.userId, -1, 10)
    expect(rows).toEqual([genesis, second, third].map(({ seq, entry }) => ({ seq, entry })))
    expect(await readDeviceLog(opened.db, genesis.userId, 0, 1)).toEqual([{ seq: 1, entry: second.entry }])
  })

  test('DEV-1, DEV-2: added, promoted and revoked devices, epochs and boxes follow the entry', async () => {
    const { genesis } = await addUser(opened.db, 2)
    const [keeper, leaver] = [genesis.added[0]!, genesis.added[1]!]
    const joiner = { deviceId: id(), edPub: hash(), role: 1, chain: hash() }
    const [box, newBox, link] = [hash(), hash(), hash()]
    const add = makeEntry(genesis, { added: [joiner], boxes: [{ deviceId: joiner.deviceId, epoch: 1, box }] })
    const promote = makeEntry(add, { roles: [{ deviceId: joiner.deviceId, role: 2 }] })
    const revoke = makeEntry(promote, {
      revoked: [leaver.deviceId],
      epoch: { n: 2, links: [{ prevEpoch: 1, box: link }] },
      boxes: [keeper, joiner].map(({ deviceId }) => ({ deviceId, epoch: 2, box: newBox })),
    })
    for (const entry of [add, promote, revoke]) await inTransaction((tx) => appendDeviceLogEntry(tx, entry))

    const find = (deviceId: Uint8Array) => findDeviceForSession(opened.db, deviceId, genesis.userId)
    expect(await find(joiner.deviceId)).toMatchObject({ role: 2, revokedSeq: undefined, lastChain: joiner.chain })
    expect(await find(leaver.deviceId)).toMatchObject({ revokedSeq: 3 })
    expect(await find(keeper.deviceId)).toMatchObject({ user: { logSeq: 3, logHead: revoke.head, keyEpoch: 2 } })
    expect(await findUser(opened.db, genesis.userId)).toMatchObject({ keyEpoch: 2, epochLogSeq: 3 })
    expect(await readEnvelopes(opened.db, genesis.userId, joiner.deviceId, 0)).toEqual({
      boxes: [
        { epoch: 1, box },
        { epoch: 2, box: newBox },
      ],
      links: [{ epoch: 2, prevEpoch: 1, box: link }],
      isLast: true,
    })
    expect((await readEnvelopes(opened.db, genesis.userId, joiner.deviceId, 0, 1)).isLast).toBe(false)
    expect((await readEnvelopes(opened.db, genesis.userId, joiner.deviceId, 1)).boxes).toHaveLength(1)
    expect((await readEnvelopes(opened.db, genesis.userId, leaver.deviceId, 0)).boxes).toEqual([])
    const reuse = makeEntry(revoke, { added: [leaver] })
    expect(await inTransaction((tx) => appendDeviceLogEntry(tx, reuse))).toBe('key_taken')
  })

  test('P6: the end of an account removes what was stored, and the account cannot come back', async () => {
    const { devices, genesis } = await addUser(opened.db)
    const bystander = await addDevice(opened.db)
    await appendRuns(opened.db, [continueRun(devices[0]!, makeEvents(3)), continueRun(bystander, makeEvents(1))])
    const close = makeEntry(genesis, { isClosed: true })
    expect(await inTransaction((tx) => appendDeviceLogEntry(tx, close))).toBe('appended')
    for (const table of ['events', 'streams', 'key_envelopes', 'key_epochs', 'key_links', 'device_log']) {
      expect(await run(`select 1 from ${table} where user_id = $1`, [genesis.userId]), table).toEqual([])
    }
    expect((await findUser(opened.db, genesis.userId))?.deletedAtMs).toBeGreaterThan(0)
    expect(await inTransaction((tx) => insertGenesis(tx, genesis))).toBe('deleted')
    expect(await inTransaction((tx) => appendDeviceLogEntry(tx, makeEntry(close)))).toBe('head_moved')
    expect(await inTransaction((tx) => deleteAccount(tx, genesis.userId))).toBe(false)
    const told = await findDeviceForSession(opened.db, devices[0]!.deviceId, genesis.userId)
    expect(told).toMatchObject({ edPub: genesis.added[0]!.edPub, user: { isDeleted: true } })
    expect((await findUser(opened.db, bystander.userId))?.lastUserSeq).toBe(1)
  })

  test('ORD-3: the log epoch is 16 random bytes, made once', async () => {
    const epoch = await readLogEpoch(opened.db)
    expect(epoch.id).toHaveLength(16)
    expect(Math.abs(epoch.beganAtMs - Date.now())).toBeLessThan(60_000)
    expect(await readLogEpoch(opened.db)).toEqual(epoch)
  })

  test('DEV-3: a slot of a mailbox is written once and gone ten minutes after the first message', async () => {
    const mailboxId = id()
    const post = (slot: number, body: Uint8Array) => postMailboxMessage(opened.db, { mailboxId, slot, body })
    expect(await readMailboxMessage(opened.db, mailboxId, 0)).toBeUndefined()
    const [first, second] = [hash(), hash()]
    expect(await post(0, first)).toBe('stored')
    expect(await post(0, second)).toBe('taken')
    expect(await post(7, second)).toBe('stored')
    expect(await readMailboxMessage(opened.db, mailboxId, 0)).toEqual(first)
    const minutesLeft = await run(
      `select round(date_part('epoch', max(expires_at) - now()) / 60)::integer as minutes,
         count(distinct expires_at)::integer as deadlines from pairings where mailbox_id = $1`,
      [mailboxId],
    )
    expect(minutesLeft).toEqual([{ minutes: 10, deadlines: 1 }])
    await expect(post(8, first)).rejects.toThrow('pairings_slot_range')
    await expect(post(1, new Uint8Array(8193))).rejects.toThrow('pairings_body_length')

    await run('update pairings set expires_at = now() where mailbox_id = $1', [mailboxId])
    expect(await readMailboxMessage(opened.db, mailboxId, 0)).toBeUndefined()
    expect(await post(1, first)).toBe('taken')
    expect(await deleteExpiredMailboxes(opened.db)).toBe(2)
    expect(await deleteExpiredMailboxes(opened.db)).toBe(0)
  })

  test('P5: mailboxes are opened up to a bound, and open ones go on', async () => {
    const mailboxId = id()
    await postMailboxMessage(opened.db, { mailboxId, slot: 0, body: hash() })
    await run(
      `insert into pairings (mailbox_id, slot, body, expires_at)
       select substring(sha256(int8send(i)), 1, 16), 0, ''::bytea, now() + interval '1 minute'
       from generate_series(1, 9999) as i`,
    )
    expect(await postMailboxMessage(opened.db, { mailboxId: id(), slot: 0, body: hash() })).toBe('full')
    expect(await postMailboxMessage(opened.db, { mailboxId, slot: 1, body: hash() })).toBe('stored')
    await run('delete from pairings')
  })
})
