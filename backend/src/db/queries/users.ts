// Users: where their log and device log stand, and the end of an account.

import { toHex } from '@valise/protocol'
import type { Queryable, Statement } from '../postgres.ts'
import { formatByteaArray } from '../values.ts'

export interface User {
  readonly lastUserSeq: number
  readonly logSeq: number
  readonly logHead: Uint8Array
  readonly keyEpoch: number
  /** The entry that started the newest epoch: events sealed under an older seq are stale. */
  readonly epochLogSeq: number
  /** Unix milliseconds; undefined while the account lives. */
  readonly deletedAtMs: number | undefined
}

const find: Statement = {
  name: 'find_user',
  text: `
    select
      u.last_user_seq,
      u.log_seq,
      u.log_head,
      u.key_epoch,
      u.epoch_log_seq,
      date_part('epoch', u.deleted_at) * 1000 as deleted_at_ms
    from users as u
    where u.user_id = $1`,
}

interface UserRow {
  readonly last_user_seq: number
  readonly log_seq: number
  readonly log_head: Uint8Array
  readonly key_epoch: number
  readonly epoch_log_seq: number
  readonly deleted_at_ms: number | null
}

export async function findUser(db: Queryable, userId: Uint8Array): Promise<User | undefined> {
  const [row] = await db.query<UserRow>(find, [userId])
  if (row === undefined) return undefined
  return {
    lastUserSeq: row.last_user_seq,
    logSeq: row.log_seq,
    logHead: row.log_head,
    keyEpoch: row.key_epoch,
    epochLogSeq: row.epoch_log_seq,
    deletedAtMs: row.deleted_at_ms ?? undefined,
  }
}

const readLogSeqsStatement: Statement = {
  name: 'read_log_seqs',
  text: `
    select u.user_id, u.log_seq
    from users as u
    where u.user_id = any ($1::bytea[])`,
}

/** The head of the device log by user id in hexadecimal; unknown users are left out. */
export async function readLogSeqs(db: Queryable, userIds: readonly Uint8Array[]): Promise<Map<string, number>> {
  const rows = await db.query<{ user_id: Uint8Array; log_seq: number }>(readLogSeqsStatement, [
    formatByteaArray(userIds),
  ])
  return new Map(rows.map((row) => [toHex(row.user_id), row.log_seq]))
}

/**
 * Of each statement that ends an account: one deletes all of its events, and a million of them may take longer than any
 * other statement is given.
 */
export const ACCOUNT_DELETION_TIMEOUT_MS = 10 * 60_000

const markDeleted: Statement = {
  name: 'mark_user_deleted',
  text: `
    update users as u
    set
      deleted_at = now(),
      stream_count = 0,
      published_bytes = 0,
      seen_freed_bytes = 0,
      pushed_out_bytes = 0
    where u.user_id = $1 and u.deleted_at is null
    returning u.user_id`,
}

// A device of a deleted account is a revoked one: what waits for its row (a session, a cursor) looks at the row again, and
// at the users row it does not. They are locked in the order of their keys, as by whoever else locks several.
const endDevices: Statement = {
  name: 'end_devices_of_user',
  text: `
    with mine as (
      select d.user_id, d.device_id
      from devices as d
      where d.user_id = $1
      order by d.user_id, d.device_id
      for no key update of d
    )
    update devices as d
    set
      cursor = 0,
      last_seen_at = null,
      revoked_at = coalesce(d.revoked_at, now()),
      revoked_log_seq = coalesce(d.revoked_log_seq, u.log_seq)
    from mine
    join users as u on u.user_id = mine.user_id
    where d.user_id = $1 and d.user_id = mine.user_id and d.device_id = mine.device_id`,
}

const deletions: readonly Statement[] = [
  { name: 'delete_events_of_user', text: 'delete from events as e where e.user_id = $1' },
  { name: 'delete_storage_of_user', text: 'delete from user_storage as s where s.user_id = $1' },
  // After what a prune locks first.
  { name: 'delete_displacements_of_user', text: 'delete from displacements as x where x.user_id = $1' },
  { name: 'delete_streams_of_user', text: 'delete from streams as s where s.user_id = $1' },
  { name: 'delete_envelopes_of_user', text: 'delete from key_envelopes as k where k.user_id = $1' },
  { name: 'delete_links_of_user', text: 'delete from key_links as k where k.user_id = $1' },
  { name: 'delete_pending_close_of_user', text: 'delete from pending_closes as p where p.user_id = $1' },
  { name: 'delete_epochs_of_user', text: 'delete from key_epochs as k where k.user_id = $1' },
  { name: 'delete_pairing_openings_of_user', text: 'delete from pairing_openings as o where o.user_id = $1' },
  { name: 'delete_device_log_of_user', text: 'delete from device_log as l where l.user_id = $1' },
  { name: 'delete_audit_log_of_user', text: 'delete from audit_log as a where a.user_id = $1' },
]

/**
 * Removes what the user stored, inside a transaction. What stays is the tombstone: the users row, so the account cannot
 * come back, and the ids and public keys of its devices, all revoked, so each can prove itself and be told. False when
 * there is no such account.
 */
export async function deleteAccount(tx: Queryable, userId: Uint8Array): Promise<boolean> {
  const marked = await tx.query(markDeleted, [userId])
  if (marked.length === 0) return false
  for (const deletion of deletions) await tx.query(deletion, [userId])
  await tx.query(endDevices, [userId])
  return true
}
