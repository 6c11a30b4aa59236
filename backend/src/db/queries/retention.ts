// What goes from the event log because it is too old or too much: the bytes of a user's oldest events. Row and chain stay,
// so order and chains hold. Each call is one small transaction that waits for nothing and takes no lock a publisher
// needs. The bytes a user has are counted behind the log: those of events up to `counted_through`.

import type { Database, Queryable, Statement } from '../postgres.ts'
import { formatByteaArray } from '../values.ts'
import { creditDisplacement } from './displacement.ts'

// A row that another node counts or prunes is left to it.
const lockUncounted: Statement = {
  name: 'lock_uncounted_storage',
  text: `
    select s.user_id
    from user_storage as s
    where s.user_id = any ($1::bytea[])
    order by s.user_id
    for update skip locked`,
}

const countStatement: Statement = {
  name: 'count_stored_bytes',
  text: `
    update user_storage as s
    set
      counted_through = counted.through,
      stored_bytes = s.stored_bytes + counted.bytes,
      oldest_stored_at = coalesce(s.oldest_stored_at, counted.oldest)
    from (
      select k.user_id, seen.through, seen.bytes, seen.oldest, seen.events
      from user_storage as k
      cross join lateral (
        select
          max(next.user_seq) as through,
          coalesce(sum(next.size), 0)::bigint as bytes,
          (array_agg(next.stored_at order by next.user_seq))[1] as oldest,
          count(*)::integer as events
        from (
          select e.user_seq, e.stored_at, octet_length(e.wire) as size
          from events as e
          where e.user_id = k.user_id and e.user_seq > k.counted_through
          order by e.user_seq
          limit $2
        ) as next
      ) as seen
      where k.user_id = any ($1::bytea[]) and seen.through is not null
    ) as counted
    where s.user_id = counted.user_id and s.user_id = any ($1::bytea[])
    returning s.user_id, counted.events`,
}

/** Counts at most `maxEvents` further events of each user. Resolves to the users who may have more. */
export function countStoredBytes(
  db: Pick<Database, 'transaction'>,
  userIds: readonly Uint8Array[],
  maxEvents: number,
): Promise<Uint8Array[]> {
  if (userIds.length === 0) return Promise.resolve([])
  return db.transaction({ name: 'count_stored_bytes' }, async (tx) => {
    const locked = await tx.query<{ user_id: Uint8Array }>(lockUncounted, [formatByteaArray(userIds)])
    if (locked.length === 0) return []
    const ids = formatByteaArray(locked.map((row) => row.user_id))
    const counted = await tx.query<{ user_id: Uint8Array; events: number }>(countStatement, [ids, maxEvents])
    return counted.filter((row) => row.events === maxEvents).map((row) => row.user_id)
  })
}

const findUncounted: Statement = {
  name: 'find_uncounted_storage',
  text: `
    with looked_at as (
      select s.user_id, s.counted_through
      from user_storage as s
      where s.user_id > $1
      order by s.user_id
      limit $2
    )
    select l.user_id, u.last_user_seq > l.counted_through as is_uncounted
    from looked_at as l
    join users as u on u.user_id = l.user_id
    order by l.user_id`,
}

/** Looks at the `maxUsers` users after an id, in the order of ids, for those with events that nobody counted. */
export async function findUncountedUsers(
  db: Queryable,
  afterUserId: Uint8Array,
  maxUsers: number,
): Promise<{ readonly userIds: Uint8Array[]; readonly lastUserId: Uint8Array | undefined }> {
  const rows = await db.query<{ user_id: Uint8Array; is_uncounted: boolean }>(findUncounted, [afterUserId, maxUsers])
  return {
    userIds: rows.filter((row) => row.is_uncounted).map((row) => row.user_id),
    lastUserId: rows.at(-1)?.user_id,
  }
}

const lockOverQuota: Statement = {
  name: 'lock_storage_over_quota',
  text: `
    select s.user_id, s.pruned_through, s.counted_through, s.stored_bytes
    from user_storage as s
    where s.stored_bytes > $1
    order by s.stored_bytes desc
    limit 1
    for update skip locked`,
}

const lockOverAge: Statement = {
  name: 'lock_storage_over_age',
  text: `
    select s.user_id, s.pruned_through, s.counted_through, s.stored_bytes
    from user_storage as s
    where s.oldest_stored_at < to_timestamp($1 / 1000.0)
    order by s.oldest_stored_at
    limit 1
    for update skip locked`,
}

