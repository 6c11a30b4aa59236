// The short way into the log, for a batch that is one run of one device in one stream: what a quiet server sees nearly
// always. It stores the run when everything about it is in order, and otherwise answers null and has changed nothing;
// then append_events (0002) is asked, which alone gives reasons. It locks as append_events does, users before devices,
// and each statement after the lock has a snapshot of its own. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

// Bytes of several events come as one concatenation a column, as in append_events. `p_log_seq` is the lowest of the run.
const appendRun = `
create function append_run(
  p_user_id bytea,
  p_device_id bytea,
  p_first_seq bigint,
  p_count integer,
  p_chain_prev bytea,
  p_chain bytea,
  p_stream_id bytea,
  p_log_seq bigint,
  p_event_ids bytea,
  p_ttls_s bigint[],
  p_leaves bytea,
  p_wires bytea,
  p_wire_ends integer[],
  p_max_streams bigint,
  out first_user_seq bigint,
  out first_stream_seq bigint,
  out stored_at_ms bigint
)
returns record
language plpgsql
volatile
-- One generic plan a statement, by primary key, however small the tables were when it was made.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_last_user_seq bigint;
  v_stream_count bigint;
  v_last_stream_seq bigint;
  v_stored_at timestamptz;
begin
  select u.last_user_seq, u.stream_count
  into v_last_user_seq, v_stream_count
  from users as u
  where u.user_id = p_user_id and u.deleted_at is null and u.epoch_log_seq <= p_log_seq
  for no key update of u;
  if not found then
    return;
  end if;

  -- A stream more might be one too many.
  if v_stream_count >= p_max_streams then
    perform
    from streams as s
    where s.user_id = p_user_id and s.stream_id = p_stream_id;
    if not found then
      return;
    end if;
  end if;

  update devices as d
  set last_device_seq = p_first_seq + p_count - 1, last_chain = p_chain
  where
    d.user_id = p_user_id
    and d.device_id = p_device_id
    and d.revoked_at is null
    and d.last_device_seq = p_first_seq - 1
    and d.last_chain = p_chain_prev;
  if not found then
    return;
  end if;
  v_stored_at := date_trunc('milliseconds', clock_timestamp());

  insert into streams as s (user_id, stream_id, last_stream_seq)
  values (p_user_id, p_stream_id, p_count)
  on conflict (user_id, stream_id) do update set last_stream_seq = s.last_stream_seq + excluded.last_stream_seq
  returning s.last_stream_seq into v_last_stream_seq;
  if v_last_stream_seq = p_count then
    v_stream_count := v_stream_count + 1;
  end if;

  insert into events (
    user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, expires_at, leaf, wire
  )
  select
    p_user_id,
    v_last_user_seq + e,
    p_device_id,
    p_first_seq - 1 + e,
    p_stream_id,
    v_last_stream_seq - p_count + e,
    substring(p_event_ids, e * 16 - 15, 16),
    v_stored_at,
    case when p_ttls_s[e] > 0 then v_stored_at + make_interval(secs => p_ttls_s[e]) end,
    substring(p_leaves, e * 32 - 31, 32),
    substring(p_wires, coalesce(p_wire_ends[e - 1], 0) + 1, p_wire_ends[e] - coalesce(p_wire_ends[e - 1], 0))
  from generate_series(1, p_count) as e;

  update users as u
  set last_user_seq = v_last_user_seq + p_count, stream_count = v_stream_count
  where u.user_id = p_user_id;

  first_user_seq := v_last_user_seq + 1;
  first_stream_seq := v_last_stream_seq - p_count + 1;
  stored_at_ms := (date_part('epoch', v_stored_at) * 1000)::bigint;
end
$$`

export const appendRunFunction: Migration = { number: 5, name: 'append-run', statements: [appendRun] }
