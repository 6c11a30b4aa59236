// The chains of the audit log, written, pruned, read and deleted at once; and the log epoch, changed twice at once.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type AuditNote,
  type AuditRecord,
  chainRecords,
  EMPTY_CHAIN,
  findChainFault,
  SERVER_CHAIN,
} from '../../src/audit/audit-record.ts'
import { type ChainReport, type ReadAuditPage, verifyAudit } from '../../src/audit/verify-audit.ts'
import type { Queryable } from '../../src/db/postgres.ts'
import { appendAudit, pruneAudit, readAuditPage } from '../../src/db/queries/audit.ts'
import { appendDeviceLogEntry } from '../../src/db/queries/device-log.ts'
import { changeLogEpoch, readLogEpoch } from '../../src/db/queries/server-state.ts'
import { deleteAccount } from '../../src/db/queries/users.ts'
import { addUser, hash, makeEntry } from '../support/open-database.ts'
import {
  asItIs,
  inScene,
  interleave,
  openScene,
  replacing,
  rewriting,
  type Scene,
  toRefused,
  type Wrap,
  withoutConstraint,
} from './scene.ts'

const DAYS = 30

export function describeAudit(): void {
  describe('audit log and log epoch', () => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    const seqsOf = async (where: Scene, userId: Uint8Array): Promise<number[]> => {
      const sql = 'select audit_seq as seq from audit_log where user_id = $1 order by audit_seq, hash'
      return (await where.run<{ seq: number }>(sql, [userId])).map(({ seq }) => seq)
    }
    const note = (epoch: number): AuditNote => ({ kind: 'epoch.rotate', detail: { epoch } })
    const withoutLock: Wrap = (tx) => replacing(tx, 'lock_audit_chain', async () => [])

    const writeTwice = async (where: Scene, wrap = asItIs) => {
      const userId = hash()
      const write = (epoch: number) => (tx: Queryable) => appendAudit(wrap(tx), userId, [note(epoch)])
      const { second, met } = await interleave(where, { first: write(1), second: write(2) })
      const records = await readAuditPage(where.db, { userId, seq: 0 }, 2)
      return { met, second, seqs: await seqsOf(where, userId), fault: findChainFault(records, EMPTY_CHAIN) }
    }

    test('ISO-46, AUD-1: of two records written at once the second continues the first', async () => {
      expect(await writeTwice(scene)).toEqual({ met: 'waits', second: undefined, seqs: [1, 2], fault: undefined })
    })

    test('ISO-46: without the lock on the chain its key is what is left, and what is noted fails', async () => {
      const refused = { refused: '23505', constraint: 'audit_log_pkey' }
      expect(await writeTwice(scene, withoutLock)).toMatchObject({ met: 'waits', second: refused, seqs: [1] })
    })

    test('ISO-46: without the lock and the key the chain forks', async () => {
      const changes = [withoutConstraint('audit_log', 'audit_log_pkey')]
      const outcome = await inScene(changes, (mutated) => writeTwice(mutated, withoutLock))
      expect(outcome).toMatchObject({ met: 'done', seqs: [1, 1], fault: { type: 'gap' } })
    })

    /** A chain whose records are all too old. */
    const makeOldChain = async (where: Scene, count: number, userId = hash()): Promise<Uint8Array> => {
      const longAgo = Date.now() - (DAYS + 1) * 86_400_000
      const sql = `
        insert into audit_log (user_id, audit_seq, recorded_at, kind, detail, prev_hash, hash)
        values ($1, $2, to_timestamp($3 / 1000.0), $4, $5::jsonb, $6, $7)`
      for (const record of chainRecords(userId, EMPTY_CHAIN, longAgo, Array(count).fill(note(1)))) {
        const { seq, atMs, kind, detail, prevHash } = record
        await where.run(sql, [userId, seq, atMs, kind, JSON.stringify(detail), prevHash, record.hash])
      }
      return userId
    }

    /** Two nodes prune; `end` says how the first one's transaction ends. */
    const pruneTwice = (end: 'commit' | 'rollback', wrap = asItIs) =>
      inScene([], async (where) => {
        const userId = await makeOldChain(where, 5)
        const prune = (tx: Queryable) => pruneAudit(wrap(tx), DAYS, 2)
        const { first, second, met } = await interleave(where, { first: prune, second: prune, end })
        return { met, counts: [first, second], left: await seqsOf(where, userId) }
      })

    test('ISO-47, AUD-3: two prunes at once follow each other, and what is left of a chain has no hole', async () => {
      expect(await pruneTwice('commit')).toEqual({ met: 'waits', counts: [2, 2], left: [5] })
      expect(await pruneTwice('rollback')).toEqual({ met: 'waits', counts: [2, 2], left: [3, 4, 5] })
    })

    test('ISO-47: without the lock before it looks, the second takes what lies behind, and leaves a hole', async () => {
      const lockingLate: Wrap = (tx) => {
        let locks = 0
        return replacing(tx, 'lock_audit_chain', async (asked, values) =>
          locks++ === 0 ? [] : tx.query(asked, values),
        )
      }
      expect(await pruneTwice('rollback', lockingLate)).toMatchObject({ counts: [2, 2], left: [1, 2, 5] })
    })

    /** A deletion has the records of its user, and notes in the server's chain at its end; a prune does both at once. */
    const pruneBesideDeletion = (wrap = asItIs) =>
      inScene([], async (where) => {
        const { userId } = (await addUser(where.db)).genesis
        await where.run('delete from audit_log')
        await makeOldChain(where, 2, userId)
        await where.left.run('begin')
        await deleteAccount(where.left, userId)
        await where.right.run('begin')
        const pruning = pruneAudit(wrap(where.right), DAYS, 10).catch(toRefused)
        const met = await where.reach(where.right, pruning)
        if (met === 'done') await where.right.run('commit')
        const closing = appendAudit(where.left, SERVER_CHAIN, [note(1)]).catch(toRefused)
        const answers = await Promise.all([closing, pruning])
        await Promise.all([where.left.run('commit'), where.right.run('commit')])
        return { met, answers }
      })

    test('ISO-48, AUD-3: a prune leaves the records of an account that is being deleted to the deletion', async () => {
      expect(await pruneBesideDeletion()).toEqual({ met: 'done', answers: [undefined, 0] })
    })

    test('ISO-48: without skipping what is locked the two wait for each other', async () => {
      const wrap: Wrap = (tx) => rewriting(tx, 'prune_audit_log', 'for update skip locked', 'for update')
      const { met, answers } = await pruneBesideDeletion(wrap)
      expect(met).toBe('waits')
      expect(answers).toContainEqual({ refused: '40P01' })
    })

    const recordBesideDeletion = async (remove: (tx: Queryable, userId: Uint8Array) => Promise<unknown>) => {
      const { genesis } = await addUser(scene.db, 2)
      const { userId } = genesis
      const { met } = await interleave(scene, {
        first: (tx) => appendDeviceLogEntry(tx, makeEntry(genesis, { epoch: { n: 2, links: [] } })),
        second: (tx) => remove(tx, userId),
      })
      return { met, seqs: await seqsOf(scene, userId) }
    }

    test('ISO-49, AUD-3: a deletion waits for what is being noted of its user, and leaves none of it', async () => {
      expect(await recordBesideDeletion(deleteAccount)).toEqual({ met: 'waits', seqs: [] })
    })

    test('ISO-49: a deletion that marks the user last, not first, leaves a record behind', async () => {
      const markLast = async (tx: Queryable, userId: Uint8Array): Promise<void> => {
        let mark = async (): Promise<unknown> => undefined
        const late = replacing(tx, 'mark_user_deleted', async (asked, values) => {
          mark = () => tx.query(asked, values)
          return [{}]
        })
        await deleteAccount(late, userId)
        await mark()
      }
      expect(await recordBesideDeletion(markLast)).toMatchObject({ seqs: [2] })
    })

    /** The log is read in pages of three on one connection while another prunes five records, after the first page. */
    const verifyBesidePrune = (looksAgain: (readPage: ReadAuditPage) => ReadAuditPage = (readPage) => readPage) =>
      inScene([], async (where) => {
        const userId = await makeOldChain(where, 9)
        let pages = 0
        const readPage = looksAgain(async (after, limit) => {
          if (++pages === 2) await where.db.transaction({ name: 'test' }, (tx) => pruneAudit(tx, DAYS, 5))
          return readAuditPage(where.left, after, limit)
        })
        const reports: ChainReport[] = []
        for await (const report of verifyAudit(readPage, 3)) reports.push(report)
        return reports.filter((report) => Buffer.from(report.userId).equals(userId))
      })

    test('ISO-50, AUD-1: records that go by age while the log is verified are no fault', async () => {
      expect(await verifyBesidePrune()).toMatchObject([{ firstSeq: 6, head: { seq: 9 }, fault: undefined }])
    })

    test('ISO-50: when it is not looked whether the record before went, too, they are told as a gap', async () => {
      const remembering = (readPage: ReadAuditPage): ReadAuditPage => {
        const seen: AuditRecord[] = []
        return async (after, limit) => {
          if (limit === 1) return seen.filter(({ seq }) => seq === after.seq + 1)
          const page = await readPage(after, limit)
          seen.push(...page)
          return page
        }
      }
      expect(await verifyBesidePrune(remembering)).toMatchObject([{ fault: { type: 'gap', seq: 6, expected: 4 } }])
    })

    const changeTwice = async (wrap = asItIs) => {
      const before = (await readLogEpoch(scene.db)).id
      const change = (tx: Queryable) => changeLogEpoch(wrap(tx))
      const { first, second, met } = await interleave(scene, { first: change, second: change })
      const epochs = [before, first, second, (await readLogEpoch(scene.db)).id].map((epoch) =>
        'refused' in epoch ? epoch.refused : Buffer.from(epoch).toString('hex'),
      )
      return { met, different: new Set(epochs).size, isLast: epochs[2] === epochs[3] }
    }

    test('ISO-51, RET-5: two restored backups said at once are two epochs, and the second stays', async () => {
      expect(await changeTwice()).toEqual({ met: 'waits', different: 3, isLast: true })
    })

    test('ISO-51: an epoch that follows from the one before the wait is the same twice', async () => {
      const following = '(select substring(sha256(x.log_epoch) for 16) from server_state as x)'
      const wrap: Wrap = (tx) => rewriting(tx, 'change_log_epoch', 'uuid_send(gen_random_uuid())', following)
      expect(await changeTwice(wrap)).toEqual({ met: 'waits', different: 2, isLast: true })
    })
  })
}
