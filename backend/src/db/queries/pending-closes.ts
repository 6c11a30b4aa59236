// The end of an account that a manager asked for without the phrase: it waits seven days by the database's clock, and is
// carried out unless it fell (DEV-14, DEV-15).

import { SERVER_CHAIN } from '../../audit/audit-record.ts'
import { hashForLog } from '../../telemetry/log.ts'
import type { Database, Queryable, Statement } from '../postgres.ts'
import { appendAudit } from './audit.ts'
import { ACCOUNT_DELETION_TIMEOUT_MS, deleteAccount } from './users.ts'

const insert: Statement = {
  name: 'insert_pending_close',
  text: 'insert into pending_closes (user_id, log_seq) values ($1, $2)',
}

const remove: Statement = {
  name: 'delete_pending_close',
  text: 'delete from pending_closes as p where p.user_id = $1',
}

/** The caller must hold the lock on the user. */
export const insertPendingClose = (tx: Queryable, userId: Uint8Array, logSeq: number): Promise<unknown> =>
  tx.query(insert, [userId, logSeq])
export const deletePendingClose = (tx: Queryable, userId: Uint8Array): Promise<unknown> => tx.query(remove, [userId])

const readDue: Statement = {
  name: 'read_due_closes',
  text: `
    select p.user_id
    from pending_closes as p
    where p.asked_at <= clock_timestamp() - make_interval(secs => $1 / 1000.0)
    order by p.asked_at
    limit $2`,
}

const lockUser: Statement = {
  name: 'lock_closing_user',
  text: `
    select u.user_id
    from users as u
    where u.user_id = $1
    for no key update of u`,
}

const isStillDue: Statement = {
  name: 'find_due_close',
  text: `
    select p.user_id
    from pending_closes as p
    where p.user_id = $1 and p.asked_at <= clock_timestamp() - make_interval(secs => $2 / 1000.0)`,
}

/**
 * Ends the account inside a transaction, if its close still waits and is due. The lock comes first, and what waits is
 * looked at after it: an entry that cancels the close may hold the lock meanwhile.
 */
export async function closeIfDue(tx: Queryable, userId: Uint8Array, pendingMs: number): Promise<boolean> {
  await tx.query(lockUser, [userId])
  if ((await tx.query(isStillDue, [userId, pendingMs])).length === 0) return false
  if (!(await deleteAccount(tx, userId))) return false
  await appendAudit(tx, SERVER_CHAIN, [{ kind: 'account.delete', detail: { user: hashForLog(userId) } }])
  return true
}

/** Of the accounts that are to end, at most `limit`: those that did end. Any number of nodes do it at once. One that fails
 * holds up no other. */
export async function closeDueAccounts(
  db: Pick<Database, 'query' | 'transaction'>,
  parts: { readonly pendingMs: number; readonly limit: number; onFailure(error: unknown): void },
): Promise<Uint8Array[]> {
  const { pendingMs, limit, onFailure } = parts
  const due = await db.query<{ user_id: Uint8Array }>(readDue, [pendingMs, limit])
  const closed: Uint8Array[] = []
  for (const { user_id: userId } of due) {
    const options = { name: 'carry_out_close', timeoutMs: ACCOUNT_DELETION_TIMEOUT_MS }
    try {
      if (await db.transaction(options, (tx) => closeIfDue(tx, userId, pendingMs))) closed.push(userId)
    } catch (error) {
      onFailure(error)
    }
  }
  return closed
}
