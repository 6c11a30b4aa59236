// How much each device pushes out of its user's quota (decision 0042). `users` counts the bytes published, in the row that
// every append updates anyway; `user_storage` counts those that went. Only a user at the quota costs more: each byte over it
// is charged to the device that published it, by the hour, and a prune gives back what it takes of that device itself.
// Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

// `seen_freed_bytes` is never above the truth less what is yet to be charged, so comparing it with the quota never misses
// a byte. `pushed_out_bytes` is what the quota has pushed out or will have to, as far as it was charged.
const userColumns = `
alter table users
  add column published_bytes bigint not null default 0,
  add column seen_freed_bytes bigint not null default 0,
  add column pushed_out_bytes bigint not null default 0`

const storageColumns = `
alter table user_storage
  add column freed_bytes bigint not null default 0,
  add column pruned_bytes bigint not null default 0`

const displacements = `
create table displacements (
  user_id bytea not null,
  owner_id bytea not null,
  device_id bytea not null,
  hour_at timestamptz not null,
  bytes bigint not null,
  constraint displacements_pkey primary key (user_id, owner_id, device_id, hour_at)
)`

// A device added less than 24 hours ago counts with the one that added it, its owner, and with all others that have the
// same owner. The owner's own allowance is not touched by theirs: else a new device could silence the one that let it in.
const owner = `
create function displacement_owner(p_user_id bytea, p_device_id bytea)
returns bytea
language plpgsql
stable
as $$
declare
  v_owner bytea := p_device_id;
  v_added_by bytea;
begin
  loop
    select d.added_by
    into v_added_by
    from devices as d
    where
      d.user_id = p_user_id
      and d.device_id = v_owner
      and d.added_by is not null
      and d.added_at > now() - interval '24 hours';
    exit when not found;
    v_owner := v_added_by;
  end loop;
  return v_owner;
end
$$`

// Counts the bytes of a run that is about to be stored, event by event, under the lock on the user. An event that would
// push out more than its device may in 24 hours ends the run: `admitted` says how many come before it, and
// `retry_after_ms` when to try again, 0 while pruning is behind and may give something back. With `p_is_whole` nothing is
// counted unless all are admitted. The hours of 24 hours are up to 25.
const admitBytes = `
create function admit_bytes(
  p_user_id bytea,
  p_device_id bytea,
  p_sizes bigint[],
  p_quota bigint,
  p_is_whole boolean,
  out admitted integer,
  out retry_after_ms bigint
)
returns record
language plpgsql
volatile
as $$
declare
  v_limit bigint := p_quota / 10;
  v_published bigint;
  v_pushed bigint;
  v_freed bigint;
  v_pruned bigint;
  v_pruned_through bigint;
  v_owner bytea;
  v_used bigint;
  v_charge bigint := 0;
  v_is_alone boolean;
  v_size bigint;
  v_target bigint;
  v_pushes bigint;
begin
  admitted := 0;
  retry_after_ms := 0;

  select u.published_bytes, u.pushed_out_bytes
  into v_published, v_pushed
  from users as u
  where u.user_id = p_user_id;

  select s.freed_bytes, s.pruned_bytes, s.pruned_through
  into v_freed, v_pruned, v_pruned_through
  from user_storage as s
  where s.user_id = p_user_id;

  foreach v_size in array p_sizes loop
    -- Once this event is stored, the quota has pushed out so much, or will have to.
    v_target := greatest(v_pruned, v_published + v_size - v_freed + v_pruned - p_quota);
    v_pushes := greatest(least(v_size, v_target - v_pushed), 0);
    if v_pushes > 0 and v_owner is null then
      v_owner := displacement_owner(p_user_id, p_device_id);
      select coalesce(sum(x.bytes), 0)
      into v_used
      from displacements as x
      where
        x.user_id = p_user_id
        and x.owner_id = v_owner
        and (p_device_id <> v_owner or x.device_id = p_device_id)
        and x.hour_at > now() - interval '25 hours';
    end if;

    -- One event may always push out something, or a large one could never be stored under a small quota.
    if v_pushes > 0 and v_used + v_charge > 0 and v_used + v_charge + v_pushes > v_limit then
      if v_is_alone is null then
        v_is_alone := not exists (
          select
          from devices as d
          cross join lateral (
            select e.user_seq
            from events as e
            where e.user_id = d.user_id and e.device_id = d.device_id
            order by e.device_seq desc
            limit 1
          ) as newest
          where d.user_id = p_user_id and d.device_id <> p_device_id and newest.user_seq > v_pruned_through
        );
      end if;
      exit when not v_is_alone;
    else
      v_charge := v_charge + v_pushes;
    end if;

    v_published := v_published + v_size;
    v_pushed := least(v_target, v_pushed + v_pushes);
    admitted := admitted + 1;
  end loop;

  if admitted < cardinality(p_sizes) and v_published - v_freed <= p_quota then
    select ceil(date_part('epoch', leaving.hour_at + interval '25 hours' - now()) * 1000)::bigint
    into retry_after_ms
    from (
      select x.hour_at, sum(x.bytes) over (order by x.hour_at) as bytes
      from displacements as x
      where
        x.user_id = p_user_id
        and x.owner_id = v_owner
        and (p_device_id <> v_owner or x.device_id = p_device_id)
        and x.hour_at > now() - interval '25 hours'
    ) as leaving
    where leaving.bytes >= v_used + v_charge + v_pushes - v_limit
    order by leaving.hour_at
    limit 1;
    retry_after_ms := coalesce(retry_after_ms, 86400000);
  end if;

  if admitted = 0 or (p_is_whole and admitted < cardinality(p_sizes)) then
    return;
  end if;

  update users as u
  set
    published_bytes = v_published,
    pushed_out_bytes = v_pushed,
    seen_freed_bytes =
      v_freed - (greatest(v_pruned, v_published - v_freed + v_pruned - p_quota) - v_pushed)
  where u.user_id = p_user_id;

  if v_charge > 0 then
    update displacements as x
    set bytes = x.bytes + v_charge
    where
      x.user_id = p_user_id
      and x.owner_id = v_owner
      and x.device_id = p_device_id
      and x.hour_at = date_trunc('hour', now());
    if not found then
      delete from displacements as x
      where
        x.user_id = p_user_id
        and x.owner_id = v_owner
        and x.device_id = p_device_id
        and x.hour_at <= now() - interval '25 hours';
      insert into displacements (user_id, owner_id, device_id, hour_at, bytes)
      values (p_user_id, v_owner, p_device_id, date_trunc('hour', now()), v_charge);
    end if;
  end if;
end
$$`

export const displacement: Migration = {
  number: 12,
  name: 'displacement',
  statements: [
    userColumns,
    storageColumns,
    'alter table devices add column added_by bytea',
    displacements,
    owner,
    admitBytes,
  ],
}
