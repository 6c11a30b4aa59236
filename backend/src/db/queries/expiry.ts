// What goes from the event log because its lifetime ended: the bytes of events. Row and chain stay, and so
// do the parts of the leaf, computed at that moment. Each call is one small
// transaction that waits for no event's row and takes no lock a publisher needs.

import type { Database, Queryable, Statement } from '../postgres.ts'
import { formatByteaArray, formatIntegers } from '../values.ts'

const expire: Statement = {
  name: 'expire_events',
  text: `
    with expired as (
      select e.user_id, e.user_seq, octet_length(e.wire) as size
      from events as e
      where e.expires_at <= coalesce(to_timestamp($1 / 1000.0), now()) and e.wire is not null
      order by e.expires_at
      limit $2
      for update skip locked
    )
    update events as e
    set
      inner_hash = event_inner_hash(e.wire),
      ttl_s = event_ttl_s(e.wire),
      flags = event_flags(e.wire),
      wire = null
    from expired
    where e.user_id = expired.user_id and e.user_seq = expired.user_seq
    returning e.user_id, e.user_seq, expired.size`,
}

const lockStorage: Statement = {
  name: 'lock_storage',
  text: `
    select s.user_id
    from user_storage as s
    where s.user_id = any ($1::bytea[])
    order by s.user_id
    for update`,
}

const discount: Statement = {
  name: 'discount_expired',
  text: `
    update user_storage as s
    set
      stored_bytes = greatest(s.stored_bytes - freed.counted_bytes, 0),
      freed_bytes = s.freed_bytes + freed.bytes
    from (
      select
        k.user_id,
        sum(gone.size)::bigint as bytes,
        coalesce(sum(gone.size) filter (where gone.user_seq <= k.counted_through), 0)::bigint as counted_bytes
      from unnest($1::bytea[], $2::bigint[], $3::bigint[]) as gone (user_id, user_seq, size)
      join user_storage as k on k.user_id = gone.user_id
      where k.user_id = any ($1::bytea[])
      group by k.user_id
    ) as freed
    where s.user_id = freed.user_id and s.user_id = any ($1::bytea[])`,
}

interface ExpiredRow {
  readonly user_id: Uint8Array
  readonly user_seq: number
  readonly size: number
}

/**
 * Forgets the bytes of at most `maxEvents` events whose lifetime ended. Returns how many. Of two nodes at once each takes
 * others. `nowMs`: Unix milliseconds; default: the database's clock.
 */
export function expireEvents(
  db: Pick<Database, 'transaction'>,
  { maxEvents, nowMs }: { readonly maxEvents: number; readonly nowMs?: number | undefined },
): Promise<number> {
  return db.transaction({ name: 'expire_events' }, async (tx) => {
    const rows = await tx.query<ExpiredRow>(expire, [nowMs ?? null, maxEvents])
    if (rows.length === 0) return 0
    const userIds = formatByteaArray(rows.map((row) => row.user_id))
    // In one order for whoever takes several; what is counted is read after the locks are given.
    await tx.query(lockStorage, [userIds])
    const userSeqs = formatIntegers(rows.map((row) => row.user_seq))
    await tx.query(discount, [userIds, userSeqs, formatIntegers(rows.map((row) => row.size))])
    return rows.length
  })
}

const readNextExpiry: Statement = {
  name: 'read_next_expiry',
  text: `
    select date_part('epoch', min(e.expires_at) - coalesce(to_timestamp($1 / 1000.0), now())) * 1000 as due_in_ms
    from events as e
    where e.expires_at is not null and e.wire is not null`,
}

/** In how many milliseconds the next lifetime ends, at most 0 when one has ended; undefined when none is set. */
export async function readMsToNextExpiry(db: Queryable, nowMs?: number): Promise<number | undefined> {
  const [row] = await db.query<{ due_in_ms: number | null }>(readNextExpiry, [nowMs ?? null])
  return row?.due_in_ms ?? undefined
}
