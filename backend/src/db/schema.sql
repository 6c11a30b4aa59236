-- What the migrations make, as dumpSchema reads it. Do not edit: `VALISE_UPDATE_SCHEMA=1` in the test writes it.

create table audit_log (
  user_id bytea not null,
  audit_seq bigint not null,
  recorded_at timestamp with time zone not null default now(),
  kind text not null,
  detail jsonb not null,
  prev_hash bytea not null,
  hash bytea not null,
  constraint audit_log_pkey PRIMARY KEY (user_id, audit_seq),
  constraint audit_log_hash_length CHECK (((octet_length(hash) = 32) AND (octet_length(prev_hash) = 32)))
);
CREATE INDEX audit_log_recorded_at_idx ON public.audit_log USING btree (recorded_at);

create table device_log (
  user_id bytea not null,
  log_seq bigint not null,
  entry bytea not null,
  appended_at timestamp with time zone not null default now(),
  constraint device_log_pkey PRIMARY KEY (user_id, log_seq),
  constraint device_log_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
);

create table devices (
  user_id bytea not null,
  device_id bytea not null,
  ed_pub bytea not null,
  role smallint not null,
  added_log_seq bigint not null,
  added_at timestamp with time zone not null default now(),
  revoked_log_seq bigint,
  revoked_at timestamp with time zone,
  last_device_seq bigint not null default 0,
  last_chain bytea not null,
  cursor bigint not null default 0,
  last_seen_at timestamp with time zone,
  session_number bigint not null default 0,
  begun_session_number bigint not null default 0,
  constraint devices_pkey PRIMARY KEY (user_id, device_id),
  constraint devices_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
) with (fillfactor=50);
CREATE INDEX devices_device_id_idx ON public.devices USING btree (device_id);

create table events (
  user_id bytea not null,
  user_seq bigint not null,
  device_id bytea not null,
  device_seq bigint not null,
  stream_id bytea not null,
  stream_seq bigint not null,
  event_id bytea not null,
  stored_at timestamp with time zone not null,
  expires_at timestamp with time zone,
  leaf bytea not null,
  wire bytea storage external,
  constraint events_pkey PRIMARY KEY (user_id, user_seq),
  constraint events_device_seq_key UNIQUE (user_id, device_id, device_seq),
  constraint events_stream_seq_key UNIQUE (user_id, stream_id, stream_seq)
);
CREATE INDEX events_expires_at_idx ON public.events USING btree (expires_at) WHERE ((expires_at IS NOT NULL) AND (wire IS NOT NULL));

create table invitations (
  invitation_hash bytea not null,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  constraint invitations_pkey PRIMARY KEY (invitation_hash),
  constraint invitations_hash_length CHECK ((octet_length(invitation_hash) = 32))
);
CREATE INDEX invitations_expires_at_idx ON public.invitations USING btree (expires_at);

create table key_envelopes (
  user_id bytea not null,
  device_id bytea not null,
  epoch bigint not null,
  box bytea not null,
  constraint key_envelopes_pkey PRIMARY KEY (user_id, device_id, epoch),
  constraint key_envelopes_device_fkey FOREIGN KEY (user_id, device_id) REFERENCES devices(user_id, device_id)
);

create table key_epochs (
  user_id bytea not null,
  epoch bigint not null,
  log_seq bigint not null,
  prev_box bytea,
  constraint key_epochs_pkey PRIMARY KEY (user_id, epoch),
  constraint key_epochs_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
);

create table pairing_addresses (
  kind text not null,
  address text not null,
  used_at timestamp with time zone[] not null,
  constraint pairing_addresses_pkey PRIMARY KEY (kind, address),
  constraint pairing_addresses_kind CHECK ((kind = ANY (ARRAY['opening'::text, 'failed_join'::text])))
);

