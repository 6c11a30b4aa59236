// Fewer instructions an event (decision 0033). PostgreSQL parses the stored text of every check constraint of a table anew
// with every statement that writes to it: ten of them took a seventh of what storing one event costs, or more. The tables that each
// event writes to keep their keys and `not null`; lengths are checked where the values are made (`append-batch.ts`,
// `append-run.ts`, and the parsers of `@valise/protocol`). `append_run` is that of 0005, but for two of its statements.
// Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

const CHECKS_BY_TABLE = {
  users: ['users_user_id_length', 'users_log_head_length'],
  devices: [
    'devices_device_id_length',
    'devices_ed_pub_length',
    'devices_last_chain_length',
    'devices_revocation_whole',
    'devices_role_known',
  ],
  streams: ['streams_stream_id_length'],
  events: ['events_event_id_length', 'events_leaf_length'],
}

const dropChecks = Object.entries(CHECKS_BY_TABLE).map(
  ([table, checks]) => `alter table ${table} ${checks.map((check) => `drop constraint ${check}`).join(', ')}`,
)

// Bytes of several events come as one concatenation a column, as in append_events. `p_log_seq` is the lowest of the run.
const appendRun = `
create or replace function append_run(
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

  -- Nobody else opens the stream meanwhile: the user is locked.
  update streams as s
  set last_stream_seq = s.last_stream_seq + p_count
  where s.user_id = p_user_id and s.stream_id = p_stream_id
  returning s.last_stream_seq into v_last_stream_seq;
  if not found then
    insert into streams (user_id, stream_id, last_stream_seq)
    values (p_user_id, p_stream_id, p_count);
    v_last_stream_seq := p_count;
    v_stream_count := v_stream_count + 1;
  end if;

  -- One event needs no set of rows: a tenth of the cost of the whole function.
  if p_count = 1 then
    insert into events (
      user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, expires_at, leaf, wire
    )
    values (
      p_user_id,
      v_last_user_seq + 1,
      p_device_id,
      p_first_seq,
      p_stream_id,
      v_last_stream_seq,
      p_event_ids,
      v_stored_at,
      case when p_ttls_s[1] > 0 then v_stored_at + make_interval(secs => p_ttls_s[1]) end,
      p_leaves,
      p_wires
    );
  else
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
  end if;

  update users as u
  set last_user_seq = v_last_user_seq + p_count, stream_count = v_stream_count
  where u.user_id = p_user_id;

  first_user_seq := v_last_user_seq + 1;
  first_stream_seq := v_last_stream_seq - p_count + 1;
  stored_at_ms := (date_part('epoch', v_stored_at) * 1000)::bigint;
end
$$`

export const appendFaster: Migration = {
  number: 10,
  name: 'append-faster',
  statements: [...dropChecks, appendRun],
}
