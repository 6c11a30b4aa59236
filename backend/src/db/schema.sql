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
  counted_device_id bytea,
  constraint device_log_pkey PRIMARY KEY (user_id, log_seq),
  constraint device_log_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
);
CREATE INDEX device_log_counted_idx ON public.device_log USING btree (user_id, appended_at) WHERE (counted_device_id IS NOT NULL);

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
  last_log_seq bigint not null default 0,
  suspended_at timestamp with time zone,
  added_by bytea,
  suspended_log_seq bigint,
  cut_device_seq bigint,
  cut_chain bytea,
  constraint devices_pkey PRIMARY KEY (user_id, device_id),
  constraint devices_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
) with (fillfactor=50);
CREATE INDEX devices_device_id_idx ON public.devices USING btree (device_id);

create table displacements (
  user_id bytea not null,
  owner_id bytea not null,
  device_id bytea not null,
  hour_at timestamp with time zone not null,
  bytes bigint not null,
  constraint displacements_pkey PRIMARY KEY (user_id, owner_id, device_id, hour_at)
);

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
  wire bytea storage external,
  chain bytea not null,
  inner_hash bytea,
  ttl_s bigint,
  flags smallint,
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
  constraint key_epochs_pkey PRIMARY KEY (user_id, epoch),
  constraint key_epochs_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
);

create table key_links (
  user_id bytea not null,
  epoch bigint not null,
  prev_epoch bigint not null,
  box bytea not null,
  constraint key_links_pkey PRIMARY KEY (user_id, epoch, prev_epoch),
  constraint key_links_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
);

create table node_secrets (
  number integer not null,
  secret bytea not null,
  made_at timestamp with time zone not null default now(),
  constraint node_secrets_pkey PRIMARY KEY (number),
  constraint node_secrets_number_range CHECK ((number > 0)),
  constraint node_secrets_secret_length CHECK ((octet_length(secret) = 32))
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
  opener_address text not null,
  constraint pairing_mailboxes_pkey PRIMARY KEY (mailbox_id),
  constraint pairing_mailboxes_displayer_hash_length CHECK ((octet_length(displayer_hash) = 32)),
  constraint pairing_mailboxes_ending CHECK ((ending = ANY (ARRAY['failed'::text, 'ended'::text, 'evicted'::text]))),
  constraint pairing_mailboxes_joiner_hash_length CHECK ((octet_length(joiner_hash) = 32)),
  constraint pairing_mailboxes_mailbox_id_length CHECK ((octet_length(mailbox_id) = 16)),
  constraint pairing_mailboxes_nameplate_key UNIQUE (nameplate),
  constraint pairing_mailboxes_nameplate_range CHECK (((nameplate >= 1) AND (nameplate <= 999999999)))
);
CREATE INDEX pairing_mailboxes_expires_at_idx ON public.pairing_mailboxes USING btree (expires_at);
CREATE INDEX pairing_mailboxes_opener_address_idx ON public.pairing_mailboxes USING btree (opener_address);

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

create table pairing_rates (
  kind text not null,
  tokens double precision not null,
  filled_at timestamp with time zone not null,
  constraint pairing_rates_pkey PRIMARY KEY (kind),
  constraint pairing_rates_kind CHECK ((kind = 'join'::text))
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

create table pending_closes (
  user_id bytea not null,
  log_seq bigint not null,
  asked_at timestamp with time zone not null default now(),
  constraint pending_closes_pkey PRIMARY KEY (user_id),
  constraint pending_closes_user_fkey FOREIGN KEY (user_id) REFERENCES users(user_id)
);
CREATE INDEX pending_closes_asked_at_idx ON public.pending_closes USING btree (asked_at);

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
  log_epoch_at timestamp with time zone not null default now(),
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
  freed_bytes bigint not null default 0,
  pruned_bytes bigint not null default 0,
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
  published_bytes bigint not null default 0,
  seen_freed_bytes bigint not null default 0,
  pushed_out_bytes bigint not null default 0,
  constraint users_pkey PRIMARY KEY (user_id)
) with (fillfactor=50);

CREATE OR REPLACE FUNCTION public.admit_bytes(p_user_id bytea, p_device_id bytea, p_sizes bigint[], p_quota bigint, p_is_whole boolean, OUT admitted integer, OUT retry_after_ms bigint)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION public.append_events(p_users bytea, p_user_stream_counts integer[], p_streams bytea, p_stream_users integer[], p_run_users integer[], p_run_devices bytea, p_run_first_seqs bigint[], p_run_chain_prevs bytea, p_run_ends integer[], p_event_streams integer[], p_event_ids bytea, p_epochs bigint[], p_log_seqs bigint[], p_ttls_s bigint[], p_chains bytea, p_wires bytea, p_wire_ends integer[], p_max_streams bigint, p_quota bigint, OUT run_states integer[], OUT run_last_seqs bigint[], OUT run_firsts integer[], OUT run_lasts integer[], OUT run_causes integer[], OUT run_retries_ms bigint[], OUT stored_at_ms bigint, OUT user_seqs bigint[], OUT stream_seqs bigint[], OUT known_events integer[], OUT known_is_same boolean[], OUT known_user_seqs bigint[], OUT known_stream_seqs bigint[], OUT known_stored_at_ms bigint[])
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
$function$;

CREATE OR REPLACE FUNCTION public.append_run(p_user_id bytea, p_device_id bytea, p_first_seq bigint, p_count integer, p_chain_prev bytea, p_stream_id bytea, p_epoch bigint, p_first_log_seq bigint, p_last_log_seq bigint, p_event_ids bytea, p_ttls_s bigint[], p_chains bytea, p_wires bytea, p_wire_ends integer[], p_max_streams bigint, p_quota bigint, OUT first_user_seq bigint, OUT first_stream_seq bigint, OUT stored_at_ms bigint)
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
$function$;

CREATE OR REPLACE FUNCTION public.displacement_owner(p_user_id bytea, p_device_id bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION public.event_flags(p_wire bytea)
 RETURNS smallint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
AS $function$
  select get_byte(p_wire, 169)::smallint
$function$;

CREATE OR REPLACE FUNCTION public.event_inner_hash(p_wire bytea)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
AS $function$
  select sha256(
    '\x76616c697365206576656e742d696e6e657200'::bytea
    || sha256('\x76616c697365206576656e742d626f647900'::bytea || substring(p_wire, 1, octet_length(p_wire) - 64))
    || substring(p_wire, octet_length(p_wire) - 63)
  )
$function$;

CREATE OR REPLACE FUNCTION public.event_ttl_s(p_wire bytea)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
AS $function$
  select
    (get_byte(p_wire, 165)::bigint << 24)
    | (get_byte(p_wire, 166) << 16)
    | (get_byte(p_wire, 167) << 8)
    | get_byte(p_wire, 168)
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
