// The secrets that the nodes of a server share. The newest follows the one before it; both are valid for a while.

import type { Database, Queryable } from '../database.ts'
import type { Statement } from '../statement.ts'

export interface NodeSecretRow {
  readonly number: number
  /** 32 bytes. */
  readonly secret: Uint8Array
  /** By the database's clock, never negative. */
  readonly ageMs: number
}

const read: Statement = {
  name: 'read_node_secrets',
  text: `
    select
      n.number,
      n.secret,
      greatest(date_part('epoch', clock_timestamp() - n.made_at) * 1000, 0) as age_ms
    from node_secrets as n
    order by n.number desc
    limit 2`,
}

/** The newest first; two at most. */
export async function readNodeSecrets(db: Queryable): Promise<NodeSecretRow[]> {
  const rows = await db.query<{ number: number; secret: Uint8Array; age_ms: number }>(read, [])
  return rows.map(({ number, secret, age_ms: ageMs }) => ({ number, secret: new Uint8Array(secret), ageMs }))
}

// Two first starts at one moment: the second waits for the row of the first, and then leaves it.
const insertFirst: Statement = {
  name: 'insert_first_node_secret',
  text: `
    insert into node_secrets (number, secret)
    select 1, $1
    where not exists (select from node_secrets)
    on conflict (number) do nothing`,
}

/** Without effect when there is one. */
export async function insertFirstNodeSecret(db: Queryable, secret: Uint8Array): Promise<void> {
  await db.query(insertFirst, [secret])
}

const lockAll: Statement = { name: '', text: 'lock table node_secrets in exclusive mode' }

const append: Statement = {
  name: 'append_node_secret',
  text: `
    insert into node_secrets (number, secret, made_at)
    select coalesce(max(n.number), 0) + 1, $1, clock_timestamp()
    from node_secrets as n
    returning number`,
}

const deleteOlder: Statement = {
  name: 'delete_older_node_secrets',
  text: 'delete from node_secrets as n where n.number < $1',
}

export type AddedNodeSecret =
  | { readonly type: 'added'; readonly number: number }
  /** The newest is younger than `minAgeMs`, and its change is not over. */
  | { readonly type: 'too_soon'; readonly ageMs: number }

/** The new one and the newest so far stay; older ones go. */
export function addNodeSecret(db: Database, secret: Uint8Array, minAgeMs: number): Promise<AddedNodeSecret> {
  return db.transaction({ name: 'add_node_secret' }, async (tx) => {
    await tx.query(lockAll, [])
    const [newest, before] = await readNodeSecrets(tx)
    if (newest !== undefined && before !== undefined && newest.ageMs < minAgeMs) {
      return { type: 'too_soon', ageMs: newest.ageMs }
    }
    const [added] = await tx.query<{ number: number }>(append, [secret])
    if (added === undefined) throw new Error('a node secret was not stored')
    if (newest !== undefined) await tx.query(deleteOlder, [newest.number])
    return { type: 'added', number: added.number }
  })
}

/** At once and without the ones before: for a database that was put back, whose secrets somebody else may hold. */
export async function replaceNodeSecrets(tx: Queryable, secret: Uint8Array): Promise<void> {
  await tx.query(lockAll, [])
  const [added] = await tx.query<{ number: number }>(append, [secret])
  if (added !== undefined) await tx.query(deleteOlder, [added.number])
}
