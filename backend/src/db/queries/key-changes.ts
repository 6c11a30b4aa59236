// The signed changes of the server's key, oldest first. They are public, and stay for clients that come back after years.

import type { Queryable, Statement } from '../postgres.ts'

const insert: Statement = {
  name: 'insert_key_change',
  text: `
    insert into server_key_changes (old_fingerprint, change)
    values ($1, $2)
    on conflict (old_fingerprint) do nothing`,
}

/** A key is changed once: a second change of it is not stored. */
export async function insertKeyChange(db: Queryable, oldFingerprint: Uint8Array, change: Uint8Array): Promise<void> {
  await db.query(insert, [oldFingerprint, change])
}

const read: Statement = {
  name: 'read_key_changes',
  text: `
    select k.change
    from server_key_changes as k
    order by k.changed_at
    limit 1024`,
}

/** Not more than clients follow. */
export async function readKeyChanges(db: Queryable): Promise<Uint8Array[]> {
  return (await db.query<{ change: Uint8Array }>(read, [])).map(({ change }) => change)
}
