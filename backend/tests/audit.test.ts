// The audit log: append-only, hash-chained, and says what matters for security (AUD-*). On both databases.

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AuditRecord, chainRecords, EMPTY_CHAIN, findChainFault, SERVER_CHAIN } from '../src/audit/audit-record.ts'
import { createServerAudit } from '../src/audit/server-audit.ts'
import { verifyAudit } from '../src/audit/verify-audit.ts'
import type { Queryable } from '../src/db/postgres.ts'
import { appendAudit, readAuditPage } from '../src/db/queries/audit.ts'
import { hashForLog } from '../src/telemetry/log.ts'
import { createCapturedParts, DATABASE_KINDS, type OpenedDatabase, openDatabase } from './support/open-database.ts'

const everything = (db: Queryable): Promise<AuditRecord[]> =>
  readAuditPage(db, { userId: SERVER_CHAIN, seq: 0 }, 10_000)
const chainOf = async (db: Queryable, userId: Uint8Array): Promise<AuditRecord[]> =>
  (await everything(db)).filter((record) => Buffer.from(record.userId).equals(userId))

describe('a chain of audit records', () => {
  const notes = [
    { kind: 'user.register', detail: { devices: 2 } },
    { kind: 'device.approve', detail: { role: 2, device: 'abc', log_seq: 1 } },
    { kind: 'device.revoke', detail: { log_seq: 2, device: 'abc' } },
  ] as const
  const records = chainRecords(randomBytes(32), EMPTY_CHAIN, 1_800_000_000_000, notes)

  test('AUD-1: holds from its first record, and from any later one', () => {
    expect(findChainFault(records, EMPTY_CHAIN)).toBeUndefined()
    expect(findChainFault(records.slice(1), undefined)).toBeUndefined()
  })

  test('AUD-1: a record that is changed, taken out, put in or moved is found', () => {
    const [first, second, third] = records as [AuditRecord, AuditRecord, AuditRecord]
    const changes: AuditRecord[] = [
      { ...second, kind: 'device.role' },
      { ...second, detail: { ...second.detail, role: 1 } },
      { ...second, atMs: second.atMs + 1 },
      { ...second, userId: randomBytes(32) },
      { ...second, prevHash: randomBytes(32) },
      { ...second, hash: randomBytes(32) },
    ]
    for (const changed of changes) expect(findChainFault([first, changed, third], EMPTY_CHAIN)?.seq).toBe(2)
    expect(findChainFault([first, third], EMPTY_CHAIN)).toEqual({ type: 'gap', seq: 3, expected: 2 })
    expect(findChainFault([second, third], EMPTY_CHAIN)).toEqual({ type: 'gap', seq: 2, expected: 1 })
    const [forged] = chainRecords(second.userId, first, second.atMs, [notes[2]])
    expect(findChainFault([first, forged!, third], EMPTY_CHAIN)).toEqual({ type: 'link', seq: 3 })
  })
})

