// What users and addresses have used of the limits of pairing (PROTOCOL F), in the database, so that all nodes count as
// one. A use is taken under the row's lock before what it is for is done: uses at once cannot pass a limit together.

import type { Queryable, Statement } from '../postgres.ts'

export interface UseLimit {
  readonly max: number
  readonly windowMs: number
}

/** Undefined: taken; else the milliseconds until one is free again. */
export type RetryAfterMs = number | undefined

/** Uses are kept for an hour, the longest window: whose address has failed in it waits behind those that have not. */
const HOUR = `interval '1 hour'`
/** `windowS`: the parameter with the seconds of a limit's window. */
const secondsOf = (windowS: string): string => `make_interval(secs => ${windowS})`

/** The uses of a row's list that are no older than `age`. */
const countedIn = (list: string, age: string): string => `
      select used.at
      from unnest(${list}) as used (at)
      where used.at > clock_timestamp() - ${age}`

const takeOpening: Statement = {
  name: 'take_pairing_opening',
  text: `
    insert into pairing_openings as o (user_id, opened_at)
    select u.user_id, array[clock_timestamp()]
    from users as u
    where u.user_id = $1 and u.deleted_at is null
    for share of u
    on conflict (user_id) do update
    set opened_at = array(${countedIn('o.opened_at', secondsOf('$3'))}
    ) || clock_timestamp()
    where cardinality(array(${countedIn('o.opened_at', secondsOf('$3'))}
    )) < $2
    returning o.user_id`,
}

const openingRetry: Statement = {
  name: 'read_pairing_opening_retry',
  text: `
    select date_part('epoch', min(used.at) + make_interval(secs => $2) - clock_timestamp()) * 1000 as retry_after_ms
    from pairing_openings as o
    cross join lateral (${countedIn('o.opened_at', secondsOf('$2'))}
    ) as used
    where o.user_id = $1`,
}

export const takeOpeningOfUser = (db: Queryable, userId: Uint8Array, limit: UseLimit): Promise<RetryAfterMs> =>
  takeUse(db, { take: takeOpening, retry: openingRetry }, [userId], limit)

export type AddressUse = 'opening' | 'failed_join'

const takeAddress: Statement = {
  name: 'take_pairing_address_use',
  text: `
    insert into pairing_addresses as a (kind, address, used_at)
    values ($1, $2, array[clock_timestamp()])
    on conflict (kind, address) do update
    set used_at = array(${countedIn('a.used_at', HOUR)}
    ) || clock_timestamp()
    where cardinality(array(${countedIn('a.used_at', secondsOf('$4'))}
    )) < $3
    returning a.address`,
}

const addressRetry: Statement = {
  name: 'read_pairing_address_retry',
  text: `
    select date_part('epoch', min(used.at) + make_interval(secs => $3) - clock_timestamp()) * 1000 as retry_after_ms
    from pairing_addresses as a
    cross join lateral (${countedIn('a.used_at', secondsOf('$3'))}
    ) as used
    where a.kind = $1 and a.address = $2`,
}

export const takeUseOfAddress = (
  db: Queryable,
  kind: AddressUse,
  address: string,
  limit: UseLimit,
): Promise<RetryAfterMs> => takeUse(db, { take: takeAddress, retry: addressRetry }, [kind, address], limit)

/** The statements take the key of the row, the uses that are allowed, when one is to be taken, and the window. */
async function takeUse(
  db: Queryable,
  { take, retry }: { readonly take: Statement; readonly retry: Statement },
  key: readonly unknown[],
  { max, windowMs }: UseLimit,
): Promise<RetryAfterMs> {
  const windowS = windowMs / 1000
  if ((await db.query(take, [...key, max, windowS])).length > 0) return undefined
  const [row] = await db.query<{ retry_after_ms: number | null }>(retry, [...key, windowS])
  return Math.max(1, Math.ceil(Number(row?.retry_after_ms ?? 0)))
}

const returnAddress: Statement = {
  name: 'return_pairing_address_use',
  text: `
    update pairing_addresses as a
    set used_at = case
      when $3 then array(
        select used.at
        from unnest(a.used_at) with ordinality as used (at, place)
        where used.place is distinct from (
          select min(counted.place)
          from unnest(a.used_at) with ordinality as counted (at, place)
          where counted.at > clock_timestamp() - ${secondsOf('$4')}
        )
        order by used.place
      )
      else a.used_at[1:cardinality(a.used_at) - 1]
    end
    where a.kind = $1 and a.address = $2
    returning a.address`,
}

/**
 * Gives one use back. The newest, when it was taken a moment ago for nothing; the oldest in the limit's window, when what
 * it was taken for went well after all: those that stay are then never older than the uses they stand for, so no limit is
 * passed by it.
 */
export async function returnUseOfAddress(
  db: Queryable,
  kind: AddressUse,
  address: string,
  { windowMs }: Pick<UseLimit, 'windowMs'>,
  which: 'newest' | 'oldest',
): Promise<void> {
  await db.query(returnAddress, [kind, address, which === 'oldest', windowMs / 1000])
}

const countAddresses: Statement = {
  name: 'count_pairing_address_uses',
  text: `
    select a.address, cardinality(array(${countedIn('a.used_at', HOUR)}
    )) as use_count
    from pairing_addresses as a
    where a.kind = $1 and a.address = any(string_to_array($2, ','))`,
}

/** Uses of the past hour, by address; those without any are not in it. */
export async function countUsesOfAddresses(
  db: Queryable,
  kind: AddressUse,
  addresses: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const rows = await db.query<{ address: string; use_count: number }>(countAddresses, [kind, addresses.join(',')])
  return new Map(rows.map(({ address, use_count }) => [address, use_count]))
}

const deleteOpenings: Statement = {
  name: 'delete_old_pairing_openings',
  text: `
    with old as (
      select o.user_id
      from pairing_openings as o
      where not exists (
        select 1
        from unnest(o.opened_at) as used (at)
        where used.at > clock_timestamp() - interval '1 hour'
      )
      for update skip locked
    )
    delete from pairing_openings as o
    using old
    where o.user_id = old.user_id
    returning o.user_id`,
}

const deleteAddresses: Statement = {
  name: 'delete_old_pairing_addresses',
  text: `
    with old as (
      select a.kind, a.address
      from pairing_addresses as a
      where not exists (
        select 1
        from unnest(a.used_at) as used (at)
        where used.at > clock_timestamp() - interval '1 hour'
      )
      for update skip locked
    )
    delete from pairing_addresses as a
    using old
    where a.kind = old.kind and a.address = old.address
    returning a.address`,
}

const deleteSurplus: Statement = {
  name: 'delete_surplus_pairing_addresses',
  text: `
    with surplus as (
      select a.kind, a.address
      from pairing_addresses as a
      order by a.used_at[cardinality(a.used_at)] desc nulls last
      offset $1
      for update skip locked
    )
    delete from pairing_addresses as a
    using surplus
    where a.kind = surplus.kind and a.address = surplus.address
    returning a.address`,
}

/** Beyond these, the addresses whose last use is oldest are forgotten, which forgives them. */
const MAX_ADDRESSES = 100_000

/** What is older than an hour goes. What another node sweeps, or somebody uses at this moment, is left alone. */
export async function deleteOldUses(db: Queryable, maxAddresses = MAX_ADDRESSES): Promise<void> {
  await db.query(deleteOpenings, [])
  await db.query(deleteAddresses, [])
  await db.query(deleteSurplus, [maxAddresses])
}
