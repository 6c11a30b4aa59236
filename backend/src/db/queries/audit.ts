// The audit log as rows. They are only ever added, and taken away from the front when they are old; a trigger refuses every
// change. A chain grows under a lock of its own, held to the end of the transaction, so that no two records follow one.

import {
  type AuditKind,
  type AuditNote,
  type AuditRecord,
  canonicalDetail,
  chainRecords,
  EMPTY_CHAIN,
  SERVER_CHAIN,
} from '../../audit/audit-record.ts'
import type { Queryable, Statement } from '../postgres.ts'

/** The first of the two numbers of the advisory lock: the bytes of "audt". */
const CHAIN_LOCKS = 0x61_75_64_74

const lockChain: Statement = { name: 'lock_audit_chain', text: 'select pg_advisory_xact_lock($1, $2)' }

const readHead: Statement = {
  name: 'read_audit_head',
  text: `
    select
      (date_part('epoch', date_trunc('milliseconds', clock_timestamp())) * 1000)::bigint as now_ms,
      coalesce(newest.audit_seq, 0) as seq,
      coalesce((date_part('epoch', newest.recorded_at) * 1000)::bigint, 0) as at_ms,
      newest.hash
    from (select 1) as always
    left join lateral (
      select a.audit_seq, a.recorded_at, a.hash
      from audit_log as a
      where a.user_id = $1
      order by a.audit_seq desc
      limit 1
    ) as newest on true`,
}

const insert: Statement = {
  name: 'insert_audit_record',
  text: `
    insert into audit_log (user_id, audit_seq, recorded_at, kind, detail, prev_hash, hash)
    values ($1, $2, to_timestamp($3 / 1000.0), $4, $5::jsonb, $6, $7)`,
}

interface HeadRow {
  readonly now_ms: number
  readonly seq: number
  readonly at_ms: number
  /** Null when the chain is empty. */
  readonly hash: Uint8Array | null
}

/** To the end of the transaction. Chains that begin alike share a lock, which costs a wait and nothing else. */
async function lockChainOf(tx: Queryable, userId: Uint8Array): Promise<void> {
  await tx.query(lockChain, [CHAIN_LOCKS, Buffer.from(userId).readInt32BE(0)])
}

/** Adds to a chain, inside a transaction. */
export async function appendAudit(tx: Queryable, userId: Uint8Array, notes: readonly AuditNote[]): Promise<void> {
  if (notes.length === 0) return
  await lockChainOf(tx, userId)
  const [row] = await tx.query<HeadRow>(readHead, [userId])
  if (row === undefined) throw new Error('the head of the audit log cannot be read')
  const head = row.hash === null ? EMPTY_CHAIN : { seq: row.seq, atMs: row.at_ms, hash: row.hash }
  for (const record of chainRecords(userId, head, row.now_ms, notes)) {
    const { seq, atMs, kind, detail, prevHash, hash } = record
    await tx.query(insert, [userId, seq, atMs, kind, canonicalDetail(detail), prevHash, hash])
  }
}

interface AuditRow {
  readonly user_id: Uint8Array
  readonly seq: number
  readonly at_ms: number
  readonly kind: AuditKind
  readonly detail: string
  readonly prev_hash: Uint8Array
  readonly hash: Uint8Array
}

const toRecord = (row: AuditRow): AuditRecord => ({
  userId: row.user_id,
  seq: row.seq,
  atMs: row.at_ms,
  kind: row.kind,
  detail: JSON.parse(row.detail),
  prevHash: row.prev_hash,
  hash: row.hash,
})

const readPage: Statement = {
  name: 'read_audit_page',
  text: `
    select
      a.user_id,
      a.audit_seq as seq,
      (date_part('epoch', a.recorded_at) * 1000)::bigint as at_ms,
      a.kind,
      a.detail::text as detail,
      a.prev_hash,
      a.hash
    from audit_log as a
    where (a.user_id, a.audit_seq) > ($1, $2)
    order by a.user_id, a.audit_seq
    limit $3`,
}

/** All chains one after another, after a place: the server's own first. */
export async function readAuditPage(
  db: Queryable,
  after: { readonly userId: Uint8Array; readonly seq: number },
  limit: number,
): Promise<AuditRecord[]> {
  return (await db.query<AuditRow>(readPage, [after.userId, after.seq, limit])).map(toRecord)
}

const readNewest: Statement = {
  name: 'read_newest_audit_records',
  text: `
    select
      a.user_id,
      a.audit_seq as seq,
      (date_part('epoch', a.recorded_at) * 1000)::bigint as at_ms,
      a.kind,
      a.detail::text as detail,
      a.prev_hash,
      a.hash
    from audit_log as a
    order by a.recorded_at desc, a.user_id, a.audit_seq desc
    limit $1`,
}

/** The newest records of all chains, the newest last. */
export async function readNewestAudit(db: Queryable, limit: number): Promise<AuditRecord[]> {
  return (await db.query<AuditRow>(readNewest, [limit])).map(toRecord).reverse()
}

const prune: Statement = {
  name: 'prune_audit_log',
  text: `
    with old as (
      select a.user_id, a.audit_seq
      from audit_log as a
      where a.recorded_at < now() - make_interval(days => $1)
      order by a.recorded_at, a.user_id, a.audit_seq
      limit $2
      for update skip locked
    )
    delete from audit_log as a
    using old
    where a.user_id = old.user_id and a.audit_seq = old.audit_seq
    returning a.audit_seq`,
}

/** Takes away at most `maxRecords` that are older than so many days, and says so in the server's chain. How many. */
export async function pruneAudit(tx: Queryable, days: number, maxRecords: number): Promise<number> {
  // One after another: of two at once the second would take what lies behind the first one's records, and leave a hole
  // until the first commits, or for longer when it does not.
  await lockChainOf(tx, SERVER_CHAIN)
  const count = (await tx.query(prune, [days, maxRecords])).length
  if (count > 0) await appendAudit(tx, SERVER_CHAIN, [{ kind: 'audit.prune', detail: { records: count, days } }])
  return count
}