describe.each(DATABASE_KINDS)('the audit log on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(() => opened.close())
  const run = (text: string, values: unknown[] = []) => opened.db.query<{ count: number }>({ name: '', text }, values)

  test('AUD-1: records that are written at once stand one after another, and hold when they are read', async () => {
    const users = [randomBytes(32), randomBytes(32), SERVER_CHAIN]
    const write = (userId: Uint8Array, i: number): Promise<void> =>
      opened.db.transaction({ name: 'test' }, (tx) =>
        appendAudit(tx, userId, [
          { kind: 'epoch.rotate', detail: { log_seq: i, epoch: i } },
          { kind: 'device.revoke', detail: { zebra: 1, device: hashForLog(userId), aardvark: i } },
        ]),
      )
    await Promise.all(users.flatMap((userId) => [1, 2, 3, 4, 5].map((i) => write(userId, i))))
    for (const userId of users) {
      const records = await chainOf(opened.db, userId)
      expect(records.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
      expect(findChainFault(records, EMPTY_CHAIN)).toBeUndefined()
    }
  })

  test('AUD-1: the whole log is read chain by chain, over page borders, and what somebody changed is named', async () => {
    const userId = randomBytes(32)
    const many = Array.from({ length: 25 }, (_, i) => ({ kind: 'epoch.rotate', detail: { epoch: i } }) as const)
    await opened.db.transaction({ name: 'test' }, (tx) => appendAudit(tx, userId, many))
    const reportOf = async () => {
      for await (const report of verifyAudit((after, limit) => readAuditPage(opened.db, after, limit), 10)) {
        if (Buffer.from(report.userId).equals(userId)) return report
      }
      throw new Error('the chain is not reported')
    }
    expect(await reportOf()).toMatchObject({ records: 25, firstSeq: 1, isServer: false, fault: undefined })
    // Somebody who owns the database can take the trigger away; the chain still tells.
    await run('alter table audit_log disable trigger audit_log_append_only')
    await run(`update audit_log set kind = 'device.role' where user_id = $1 and audit_seq = 11`, [userId])
    await run('alter table audit_log enable trigger audit_log_append_only')
    expect(await reportOf()).toMatchObject({ records: 25, fault: { type: 'hash', seq: 11 } })
    await run('delete from audit_log where user_id = $1 and audit_seq between 11 and 12', [userId])
    expect(await reportOf()).toMatchObject({ records: 23, fault: { type: 'gap', seq: 13, expected: 11 } })
    await run('delete from audit_log where user_id = $1', [userId])
  })

  test('AUD-1: no statement changes a record', async () => {
    await expect(run('update audit_log set detail = $1::jsonb', ['{}'])).rejects.toThrow('only ever added to')
    await expect(run('update audit_log set recorded_at = now()')).rejects.toThrow('only ever added to')
  })

  test('AUD-2: what happens often is summed up; what cannot be written now is written later', async () => {
    const { parts, metrics, logged } = createCapturedParts()
    let isAway = false
    const db = {
      ...opened.db,
      transaction: <T>(...args: Parameters<typeof opened.db.transaction<T>>): Promise<T> =>
        isAway ? Promise.reject(new Error('away')) : opened.db.transaction(...args),
    }
    const audit = createServerAudit({ db, log: parts.log, retentionDays: 1 })
    const before = (await chainOf(opened.db, SERVER_CHAIN)).length
    const watched = audit.watch(metrics.gateway)
    for (let i = 0; i < 1000; i++) watched.countHandshake('handshake_failed')
    watched.countHandshake('device_revoked')
    watched.countHandshake('ok')
    watched.countSessionRotation('events')
    watched.countSessionRotation('rekey')
    isAway = true
    await audit.flush()
    expect(logged.some((line) => line.includes('audit.sums.fail'))).toBe(true)
    isAway = false
    watched.countRateLimited('address', 7)
    watched.countHandshake('handshake_failed')
    await audit.close()
    await audit.flush()
    const written = (await chainOf(opened.db, SERVER_CHAIN)).slice(before)
    expect(Object.fromEntries(written.map((record) => [record.kind, record.detail]))).toEqual({
      'handshakes.refuse': { handshake_failed: 1001, device_revoked: 1 },
      'rotations.force': { events: 1 },
      'limits.reach': { address: 7 },
    })
    // The metrics say the same.
    expect(await metrics.read('valise_handshakes_total', { result: 'handshake_failed' })).toBe(1001)
    expect(await metrics.read('valise_rate_limited_total')).toBe(7)
  })

  test('AUD-3: what is older than the retention goes, from the front, and the log says so', async () => {
    const audit = createServerAudit({
      db: opened.db,
      log: createCapturedParts().parts.log,
      retentionDays: 30,
      pruneAtOnce: 5,
    })
    const userId = randomBytes(32)
    const longAgo = Date.now() - 31 * 86_400_000
    const old = chainRecords(
      userId,
      EMPTY_CHAIN,
      longAgo,
      Array(12).fill({ kind: 'epoch.rotate', detail: { epoch: 1 } }),
    )
    const insert = `
      insert into audit_log (user_id, audit_seq, recorded_at, kind, detail, prev_hash, hash)
      values ($1, $2, to_timestamp($3 / 1000.0), $4, $5::jsonb, $6, $7)`
    await opened.db.transaction({ name: 'test' }, async (tx) => {
      for (const { seq, atMs, kind: name, detail, prevHash, hash } of old) {
        await tx.query({ name: '', text: insert }, [userId, seq, atMs, name, JSON.stringify(detail), prevHash, hash])
      }
    })
    await opened.db.transaction({ name: 'test' }, (tx) =>
      appendAudit(tx, userId, [{ kind: 'device.revoke', detail: { log_seq: 5 } }]),
    )
    const serverBefore = (await chainOf(opened.db, SERVER_CHAIN)).length
    await audit.prune()
    await audit.close()
    const left = await chainOf(opened.db, userId)
    expect(left.map(({ seq, kind: name }) => [seq, name])).toEqual([[13, 'device.revoke']])
    expect(findChainFault(left, undefined)).toBeUndefined()
    const said = (await chainOf(opened.db, SERVER_CHAIN)).slice(serverBefore)
    expect(said.map(({ kind: name, detail }) => [name, detail])).toEqual([
      ['audit.prune', { records: 5, days: 30 }],
      ['audit.prune', { records: 5, days: 30 }],
      ['audit.prune', { records: 2, days: 30 }],
    ])
    expect(findChainFault(await chainOf(opened.db, SERVER_CHAIN), EMPTY_CHAIN)).toBeUndefined()
  })
})
