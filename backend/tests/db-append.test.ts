// What append_events answers and stores, on both databases.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isRefusedData } from '../src/db/postgres.ts'
import { appendDeviceLogEntry } from '../src/db/queries/device-log.ts'
import { type AppendRun, type AppendVerdict, appendRuns, readEventsAfter } from '../src/db/queries/events.ts'
import { deleteAccount, findUser } from '../src/db/queries/users.ts'
import {
  addDevice,
  addUser,
  continueRun,
  DATABASE_KINDS,
  hash,
  id,
  makeEntry,
  makeEvents,
  type OpenedDatabase,
  openDatabase,
} from './support/open-database.ts'

const statuses = (verdicts: readonly AppendVerdict[]): string[] => verdicts.map((verdict) => verdict.status)

describe.each(DATABASE_KINDS)('append on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(() => opened.close())

  const append = (...runs: AppendRun[]): Promise<AppendVerdict[]> => appendRuns(opened.db, runs)
  const readAll = (userId: Uint8Array) => readEventsAfter(opened.db, userId, 0, { maxEvents: 1000, maxBytes: 1e7 })

  test('ORD-1, ORD-2, ORD-3: the three sequences start at 1 and have no gap', async () => {
    const device = await addDevice(opened.db)
    const [a, b] = [id(), id()]
    const events = [a, b, a, a, b].flatMap((streamId) => makeEvents(1, { streamId }))
    const first = await append(continueRun(device, events.slice(0, 2)))
    const second = await append(continueRun(device, events.slice(2)))
    const receipts = [...first, ...second]
    expect(receipts).toMatchObject([
      { status: 'stored', deviceSeq: 1, userSeq: 1, streamSeq: 1 },
      { status: 'stored', deviceSeq: 2, userSeq: 2, streamSeq: 1 },
      { status: 'stored', deviceSeq: 3, userSeq: 3, streamSeq: 2 },
      { status: 'stored', deviceSeq: 4, userSeq: 4, streamSeq: 3 },
      { status: 'stored', deviceSeq: 5, userSeq: 5, streamSeq: 2 },
    ])
    const { items, through } = await readAll(device.userId)
    expect(through).toBe(5)
    expect(items.map(({ wire }) => wire)).toEqual(events.map(({ wire }) => wire))
    expect(
      items.map(({ userSeq, streamSeq, deviceSeq, storedAtMs }) => ({ userSeq, streamSeq, deviceSeq, storedAtMs })),
    ).toEqual(
      receipts.map((receipt) => {
        if (receipt.status !== 'stored') throw new Error('not stored')
        const { userSeq, streamSeq, deviceSeq, storedAtMs } = receipt
        return { userSeq, streamSeq, deviceSeq, storedAtMs }
      }),
    )
  })

  test('ORD-2: users with the same stream id never share a counter, also in one batch', async () => {
    const [one, other] = [await addDevice(opened.db), await addDevice(opened.db)]
    const verdicts = await append(continueRun(one, makeEvents(2)), continueRun(other, makeEvents(2)))
    expect(
      verdicts.map((verdict) => (verdict.status === 'stored' ? [verdict.userSeq, verdict.streamSeq] : [])),
    ).toEqual([
      [1, 1],
      [2, 2],
      [1, 1],
      [2, 2],
    ])
  })

  test('LOG-2: a batch of devices, streams and users is one statement: one transaction, one round trip', async () => {
    const [first, second, third] = [await addDevice(opened.db), await addDevice(opened.db), await addDevice(opened.db)]
    const runs = [first, second, third].map((device) =>
      continueRun(
        device,
        [id(), id()].flatMap((streamId) => makeEvents(3, { streamId })),
      ),
    )
    const before = await opened.metrics.read('database_queries_total')
    expect(statuses(await append(...runs))).toEqual(Array(18).fill('stored'))
    expect(await opened.metrics.read('database_queries_total')).toBe(before + 1)
    expect(statuses(await append(continueRun(first, makeEvents(2))))).toEqual(['stored', 'stored'])
    expect(await opened.metrics.read('database_queries_total')).toBe(before + 2)
  })

  test('ORD-3, ORD-4: devices of one user in one batch share user_seq and stream_seq in the order of the runs', async () => {
    const { devices } = await addUser(opened.db, 3)
    const verdicts = await append(...devices.map((device) => continueRun(device, makeEvents(2))))
    expect(verdicts).toMatchObject(
      [1, 2, 3, 4, 5, 6].map((seq) => ({ status: 'stored', userSeq: seq, streamSeq: seq })),
    )
    expect((await findUser(opened.db, devices[0]!.userId))?.lastUserSeq).toBe(6)
  })

  test('ORD-1, P4: the same events again get their first receipts, also when the run goes on', async () => {
    const device = await addDevice(opened.db)
    const events = makeEvents(4)
    const run = { ...continueRun(device, events), events: events.slice(0, 3) }
    const first = await append(run)
    expect(await append(run)).toEqual(first.map((receipt) => ({ ...receipt, status: 'duplicate' })))
    const longer = await append({ ...run, events })
    expect(statuses(longer)).toEqual(['duplicate', 'duplicate', 'duplicate', 'stored'])
    expect(longer.slice(0, 3)).toEqual(first.map((receipt) => ({ ...receipt, status: 'duplicate' })))
    expect((await readAll(device.userId)).items).toHaveLength(4)
  })

  test('ORD-1: another event at a stored device_seq is a conflict and stores nothing', async () => {
    const device = await addDevice(opened.db)
    const run = continueRun(device, makeEvents(2))
    await append(run)
    const forged = { ...run, events: [run.events[0]!, ...makeEvents(2)] }
    expect(statuses(await append(forged))).toEqual(['duplicate', 'conflict', 'chain_mismatch'])
    expect((await readAll(device.userId)).items).toHaveLength(2)
  })

  test('ORD-1: a run that leaves a gap names the seq that is expected', async () => {
    const device = await addDevice(opened.db)
    await append(continueRun(device, makeEvents(2)))
    const ahead = { ...continueRun(device, makeEvents(2)), firstSeq: 5 }
    expect(await append(ahead)).toEqual([
      { status: 'gap', expected: 3 },
      { status: 'gap', expected: 3 },
    ])
    expect((await readAll(device.userId)).items).toHaveLength(2)
  })

  test('ORD-1: a run that does not continue the stored chain is refused whole', async () => {
    const device = await addDevice(opened.db)
    await append(continueRun(device, makeEvents(1)))
    const torn = { ...continueRun(device, makeEvents(2)), chainPrev: hash() }
    expect(statuses(await append(torn))).toEqual(['chain_mismatch', 'chain_mismatch'])
  })

  test('DEV-2: events sealed before the newest epoch are stale, and those after them wait', async () => {
    const { devices, genesis } = await addUser(opened.db)
    const device = devices[0]!
    await append(continueRun(device, makeEvents(1)))
    const rotation = makeEntry(genesis, { epoch: { n: 2, links: [] } })
    await opened.db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, rotation))
    const mixed = [
      ...makeEvents(1, { epoch: 2, logSeq: 1 }),
      ...makeEvents(1, { logSeq: 0 }),
      ...makeEvents(1, { epoch: 2, logSeq: 1 }),
    ]
    const run = continueRun(device, mixed)
    expect(await append(run)).toMatchObject([
      { status: 'stored', deviceSeq: 2 },
      { status: 'stale_epoch' },
      { status: 'gap', expected: 3 },
    ])
    const resealed = makeEvents(2, { epoch: 2, logSeq: 1 })
    expect(statuses(await append({ ...run, firstSeq: 3, chainPrev: mixed[0]!.chain, events: resealed }))).toEqual([
      'stored',
      'stored',
    ])
  })

  test('DEV-2, P6: a revoked device stores nothing from the commit of its revocation on', async () => {
    const { devices, genesis } = await addUser(opened.db, 2)
    const [stays, goes] = [devices[0]!, devices[1]!]
    await append(continueRun(goes, makeEvents(1)))
    const revocation = makeEntry(genesis, { revoked: [goes.deviceId], epoch: { n: 2, links: [] } })
    await opened.db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, revocation))
    const verdicts = await append(
      continueRun(goes, makeEvents(2, { epoch: 2, logSeq: 1 })),
      continueRun(stays, makeEvents(1, { epoch: 2, logSeq: 1 })),
    )
    expect(statuses(verdicts)).toEqual(['revoked', 'revoked', 'stored'])
    expect(verdicts[2]).toMatchObject({ userSeq: 2 })
  })

  test('DEV-1: a device or a user nobody knows stores nothing', async () => {
    const device = await addDevice(opened.db)
    const stranger = { ...device, deviceId: id() }
    const nobody = { ...device, userId: hash() }
    const verdicts = await append(continueRun(stranger, makeEvents(1)), continueRun(nobody, makeEvents(1)))
    expect(statuses(verdicts)).toEqual(['revoked', 'deleted'])
  })

  test('P6: a deleted account takes nothing and has nothing', async () => {
    const device = await addDevice(opened.db)
    await append(continueRun(device, makeEvents(3)))
    await opened.db.transaction({ name: 'test' }, (tx) => deleteAccount(tx, device.userId))
    expect(statuses(await append(continueRun(device, makeEvents(1))))).toEqual(['deleted'])
    expect((await readAll(device.userId)).items).toEqual([])
  })

  test('P5: a stream beyond the limit is refused, known streams go on, in the order of arrival', async () => {
    const { devices } = await addUser(opened.db, 2)
    const [one, other] = [devices[0]!, devices[1]!]
    const streams = [id(), id(), id(), id()]
    const onStream = (i: number) => makeEvents(1, { streamId: streams[i]! })
    const limited = (...runs: AppendRun[]) => appendRuns(opened.db, runs, { maxStreams: 3 })
    expect(statuses(await limited(continueRun(one, [...onStream(0), ...onStream(1)])))).toEqual(['stored', 'stored'])
    const tooMany = continueRun(one, [...onStream(2), ...onStream(3), ...onStream(0)])
    const verdicts = await limited(tooMany, continueRun(other, [...onStream(1), ...onStream(3), ...onStream(2)]))
    expect(verdicts).toMatchObject([
      { status: 'stored', userSeq: 3 },
      { status: 'stream_limit' },
      { status: 'gap', expected: 4 },
      { status: 'stored', userSeq: 4, streamSeq: 2 },
      { status: 'stream_limit' },
      { status: 'gap', expected: 2 },
    ])
  })

  test('P5: more events in known streams make no stream more', async () => {
    const device = await addDevice(opened.db)
    const [a, b, c] = [id(), id(), id()]
    const inBoth = () => [a, b].flatMap((streamId) => makeEvents(1, { streamId }))
    for (let i = 0; i < 3; i++) expect(statuses(await append(continueRun(device, inBoth())))).not.toContain('gap')
    const last = [b, c].flatMap((streamId) => makeEvents(1, { streamId }))
    const verdicts = await appendRuns(opened.db, [continueRun(device, last)], { maxStreams: 3 })
    expect(statuses(verdicts)).toEqual(['stored', 'stored'])
  })

  test('ORD-1: in a mixed batch the refused runs do not harm their neighbours', async () => {
    const [good, gap, torn, twin, last] = await Promise.all(Array.from({ length: 5 }, () => addDevice(opened.db)))
    const stored = continueRun(twin!, makeEvents(1))
    await append(stored)
    const verdicts = await append(
      continueRun(good!, makeEvents(2)),
      { ...continueRun(gap!, makeEvents(1)), firstSeq: 9 },
      stored,
      { ...continueRun(torn!, makeEvents(1)), chainPrev: hash() },
      continueRun(last!, makeEvents(2)),
    )
    expect(statuses(verdicts)).toEqual(['stored', 'stored', 'gap', 'duplicate', 'chain_mismatch', 'stored', 'stored'])
    for (const device of [good!, last!]) {
      const { items } = await readAll(device.userId)
      expect(items.map((item) => item.userSeq)).toEqual([1, 2])
    }
    for (const device of [gap!, torn!]) expect((await readAll(device.userId)).items).toEqual([])
  })

  test('ORD-1: data that the database refuses stores nothing of the batch and is told apart from an outage', async () => {
    const device = await addDevice(opened.db)
    const neighbour = await addDevice(opened.db)
    const refused = append(
      continueRun(neighbour, makeEvents(1)),
      continueRun(device, makeEvents(1, { ttlS: Number.MAX_SAFE_INTEGER })),
    )
    await expect(refused).rejects.toSatisfy(isRefusedData)
    expect((await readAll(neighbour.userId)).items).toEqual([])
    expect(isRefusedData(new Error('connect ECONNREFUSED'))).toBe(false)
  })

  test('ORD-1: ids and hashes of a wrong length, and two runs of a device, are the bug of the caller', async () => {
    const device = await addDevice(opened.db)
    const run = continueRun(device, makeEvents(1))
    await expect(append({ ...run, deviceId: new Uint8Array(15) })).rejects.toThrow(RangeError)
    await expect(append({ ...run, events: makeEvents(1, { chain: new Uint8Array(31) }) })).rejects.toThrow(RangeError)
    await expect(append(run, run)).rejects.toThrow(RangeError)
    await expect(append({ ...run, events: [] })).rejects.toThrow(RangeError)
    expect(await append()).toEqual([])
  })

  test('ORD-4: a batch of 512 events of 64 devices is stored as it was sent', async () => {
    const { devices } = await addUser(opened.db, 48)
    const others = await Promise.all(Array.from({ length: 16 }, () => addDevice(opened.db)))
    const runs = [...devices, ...others].map((device) =>
      continueRun(
        device,
        [0, 1, 2, 3, 4, 5, 6, 7].flatMap((i) => makeEvents(1, { streamId: new Uint8Array(16).fill(i % 3) })),
      ),
    )
    expect(new Set(statuses(await append(...runs)))).toEqual(new Set(['stored']))
    const { items } = await readAll(devices[0]!.userId)
    expect(items.map((item) => item.userSeq)).toEqual(Array.from({ length: 384 }, (_, i) => i + 1))
    expect(items.map((item) => item.wire)).toEqual(
      runs.slice(0, 48).flatMap((run) => run.events.map((event) => event.wire)),
    )
  })
})
