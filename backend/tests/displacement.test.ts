// How much a device may push out of its user's quota, on both databases: what it stores, when it is refused, and what is
// left of the others (RET-8). A quota of 100 events, so a device may push out 10.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openPostgres } from '../src/db/postgres.ts'
import { appendDeviceLogEntry, type DeviceLogChange } from '../src/db/queries/device-log.ts'
import { type AppendVerdict, appendRuns, readEventsAfter } from '../src/db/queries/events.ts'
import { expireEvents } from '../src/db/queries/expiry.ts'
import { countStoredBytes, pruneEvents } from '../src/db/queries/retention.ts'
import { deleteAccount } from '../src/db/queries/users.ts'
import {
  addUser,
  continueRun,
  createCapturedParts,
  DATABASE_KINDS,
  hash,
  id,
  makeEntry,
  makeEvents,
  makeWire,
  type OpenedDatabase,
  openDatabase,
  type TestDevice,
} from './support/open-database.ts'

const BYTES = 1000
const QUOTA = 100 * BYTES
/** Not below the entry that adds any device here. */
const ANY_LOG_SEQ = 5
const HOUR_MS = 3_600_000
const LIMITS = { maxStreams: 1000, maxUserBytes: QUOTA }

describe.each(DATABASE_KINDS)('displacement on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(() => opened?.close())

  const run = <Row extends object>(text: string, values: readonly unknown[] = []) =>
    opened.db.query<Row>({ name: '', text }, values)

  /** Appends the events one by one until one is refused; resolves to how many were stored and to that refusal. */
  const publish = async (device: TestDevice, count: number, bytes = BYTES, db = opened.db) => {
    for (let stored = 0; stored < count; stored++) {
      const before = { ...device }
      const events = makeEvents(1, { wire: makeWire({ bytes }), logSeq: ANY_LOG_SEQ })
      const [verdict] = await appendRuns(db, [continueRun(device, events)], LIMITS)
      if (verdict?.status !== 'stored') {
        Object.assign(device, before)
        return { stored, refusal: verdict }
      }
    }
    return { stored: count, refusal: undefined }
  }

  const settle = async ({ userId }: TestDevice) => {
    while ((await countStoredBytes(opened.db, [userId], 1000)).length > 0);
    while ((await pruneEvents(opened.db, { reason: 'quota', maxBytes: QUOTA }, 250)) !== undefined);
  }

  /** As `publish`, with a prune after each event, until the limit is certain. */
  const publishSlowly = async (device: TestDevice, count: number, bytes = BYTES) => {
    for (let stored = 0; stored < count; stored++) {
      const { refusal } = await publish(device, 1, bytes)
      if (refusal !== undefined) return { stored, refusal }
      await settle(device)
    }
    return { stored: count, refusal: undefined }
  }

  /** How many events of the device have bytes. */
  const heldOf = async ({ userId, deviceId }: TestDevice) => {
    const { items } = await readEventsAfter(opened.db, userId, 0, { maxEvents: 10_000, maxBytes: 1e9 })
    return items.filter((item) => item.wire !== undefined && Buffer.from(deviceId).equals(item.deviceId)).length
  }

  const certain = { status: 'displacement', isCertain: true, retryAfterMs: expect.any(Number) }
  const uncertain = { status: 'displacement', isCertain: false }

  /** A device of `others` has filled the quota; `thief` has stored nothing. */
  const fillQuota = async (events = 100) => {
    const { devices, genesis } = await addUser(opened.db, 2)
    const [owner, thief] = [devices[0]!, devices[1]!]
    expect(await publish(owner, events)).toEqual({ stored: events, refusal: undefined })
    return { owner, thief, genesis }
  }

  const addYoung = async (genesis: DeviceLogChange, adder: TestDevice, before = genesis) => {
    const added = { deviceId: id(), edPub: hash(), role: 1, chain: hash(), addedBy: adder.deviceId }
    const entry = makeEntry(before, { added: [added] })
    await opened.db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, entry))
    const young: TestDevice = { userId: genesis.userId, deviceId: added.deviceId, nextSeq: 1, chain: added.chain }
    return { young, entry }
  }

  test('RET-8: a thief that floods pushes out a tenth, and nine tenths of the others stay', async () => {
    const { owner, thief } = await fillQuota()
    const burst = await publish(thief, 300)
    // While what it pushed out is not pruned yet, some of it might turn out to be its own.
    expect(burst).toEqual({ stored: 10, refusal: uncertain })
    await settle(thief)
    expect(await publishSlowly(thief, 300)).toEqual({ stored: 0, refusal: certain })
    expect(await heldOf(owner)).toBe(90)
    expect(await heldOf(thief)).toBe(10)
  })

  test('RET-8: slowly, with a prune after each event, it is no more', async () => {
    const { owner, thief } = await fillQuota()
    const { stored, refusal } = await publishSlowly(thief, 300)
    expect({ stored, refusal }).toEqual({ stored: 10, refusal: certain })
    expect(await heldOf(owner)).toBe(90)
    const retryAfterMs = refusal?.status === 'displacement' && refusal.isCertain ? refusal.retryAfterMs : 0
    expect(retryAfterMs).toBeGreaterThan(23 * HOUR_MS)
    expect(retryAfterMs).toBeLessThanOrEqual(25 * HOUR_MS)
  })

  test('RET-8, ORD-6: in a batch the run is cut there, and the runs of other users and devices are not touched', async () => {
    const { owner, thief } = await fillQuota()
    const neighbour = (await addUser(opened.db)).devices[0]!
    const events = (count: number) => makeEvents(count, { wire: makeWire({ bytes: BYTES }), logSeq: ANY_LOG_SEQ })
    const runs = [continueRun(thief, events(12)), continueRun(neighbour, events(3)), continueRun(owner, events(2))]
    const statuses = (await appendRuns(opened.db, runs, LIMITS)).map((verdict: AppendVerdict) => verdict.status)
    expect(statuses).toEqual([
      ...Array(10).fill('stored'),
      'displacement',
      'gap',
      ...Array(3).fill('stored'),
      ...Array(2).fill('stored'),
    ])
  })

  test('RET-8: one that waits until the user is just below the quota gains nothing', async () => {
    const { owner, thief } = await fillQuota(95)
    expect(await publish(thief, 300)).toMatchObject({ stored: 15 })
    await settle(thief)
    expect(await heldOf(owner)).toBe(85)
  })

  test('RET-8: a device that is alone in its account is not limited, with or without a prune between', async () => {
    const alone = (await addUser(opened.db)).devices[0]!
    expect(await publish(alone, 400)).toEqual({ stored: 400, refusal: undefined })
    await settle(alone)
    expect(await heldOf(alone)).toBe(100)
    expect(await publishSlowly(alone, 150)).toEqual({ stored: 150, refusal: undefined })
    expect(await heldOf(alone)).toBe(100)
  })

  test('RET-8: what is pruned of its own does not count', async () => {
    const { devices } = await addUser(opened.db, 2)
    const [first, second] = [devices[0]!, devices[1]!]
    await publish(first, 50)
    await publish(second, 50)
    expect(await publishSlowly(first, 300)).toEqual({ stored: 60, refusal: certain })
    expect(await heldOf(second)).toBe(40)
    // The other one has its own tenth.
    expect(await publishSlowly(second, 10)).toEqual({ stored: 10, refusal: undefined })
  })

  test('RET-8: a device added today has no tenth of its own beside the one that added it, nor has one that this one adds', async () => {
    const { owner, thief, genesis } = await fillQuota()
    expect(await publishSlowly(thief, 2)).toMatchObject({ stored: 2 })
    const { young, entry } = await addYoung(genesis, thief)
    const { young: younger } = await addYoung(genesis, young, entry)
    expect(await publishSlowly(young, 4)).toMatchObject({ stored: 4 })
    expect(await publishSlowly(younger, 300)).toMatchObject({ stored: 4, refusal: certain })
    expect(await publishSlowly(young, 300)).toEqual({ stored: 0, refusal: certain })
    expect(await publishSlowly(younger, 300)).toEqual({ stored: 0, refusal: certain })
    expect(await heldOf(owner)).toBe(90)
    await run(`update devices set added_at = now() - interval '25 hours' where device_id = $1`, [young.deviceId])
    expect(await publishSlowly(young, 300)).toEqual({ stored: 10, refusal: certain })
  })

  test('RET-8: a new device cannot push out the one that let it in, nor silence it', async () => {
    const { owner, genesis } = await fillQuota()
    const { young } = await addYoung(genesis, owner)
    expect(await publishSlowly(young, 300)).toEqual({ stored: 10, refusal: certain })
    expect(await heldOf(owner)).toBe(90)
    expect(await publishSlowly(owner, 90)).toEqual({ stored: 90, refusal: undefined })
    expect(await publishSlowly(owner, 300)).toEqual({ stored: 300, refusal: undefined })
  })

  test('RET-8: a day later there is another tenth', async () => {
    const { owner, thief } = await fillQuota()
    await publishSlowly(thief, 300)
    const age = (hours: number) =>
      run('update displacements set hour_at = hour_at - make_interval(hours => $2) where user_id = $1', [
        thief.userId,
        hours,
      ])
    await age(23)
    expect(await publishSlowly(thief, 1)).toEqual({ stored: 0, refusal: certain })
    await age(2)
    expect(await publishSlowly(thief, 300)).toEqual({ stored: 10, refusal: certain })
    expect(await heldOf(owner)).toBe(80)
  })

  test('RET-8: small events that push out large ones are charged for the large ones', async () => {
    const { devices } = await addUser(opened.db, 2)
    const [owner, thief] = [devices[0]!, devices[1]!]
    await publish(owner, 20, 5 * BYTES)
    await publishSlowly(thief, 300, 300)
    expect(await heldOf(owner)).toBeGreaterThanOrEqual(18)
  })

  test('RET-8: an event larger than the tenth is stored once a day, not never', async () => {
    const { owner, thief } = await fillQuota()
    expect(await publishSlowly(thief, 3, 15 * BYTES)).toEqual({ stored: 1, refusal: certain })
    expect(await heldOf(owner)).toBe(85)
  })

  test('RET-8, RET-1: room made by lifetimes that ended is charged to nobody', async () => {
    const { owner, thief } = await fillQuota(70)
    const events = makeEvents(30, { ttlS: 1, wire: makeWire({ bytes: BYTES, ttlS: 1 }), logSeq: ANY_LOG_SEQ })
    await appendRuns(opened.db, [continueRun(owner, events)], LIMITS)
    await expireEvents(opened.db, { maxEvents: 1000, nowMs: Date.now() + 60_000 })
    expect(await publish(thief, 300)).toEqual({ stored: 40, refusal: uncertain })
    await settle(thief)
    expect(await heldOf(owner)).toBe(60)
  })

  test('RET-8: without a quota nobody is limited, and all is counted once there is one', async () => {
    const { devices } = await addUser(opened.db, 2)
    const [owner, thief] = [devices[0]!, devices[1]!]
    const events = () => makeEvents(100, { wire: makeWire({ bytes: BYTES }) })
    const store = async (device: TestDevice) =>
      new Set((await appendRuns(opened.db, [continueRun(device, events())])).map(({ status }) => status))
    expect(await store(owner)).toEqual(new Set(['stored']))
    expect(await store(thief)).toEqual(new Set(['stored']))
    expect(await publish(thief, 300)).toEqual({ stored: 10, refusal: uncertain })
    await settle(thief)
    expect(await heldOf(owner)).toBe(0)
  })

  test('RET-8, LOG-2: below the quota it is one statement an append, and nothing is written of it', async () => {
    const { thief } = await fillQuota(50)
    const before = await opened.metrics.read('database_queries_total')
    await publish(thief, 5)
    expect(await opened.metrics.read('database_queries_total')).toBe(before + 5)
    expect(await run('select from displacements where user_id = $1', [thief.userId])).toEqual([])
  })

  test('RET-8: a deleted account leaves nothing of it', async () => {
    const { thief } = await fillQuota()
    await publish(thief, 5)
    await opened.db.transaction({ name: 'test' }, (tx) => deleteAccount(tx, thief.userId))
    expect(await run('select from displacements where user_id = $1', [thief.userId])).toEqual([])
  })

  test.runIf(kind === 'postgres')('RET-8, P8: over two nodes at once it is one tenth', async () => {
    const { owner, thief, genesis } = await fillQuota()
    const { young, entry } = await addYoung(genesis, thief)
    const other = await openPostgres({ ...createCapturedParts().parts, url: opened.url, poolSize: 2 })
    try {
      const flood = async (device: TestDevice, db = opened.db) => {
        let stored = 0
        for (let round = 0; round < 20; round++) {
          stored += (await publish(device, 50, BYTES, db)).stored
          await settle(device)
        }
        return stored
      }
      const { young: twin } = await addYoung(genesis, thief, entry)
      const [one, two] = await Promise.all([flood(twin), flood(young, other)])
      expect(one + two).toBe(10)
      expect(await heldOf(owner)).toBe(90)
    } finally {
      await other.close()
    }
  })
})