// What goes is a prefix of what is left: `goes` is never true after it was false. A row that an expiry holds is left to
// it, which then discounts it, too. That only counted events go is looked at behind the limit: a range with two ends looks
// short to a planner without statistics, so it fetched all of it for each batch (0.6 s of a million events).
const prune: Statement = {
  name: 'prune_events',
  text: `
    with
    candidate as (
      select e.user_seq, e.device_id, e.stored_at, coalesce(octet_length(e.wire), 0) as size
      from events as e
      where e.user_id = $1 and e.user_seq > $2
      order by e.user_seq
      limit $4::integer + 1
    ),
    judged as (
      select
        c.*,
        row_number() over before <= $4::integer
          and coalesce(
            bool_and(c.stored_at < to_timestamp($6 / 1000.0)) over before,
            sum(c.size) over before - c.size < $5::bigint
          ) as goes
      from candidate as c
      where c.user_seq <= $3
      window before as (order by c.user_seq)
    ),
    taken as (
      select e.user_seq
      from judged as j
      join events as e on e.user_id = $1 and e.user_seq = j.user_seq
      where j.goes and e.wire is not null
      for update of e skip locked
    ),
    emptied as (
      update events as e
      set
        inner_hash = event_inner_hash(e.wire),
        ttl_s = event_ttl_s(e.wire),
        flags = event_flags(e.wire),
        wire = null
      from taken
      where e.user_id = $1 and e.user_seq = taken.user_seq
      returning e.user_seq
    ),
    by_device as (
      select j.device_id, sum(j.size)::bigint as bytes
      from emptied
      join judged as j on j.user_seq = emptied.user_seq
      group by j.device_id
    )
    select
      (select string_agg(d.device_id, ''::bytea order by d.device_id) from by_device as d) as device_ids,
      (select array_agg(d.bytes order by d.device_id) from by_device as d) as device_bytes,
      count(*)::integer as events,
      coalesce(sum(j.size), 0)::bigint as bytes,
      (select max(g.user_seq) from judged as g where g.goes) as pruned_through,
      (select date_part('epoch', k.stored_at) * 1000 from judged as k where not k.goes order by k.user_seq limit 1) as oldest_ms
    from emptied
    join judged as j on j.user_seq = emptied.user_seq`,
}

// With nothing left up to `counted_through`, nothing is stored.
const settle: Statement = {
  name: 'settle_storage',
  text: `
    update user_storage as s
    set
      pruned_through = coalesce($2::bigint, s.pruned_through),
      stored_bytes = case when $2::bigint is null then 0 else greatest(s.stored_bytes - $3::bigint, 0) end,
      oldest_stored_at = to_timestamp($4 / 1000.0),
      freed_bytes = s.freed_bytes + $3::bigint,
      pruned_bytes = s.pruned_bytes + $5::bigint
    where s.user_id = $1`,
}

interface StorageRow {
  readonly user_id: Uint8Array
  readonly pruned_through: number
  readonly counted_through: number
  readonly stored_bytes: number
}

interface PruneRow {
  /** 16 bytes a device whose events went; null as the sums when none did. */
  readonly device_ids: Uint8Array | null
  readonly device_bytes: number[] | null
  readonly events: number
  readonly bytes: number
  readonly pruned_through: number | null
  readonly oldest_ms: number | null
}

export type PruneLimit =
  | { readonly reason: 'quota'; readonly maxBytes: number }
  /** Unix milliseconds: what was stored before goes. */
  | { readonly reason: 'age'; readonly storedBeforeMs: number }

/**
 * Takes the bytes of at most `maxEvents` of the oldest events of one user who is over the limit, the furthest first.
 * Resolves to how many went; undefined when nobody is over it whom no other node is pruning.
 */
export function pruneEvents(
  db: Pick<Database, 'transaction'>,
  limit: PruneLimit,
  maxEvents: number,
): Promise<{ readonly events: number } | undefined> {
  return db.transaction({ name: 'prune_events' }, async (tx) => {
    const [user] =
      limit.reason === 'quota'
        ? await tx.query<StorageRow>(lockOverQuota, [limit.maxBytes])
        : await tx.query<StorageRow>(lockOverAge, [limit.storedBeforeMs])
    if (user === undefined) return undefined
    const [row] = await tx.query<PruneRow>(prune, [
      user.user_id,
      user.pruned_through,
      user.counted_through,
      maxEvents,
      limit.reason === 'quota' ? user.stored_bytes - limit.maxBytes : null,
      limit.reason === 'age' ? limit.storedBeforeMs : null,
    ])
    if (row === undefined) throw new Error('prune_events answered nothing')
    const displacedBytes = limit.reason === 'quota' ? row.bytes : 0
    await tx.query(settle, [user.user_id, row.pruned_through, row.bytes, row.oldest_ms, displacedBytes])
    if (limit.reason === 'quota' && row.device_ids !== null && row.device_bytes !== null) {
      await creditDisplacement(tx, user.user_id, row.device_ids, row.device_bytes)
    }
    return { events: row.events }
  })
}
