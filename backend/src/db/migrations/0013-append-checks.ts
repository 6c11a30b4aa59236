// Both functions that store events, with what the server checks of them since events commit to the device log: the epoch in
// force, a log_seq that does not fall, a device that is not suspended, and how much a device pushes out of the quota
// (0012). Otherwise they are those of 0002 and 0010, whose comments hold. Frozen: a change is a new migration.
// More than 300 lines: PostgreSQL takes each function as one text.

import type { Migration } from './migration.ts'

// Bytes come as one concatenation a column and are cut by position: 32 bytes a user and chain, 16 an id. Events are
// numbered 1 … n through all runs; `p_run_ends` has the number of each run's last event, `p_wire_ends` the end of each
// event's bytes. `p_users` and `p_streams` are distinct and sorted. `p_quota` is null where there is none.
//
// State of a run: 0 open, 1 gap, 2 chain mismatch, 3 revoked, 4 deleted, 5 suspended. Of an open run the events first …
// last are stored; cause says why the next one is not: 0 there is none, 1 stale epoch, 2 stream limit, 3 another epoch
// than the one in force, 4 log_seq falls, 5 displacement, which may be tried again after `run_retries_ms`.
const appendEvents = `
create function append_events(
  p_users bytea,
  p_user_stream_counts integer[],
  p_streams bytea,
  p_stream_users integer[],
  p_run_users integer[],
  p_run_devices bytea,
  p_run_first_seqs bigint[],
  p_run_chain_prevs bytea,
  p_run_ends integer[],
  p_event_streams integer[],
  p_event_ids bytea,
  p_epochs bigint[],
  p_log_seqs bigint[],
  p_ttls_s bigint[],
  p_chains bytea,
  p_wires bytea,
  p_wire_ends integer[],
  p_max_streams bigint,
  p_quota bigint,
  out run_states integer[],
  out run_last_seqs bigint[],
  out run_firsts integer[],
  out run_lasts integer[],
  out run_causes integer[],
  out run_retries_ms bigint[],
  out stored_at_ms bigint,
  out user_seqs bigint[],
  out stream_seqs bigint[],
  out known_events integer[],
  out known_is_same boolean[],
  out known_user_seqs bigint[],
  out known_stream_seqs bigint[],
  out known_stored_at_ms bigint[]
)
returns record
language plpgsql
volatile
-- One generic plan a statement, by primary key, however small the tables were when it was made.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_user_lasts bigint[];
  v_stream_lasts bigint[];
  v_stored_at timestamptz;
  v_has_known boolean;
  v_may_exceed boolean;
  v_may_push_out boolean;
  v_run record;
  v_admitted integer;
  v_retry_ms bigint;
begin
  perform u.user_id
  from generate_series(1, cardinality(p_user_stream_counts)) as i
  join users as u on u.user_id = substring(p_users, i * 32 - 31, 32)
  order by u.user_id
  for no key update of u;

  perform d.device_id
  from unnest(p_run_users) with ordinality as run (user_index, r)
  join devices as d
    on d.user_id = substring(p_users, run.user_index * 32 - 31, 32)
    and d.device_id = substring(p_run_devices, run.r::integer * 16 - 15, 16)
  order by d.user_id, d.device_id
  for no key update of d;

  v_stored_at := date_trunc('milliseconds', clock_timestamp());
  stored_at_ms := (date_part('epoch', v_stored_at) * 1000)::bigint;

  select
    array_agg(judged.state),
    array_agg(judged.last_device_seq),
    array_agg(judged.last_user_seq),
    array_agg(judged.first_event),
    array_agg(
      case
        when judged.state > 0 then judged.first_event - 1
        when judged.wrong_event is null then judged.run_end
        else judged.wrong_event - 1
      end
    ),
    array_agg(
      case
        when judged.wrong_event is null then 0
        when p_log_seqs[judged.wrong_event] < judged.epoch_log_seq then 1
        when p_epochs[judged.wrong_event] <> judged.key_epoch then 3
        else 4
      end
    ),
    array_agg(0::bigint),
    bool_or(judged.has_known),
    bool_or(judged.may_exceed),
    bool_or(judged.may_push_out)
  into
    run_states, run_last_seqs, v_user_lasts, run_firsts, run_lasts, run_causes, run_retries_ms, v_has_known, v_may_exceed,
    v_may_push_out
  from (
    select
      known.*,
      case
        when known.state = 0 then (
          select min(e)
          from generate_series(known.first_event, known.run_end) as e
          where
            p_log_seqs[e] < known.epoch_log_seq
            or p_epochs[e] <> known.key_epoch
            or p_log_seqs[e] < case when e = known.first_event then known.last_log_seq else p_log_seqs[e - 1] end
        )
      end as wrong_event
    from (
      select
        run.r,
        run.run_end,
        run.first_event,
        run.last_device_seq,
        coalesce(run.last_user_seq, 0) as last_user_seq,
        run.epoch_log_seq,
        run.key_epoch,
        run.last_log_seq,
        run.may_push_out,
        run.stream_count + p_user_stream_counts[run.user_index] > p_max_streams as may_exceed,
        run.is_alive and run.first_seq <= run.last_device_seq as has_known,
        case
          when run.is_deleted then 4
          when not run.is_alive then 3
          when run.is_suspended then 5
          when run.first_seq > run.last_device_seq + 1 then 1
          when run.first_event > run.run_end then 0
          when run.last_chain <> case
            when run.first_seq = run.last_device_seq + 1 then substring(p_run_chain_prevs, run.r * 32 - 31, 32)
            else substring(p_chains, run.first_event * 32 - 63, 32)
          end then 2
          else 0
        end as state
      from (
        select
          given.r::integer as r,
          given.user_index,
          given.first_seq,
          given.run_end,
          u.last_user_seq,
          u.epoch_log_seq,
          u.key_epoch,
          u.stream_count,
          -- However few of the bytes are this user's.
          u.published_bytes - u.seen_freed_bytes + p_wire_ends[cardinality(p_wire_ends)] > p_quota as may_push_out,
          u.user_id is null or u.deleted_at is not null as is_deleted,
          d.device_id is not null and d.revoked_at is null as is_alive,
          d.suspended_at is not null as is_suspended,
          d.last_log_seq,
          coalesce(d.last_device_seq, 0) as last_device_seq,
          d.last_chain,
          -- Past what the log has of the run; one past its end when that is all of it.
          least(
            coalesce(p_run_ends[given.r - 1], 0) + 1 + greatest(coalesce(d.last_device_seq, 0) + 1 - given.first_seq, 0),
            given.run_end + 1
          )::integer as first_event
        from unnest(p_run_users, p_run_first_seqs, p_run_ends) with ordinality as given (user_index, first_seq, run_end, r)
        left join users as u on u.user_id = substring(p_users, given.user_index * 32 - 31, 32)
        left join devices as d
          on d.user_id = substring(p_users, given.user_index * 32 - 31, 32)
          and d.device_id = substring(p_run_devices, given.r::integer * 16 - 15, 16)
        order by given.r
        offset 0
      ) as run
      offset 0
    ) as known
    offset 0
  ) as judged;

  -- What the log has already: the first receipt, or a conflict. The keys come from one subquery, so that the look-up
  -- takes all three columns of the index also under a plan made on an empty table.
  if v_has_known then
    select
      array_agg(asked.e),
      array_agg(stored.chain is not null and stored.chain = substring(p_chains, asked.e * 32 - 31, 32)),
      array_agg(coalesce(stored.user_seq, 0)),
      array_agg(coalesce(stored.stream_seq, 0)),
      array_agg(coalesce((date_part('epoch', stored.stored_at) * 1000)::bigint, 0))
    into known_events, known_is_same, known_user_seqs, known_stream_seqs, known_stored_at_ms
    from (
      select
        e,
        substring(p_users, run.user_index * 32 - 31, 32) as user_id,
        substring(p_run_devices, run.r::integer * 16 - 15, 16) as device_id,
        run.first_seq + e - (coalesce(p_run_ends[run.r - 1], 0) + 1) as device_seq
      from unnest(p_run_users, p_run_first_seqs, run_firsts, run_states) with ordinality
        as run (user_index, first_seq, first_event, state, r)
      cross join generate_series(coalesce(p_run_ends[run.r - 1], 0) + 1, run.first_event - 1) as e
      where run.state not in (3, 4)
      offset 0
    ) as asked
    left join events as stored
      on stored.user_id = asked.user_id
      and stored.device_id = asked.device_id
      and stored.device_seq = asked.device_seq;
  end if;

  select array_agg(stream.last_stream_seq)
  into v_stream_lasts
  from (
    select coalesce(s.last_stream_seq, 0) as last_stream_seq
    from unnest(p_stream_users) with ordinality as given (user_index, i)
    left join streams as s
      on s.user_id = substring(p_users, given.user_index * 32 - 31, 32)
      and s.stream_id = substring(p_streams, given.i::integer * 16 - 15, 16)
    order by given.i
  ) as stream;

  -- New streams count in the order of their first event; a run ends before the first event of one too many.
  if v_may_exceed then
    with
    accepted as materialized (
      select run.r, e
      from unnest(run_firsts, run_lasts) with ordinality as run (first_event, last_event, r)
      cross join generate_series(run.first_event, run.last_event) as e
    ),
    fresh as (
      select p_event_streams[accepted.e] as stream_index, min(accepted.e) as first_event
      from accepted
      where v_stream_lasts[p_event_streams[accepted.e]] = 0
      group by 1
    ),
    ranked as (
      select
        fresh.stream_index,
        row_number() over (partition by p_stream_users[fresh.stream_index] order by fresh.first_event) as position
      from fresh
    ),
    excess as materialized (
      select array_agg(ranked.stream_index) as stream_indexes
      from ranked
      join users as u on u.user_id = substring(p_users, p_stream_users[ranked.stream_index] * 32 - 31, 32)
      where u.stream_count + ranked.position > p_max_streams
    ),
    cut as (
      select run.r, run.last_event, run.cause, (
        select min(accepted.e)
        from accepted
        cross join excess
        where accepted.r = run.r and p_event_streams[accepted.e] = any (excess.stream_indexes)
      ) as first_excess
      from unnest(run_lasts, run_causes) with ordinality as run (last_event, cause, r)
    )
    select
      array_agg(coalesce(cut.first_excess - 1, cut.last_event) order by cut.r),
      array_agg(case when cut.first_excess is null then cut.cause else 2 end order by cut.r)
    into run_lasts, run_causes
    from cut;
  end if;

  -- In the order in which a prune locks what was charged.
  if v_may_push_out then
    for v_run in
      select
        run.r::integer as r,
        substring(p_users, run.user_index * 32 - 31, 32) as user_id,
        substring(p_run_devices, run.r::integer * 16 - 15, 16) as device_id,
        run.first_event,
        array(
          select p_wire_ends[e] - coalesce(p_wire_ends[e - 1], 0)
          from generate_series(run.first_event, run.last_event) as e
        )::bigint[] as sizes
      from unnest(p_run_users, run_firsts, run_lasts) with ordinality as run (user_index, first_event, last_event, r)
      where run.last_event >= run.first_event
      order by
        run.user_index,
        displacement_owner(
          substring(p_users, run.user_index * 32 - 31, 32),
          substring(p_run_devices, run.r::integer * 16 - 15, 16)
        ),
        device_id
    loop
      select a.admitted, a.retry_after_ms
      into v_admitted, v_retry_ms
      from admit_bytes(v_run.user_id, v_run.device_id, v_run.sizes, p_quota, false) as a;
      if v_admitted < cardinality(v_run.sizes) then
        run_lasts[v_run.r] := v_run.first_event + v_admitted - 1;
        run_causes[v_run.r] := 5;
        run_retries_ms[v_run.r] := v_retry_ms;
      end if;
    end loop;
  end if;

  with
  accepted as materialized (
    select
      run.r::integer as r,
      run.user_index,
      p_event_streams[e] as stream_index,
      e,
      run.first_seq + e - (coalesce(p_run_ends[run.r - 1], 0) + 1) as device_seq,
      run.last_user_seq + row_number() over (partition by run.user_index order by e) as user_seq,
      v_stream_lasts[p_event_streams[e]] + row_number() over (partition by p_event_streams[e] order by e) as stream_seq
    from unnest(p_run_users, p_run_first_seqs, v_user_lasts, run_firsts, run_lasts) with ordinality
      as run (user_index, first_seq, last_user_seq, first_event, last_event, r)
    cross join generate_series(run.first_event, run.last_event) as e
  ),
  appended as (
    insert into events (
      user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, expires_at, chain, wire
    )
    select
      substring(p_users, a.user_index * 32 - 31, 32),
      a.user_seq,
      substring(p_run_devices, a.r * 16 - 15, 16),
      a.device_seq,
      substring(p_streams, a.stream_index * 16 - 15, 16),
      a.stream_seq,
      substring(p_event_ids, a.e * 16 - 15, 16),
      v_stored_at,
      case when p_ttls_s[a.e] > 0 then v_stored_at + make_interval(secs => p_ttls_s[a.e]) end,
      substring(p_chains, a.e * 32 - 31, 32),
      substring(p_wires, coalesce(p_wire_ends[a.e - 1], 0) + 1, p_wire_ends[a.e] - coalesce(p_wire_ends[a.e - 1], 0))
    from accepted as a
  ),
  stream_moves as materialized (
    select
      a.stream_index,
      a.user_index,
      count(*) as event_count,
      max(a.stream_seq) as last_stream_seq,
      sum(p_wire_ends[a.e] - coalesce(p_wire_ends[a.e - 1], 0)) as bytes
    from accepted as a
    group by a.stream_index, a.user_index
  ),
  moved_streams as (
    insert into streams (user_id, stream_id, last_stream_seq)
    select
      substring(p_users, m.user_index * 32 - 31, 32),
      substring(p_streams, m.stream_index * 16 - 15, 16),
      m.last_stream_seq
    from stream_moves as m
    order by m.stream_index
    on conflict (user_id, stream_id) do update set last_stream_seq = excluded.last_stream_seq
  ),
  moved_devices as (
    update devices as d
    set
      last_device_seq = run.first_seq + run.last_event - (coalesce(p_run_ends[run.r - 1], 0) + 1),
      last_chain = substring(p_chains, run.last_event * 32 - 31, 32),
      last_log_seq = p_log_seqs[run.last_event]
    from unnest(p_run_users, p_run_first_seqs, run_firsts, run_lasts) with ordinality
      as run (user_index, first_seq, first_event, last_event, r)
    where
      run.last_event >= run.first_event
      and d.user_id = substring(p_users, run.user_index * 32 - 31, 32)
      and d.device_id = substring(p_run_devices, run.r::integer * 16 - 15, 16)
  ),
  moved_users as (
    update users as u
    set
      last_user_seq = u.last_user_seq + moved.event_count,
      stream_count = u.stream_count + moved.new_streams,
      -- Where a user may be at the quota, they are counted before.
      published_bytes = u.published_bytes + case when v_may_push_out then 0 else moved.bytes end
    from (
      select
        m.user_index,
        sum(m.event_count)::bigint as event_count,
        sum(m.bytes)::bigint as bytes,
        count(*) filter (where v_stream_lasts[m.stream_index] = 0) as new_streams
      from stream_moves as m
      group by m.user_index
    ) as moved
    where u.user_id = substring(p_users, moved.user_index * 32 - 31, 32)
  )
  select array_agg(a.user_seq), array_agg(a.stream_seq)
  into user_seqs, stream_seqs
  from (select user_seq, stream_seq from accepted order by e) as a;
end
$$`