create table pairing_mailboxes (
  mailbox_id bytea not null,
  nameplate integer not null,
  displayer_hash bytea not null,
  joiner_hash bytea,
  joiner_address text,
  ending text,
  opened_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  constraint pairing_mailboxes_pkey PRIMARY KEY (mailbox_id),
  constraint pairing_mailboxes_displayer_hash_length CHECK ((octet_length(displayer_hash) = 32)),
  constraint pairing_mailboxes_ending CHECK ((ending = ANY (ARRAY['failed'::text, 'ended'::text]))),
  constraint pairing_mailboxes_joiner_hash_length CHECK ((octet_length(joiner_hash) = 32)),
  constraint pairing_mailboxes_mailbox_id_length CHECK ((octet_length(mailbox_id) = 16)),
  constraint pairing_mailboxes_nameplate_key UNIQUE (nameplate),
  constraint pairing_mailboxes_nameplate_range CHECK (((nameplate >= 1) AND (nameplate <= 999999)))
);
CREATE INDEX pairing_mailboxes_expires_at_idx ON public.pairing_mailboxes USING btree (expires_at);

create table pairing_messages (
  mailbox_id bytea not null,
  slot smallint not null,
  body bytea not null,
  constraint pairing_messages_pkey PRIMARY KEY (mailbox_id, slot),
  constraint pairing_messages_body_length CHECK (((octet_length(body) >= 1) AND (octet_length(body) <= 8192))),
  constraint pairing_messages_mailbox_id_fkey FOREIGN KEY (mailbox_id) REFERENCES pairing_mailboxes(mailbox_id) ON DELETE CASCADE,
  constraint pairing_messages_slot_range CHECK (((slot >= 0) AND (slot <= 7)))
);

create table pairing_openings (
  user_id bytea not null,
  opened_at timestamp with time zone[] not null,
  constraint pairing_openings_pkey PRIMARY KEY (user_id)
);

create table pairings (
  mailbox_id bytea not null,
  slot smallint not null,
  body bytea not null,
  expires_at timestamp with time zone not null,
  constraint pairings_pkey PRIMARY KEY (mailbox_id, slot),
  constraint pairings_body_length CHECK ((octet_length(body) <= 8192)),
  constraint pairings_mailbox_id_length CHECK ((octet_length(mailbox_id) = 16)),
  constraint pairings_slot_range CHECK (((slot >= 0) AND (slot <= 7)))
);
CREATE INDEX pairings_expires_at_idx ON public.pairings USING btree (expires_at);

create table schema_migrations (
  number integer not null,
  name text not null,
  checksum text not null,
  applied_at timestamp with time zone not null default now(),
  constraint schema_migrations_pkey PRIMARY KEY (number)
);

create table server_key_changes (
  old_fingerprint bytea not null,
  change bytea not null,
  changed_at timestamp with time zone not null default clock_timestamp(),
  constraint server_key_changes_pkey PRIMARY KEY (old_fingerprint),
  constraint server_key_changes_change_length CHECK ((octet_length(change) = 225)),
  constraint server_key_changes_fingerprint_length CHECK ((octet_length(old_fingerprint) = 32))
);

create table server_state (
  is_only_row boolean not null default true,
  log_epoch bytea not null,
  constraint server_state_pkey PRIMARY KEY (is_only_row),
  constraint server_state_log_epoch_length CHECK ((octet_length(log_epoch) = 16)),
  constraint server_state_one_row CHECK (is_only_row)
);

create table streams (
  user_id bytea not null,
  stream_id bytea not null,
  last_stream_seq bigint not null,
  constraint streams_pkey PRIMARY KEY (user_id, stream_id)
) with (fillfactor=50);

create table user_storage (
  user_id bytea not null,
  counted_through bigint not null default 0,
  stored_bytes bigint not null default 0,
  pruned_through bigint not null default 0,
  oldest_stored_at timestamp with time zone,
  constraint user_storage_pkey PRIMARY KEY (user_id),
  constraint user_storage_not_negative CHECK ((stored_bytes >= 0)),
  constraint user_storage_pruned_is_counted CHECK ((pruned_through <= counted_through)),
  constraint user_storage_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
);
CREATE INDEX user_storage_oldest_idx ON public.user_storage USING btree (oldest_stored_at) WHERE (oldest_stored_at IS NOT NULL);
CREATE INDEX user_storage_stored_bytes_idx ON public.user_storage USING btree (stored_bytes);

