// Invitations: made by the operator, used up by the transaction that stores a new user. The table holds hashes only, so
// whoever reads it can use none of them.

import type { Queryable, Statement } from '../postgres.ts'
import { formatByteaArray } from '../values.ts'

const insert: Statement = {
  name: 'insert_invitations',
  text: `
    insert into invitations (invitation_hash, expires_at)
    select given.invitation_hash, now() + $2 * interval '1 millisecond'
    from unnest($1::bytea[]) as given (invitation_hash)
    returning (date_part('epoch', expires_at) * 1000)::bigint as expires_at_ms`,
}

/** They expire together, by the database's clock: when, in Unix milliseconds. */
export async function insertInvitations(
  db: Queryable,
  hashes: readonly Uint8Array[],
  lifetimeMs: number,
): Promise<number> {
  const [row] = await db.query<{ expires_at_ms: number }>(insert, [formatByteaArray(hashes), lifetimeMs])
  if (row === undefined) throw new Error('no invitation was stored')
  return row.expires_at_ms
}

const take: Statement = {
  name: 'use_invitation',
  text: `
    delete from invitations as i
    where i.invitation_hash = $1 and i.expires_at > now()
    returning i.invitation_hash`,
}

/**
 * Inside the transaction that makes the user: of two that use it at once the second waits for the first, and finds it
 * gone unless the first rolls back. False when it is unknown, used or expired.
 */
export async function useInvitation(tx: Queryable, hash: Uint8Array): Promise<boolean> {
  return (await tx.query(take, [hash])).length > 0
}

const deleteExpired: Statement = {
  name: 'delete_expired_invitations',
  text: `
    with expired as (
      select i.invitation_hash
      from invitations as i
      where i.expires_at <= now()
      for update skip locked
    )
    delete from invitations as i
    using expired
    where i.invitation_hash = expired.invitation_hash
    returning i.invitation_hash`,
}

/** Returns how many went. Those that another node is deleting, or a registration has used, are left to it. */
export async function deleteExpiredInvitations(db: Queryable): Promise<number> {
  return (await db.query(deleteExpired, [])).length
}