// `p_first_log_seq` and `p_last_log_seq` are the lowest and the highest of the run, all under `p_epoch`.
const appendRun = `
create function append_run(
  p_user_id bytea,
  p_device_id bytea,
  p_first_seq bigint,
  p_count integer,
  p_chain_prev bytea,
  p_stream_id bytea,
  p_epoch bigint,
  p_first_log_seq bigint,
  p_last_log_seq bigint,
  p_event_ids bytea,
  p_ttls_s bigint[],
  p_chains bytea,
  p_wires bytea,
  p_wire_ends integer[],
  p_max_streams bigint,
  p_quota bigint,
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
  v_room bigint;
  v_bytes bigint := p_wire_ends[p_count];
  v_admitted integer;
begin
  select u.last_user_seq, u.stream_count, p_quota - u.published_bytes + u.seen_freed_bytes
  into v_last_user_seq, v_stream_count, v_room
  from users as u
  where
    u.user_id = p_user_id
    and u.deleted_at is null
    and u.key_epoch = p_epoch
    and u.epoch_log_seq <= p_first_log_seq
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

  -- At the quota; what the next statement would find wrong must be found before anything is counted.
  if v_bytes > v_room then
    perform
    from devices as d
    where
      d.user_id = p_user_id
      and d.device_id = p_device_id
      and d.revoked_at is null
      and d.suspended_at is null
      and d.last_device_seq = p_first_seq - 1
      and d.last_log_seq <= p_first_log_seq
      and d.last_chain = p_chain_prev;
    if not found then
      return;
    end if;
    select a.admitted
    into v_admitted
    from admit_bytes(
      p_user_id,
      p_device_id,
      array(select p_wire_ends[e] - coalesce(p_wire_ends[e - 1], 0) from generate_series(1, p_count) as e)::bigint[],
      p_quota,
      true
    ) as a;
    if v_admitted < p_count then
      return;
    end if;
    v_bytes := 0;
  end if;

  update devices as d
  set
    last_device_seq = p_first_seq + p_count - 1,
    last_chain = substring(p_chains, p_count * 32 - 31),
    last_log_seq = p_last_log_seq
  where
    d.user_id = p_user_id
    and d.device_id = p_device_id
    and d.revoked_at is null
    and d.suspended_at is null
    and d.last_device_seq = p_first_seq - 1
    and d.last_log_seq <= p_first_log_seq
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
      user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, expires_at, chain, wire
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
      p_chains,
      p_wires
    );
  else
    insert into events (
      user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, expires_at, chain, wire
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
      substring(p_chains, e * 32 - 31, 32),
      substring(p_wires, coalesce(p_wire_ends[e - 1], 0) + 1, p_wire_ends[e] - coalesce(p_wire_ends[e - 1], 0))
    from generate_series(1, p_count) as e;
  end if;

  update users as u
  set
    last_user_seq = v_last_user_seq + p_count,
    stream_count = v_stream_count,
    published_bytes = u.published_bytes + v_bytes
  where u.user_id = p_user_id;

  first_user_seq := v_last_user_seq + 1;
  first_stream_seq := v_last_stream_seq - p_count + 1;
  stored_at_ms := (date_part('epoch', v_stored_at) * 1000)::bigint;
end
$$`

export const appendChecks: Migration = {
  number: 13,
  name: 'append-checks',
  statements: ['drop function append_events', 'drop function append_run', appendEvents, appendRun],
}