create table users (
  user_id bytea not null,
  last_user_seq bigint not null default 0,
  stream_count bigint not null default 0,
  log_seq bigint not null,
  log_head bytea not null,
  key_epoch bigint not null,
  epoch_log_seq bigint not null,
  created_at timestamp with time zone not null default now(),
  deleted_at timestamp with time zone,
  constraint users_pkey PRIMARY KEY (user_id)
) with (fillfactor=50);

CREATE OR REPLACE FUNCTION public.append_events(p_users bytea, p_user_stream_counts integer[], p_streams bytea, p_stream_users integer[], p_run_users integer[], p_run_devices bytea, p_run_first_seqs bigint[], p_run_chain_prevs bytea, p_run_ends integer[], p_event_streams integer[], p_event_ids bytea, p_log_seqs bigint[], p_ttls_s bigint[], p_leaves bytea, p_chains bytea, p_wires bytea, p_wire_ends integer[], p_max_streams bigint, OUT run_states integer[], OUT run_last_seqs bigint[], OUT run_firsts integer[], OUT run_lasts integer[], OUT run_causes integer[], OUT stored_at_ms bigint, OUT user_seqs bigint[], OUT stream_seqs bigint[], OUT known_events integer[], OUT known_is_same boolean[], OUT known_user_seqs bigint[], OUT known_stream_seqs bigint[], OUT known_stored_at_ms bigint[])
 RETURNS record
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_user_lasts bigint[];
  v_stream_lasts bigint[];
  v_stored_at timestamptz;
  v_has_known boolean;
  v_may_exceed boolean;
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
        when judged.stale_event is null then judged.run_end
        else judged.stale_event - 1
      end
    ),
    array_agg(case when judged.stale_event is null then 0 else 1 end),
    bool_or(judged.has_known),
    bool_or(judged.may_exceed)
  into run_states, run_last_seqs, v_user_lasts, run_firsts, run_lasts, run_causes, v_has_known, v_may_exceed
  from (
    select
      known.*,
      case
        when known.state = 0 then (
          select min(e)
          from generate_series(known.first_event, known.run_end) as e
          where p_log_seqs[e] < known.epoch_log_seq
        )
      end as stale_event
    from (
      select
        run.r,
        run.run_end,
        run.first_event,
        run.last_device_seq,
        coalesce(run.last_user_seq, 0) as last_user_seq,
        run.epoch_log_seq,
        run.stream_count + p_user_stream_counts[run.user_index] > p_max_streams as may_exceed,
        run.is_alive and run.first_seq <= run.last_device_seq as has_known,
        case
          when run.is_deleted then 4
          when not run.is_alive then 3
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
          u.stream_count,
          u.user_id is null or u.deleted_at is not null as is_deleted,
          d.device_id is not null and d.revoked_at is null as is_alive,
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
      array_agg(stored.leaf is not null and stored.leaf = substring(p_leaves, asked.e * 32 - 31, 32)),
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
      where run.state < 3
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
      user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, expires_at, leaf, wire
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
      substring(p_leaves, a.e * 32 - 31, 32),
      substring(p_wires, coalesce(p_wire_ends[a.e - 1], 0) + 1, p_wire_ends[a.e] - coalesce(p_wire_ends[a.e - 1], 0))
    from accepted as a
  ),
  stream_moves as materialized (
    select a.stream_index, a.user_index, count(*) as event_count, max(a.stream_seq) as last_stream_seq
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
      last_chain = substring(p_chains, run.last_event * 32 - 31, 32)
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
      stream_count = u.stream_count + moved.new_streams
    from (
      select
        m.user_index,
        sum(m.event_count)::bigint as event_count,
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
$function$;

CREATE OR REPLACE FUNCTION public.append_run(p_user_id bytea, p_device_id bytea, p_first_seq bigint, p_count integer, p_chain_prev bytea, p_chain bytea, p_stream_id bytea, p_log_seq bigint, p_event_ids bytea, p_ttls_s bigint[], p_leaves bytea, p_wires bytea, p_wire_ends integer[], p_max_streams bigint, OUT first_user_seq bigint, OUT first_stream_seq bigint, OUT stored_at_ms bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION public.refuse_audit_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  raise exception 'the audit log is only ever added to' using errcode = 'restrict_violation';
end
$function$;

CREATE TRIGGER audit_log_append_only BEFORE UPDATE ON public.audit_log FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
