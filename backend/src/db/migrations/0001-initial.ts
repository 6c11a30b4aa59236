// The first schema: every table of the server but for the function that appends events (0002).
// Every primary key begins with user_id, so that the tables can be distributed by it; pairings and server_state
// belong to no user. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

const users = `
create table users (
  user_id bytea not null,
  last_user_seq bigint not null default 0,
  stream_count bigint not null default 0,
  log_seq bigint not null,
  log_head bytea not null,
  key_epoch bigint not null,
  epoch_log_seq bigint not null,
  created_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint users_pkey primary key (user_id),
  constraint users_user_id_length check (octet_length(user_id) = 32),
  constraint users_log_head_length check (octet_length(log_head) = 32)
) with (fillfactor = 50)`

// Half of each page stays free where a counter moves with every batch: the new row version then lands in the same
// page and no index is touched.
const devices = `
create table devices (
  user_id bytea not null,
  device_id bytea not null,
  ed_pub bytea not null,
  role smallint not null,
  added_log_seq bigint not null,
  added_at timestamptz not null default now(),
  revoked_log_seq bigint,
  revoked_at timestamptz,
  last_device_seq bigint not null default 0,
  last_chain bytea not null,
  cursor bigint not null default 0,
  last_seen_at timestamptz,
  constraint devices_pkey primary key (user_id, device_id),
  constraint devices_user_fkey foreign key (user_id) references users (user_id),
  constraint devices_device_id_length check (octet_length(device_id) = 16),
  constraint devices_ed_pub_length check (octet_length(ed_pub) = 32),
  constraint devices_last_chain_length check (octet_length(last_chain) = 32),
  constraint devices_role_known check (role in (1, 2, 3)),
  constraint devices_revocation_whole check ((revoked_at is null) = (revoked_log_seq is null))
) with (fillfactor = 50)`

const streams = `
create table streams (
  user_id bytea not null,
  stream_id bytea not null,
  last_stream_seq bigint not null,
  constraint streams_pkey primary key (user_id, stream_id),
  constraint streams_stream_id_length check (octet_length(stream_id) = 16)
) with (fillfactor = 50)`

// No foreign keys on the two hot tables: append_events holds the users row and checks the device itself.
const events = `
create table events (
  user_id bytea not null,
  user_seq bigint not null,
  device_id bytea not null,
  device_seq bigint not null,
  stream_id bytea not null,
  stream_seq bigint not null,
  event_id bytea not null,
  stored_at timestamptz not null,
  expires_at timestamptz,
  leaf bytea not null,
  wire bytea,
  constraint events_pkey primary key (user_id, user_seq),
  constraint events_device_seq_key unique (user_id, device_id, device_seq),
  constraint events_stream_seq_key unique (user_id, stream_id, stream_seq),
  constraint events_event_id_length check (octet_length(event_id) = 16),
  constraint events_leaf_length check (octet_length(leaf) = 32)
)`

const deviceLog = `
create table device_log (
  user_id bytea not null,
  log_seq bigint not null,
  entry bytea not null,
  appended_at timestamptz not null default now(),
  constraint device_log_pkey primary key (user_id, log_seq),
  constraint device_log_user_fkey foreign key (user_id) references users (user_id)
)`

const keyEpochs = `
create table key_epochs (
  user_id bytea not null,
  epoch bigint not null,
  log_seq bigint not null,
  prev_box bytea,
  constraint key_epochs_pkey primary key (user_id, epoch),
  constraint key_epochs_user_fkey foreign key (user_id) references users (user_id)
)`

const keyEnvelopes = `
create table key_envelopes (
  user_id bytea not null,
  device_id bytea not null,
  epoch bigint not null,
  box bytea not null,
  constraint key_envelopes_pkey primary key (user_id, device_id, epoch),
  constraint key_envelopes_device_fkey foreign key (user_id, device_id) references devices (user_id, device_id)
)`

// What concerns the server and no user stands under the user_id of 32 zero bytes.
const auditLog = `
create table audit_log (
  user_id bytea not null,
  audit_seq bigint not null,
  recorded_at timestamptz not null default now(),
  kind text not null,
  detail jsonb not null,
  prev_hash bytea not null,
  hash bytea not null,
  constraint audit_log_pkey primary key (user_id, audit_seq)
)`

const pairings = `
create table pairings (
  mailbox_id bytea not null,
  slot smallint not null,
  body bytea not null,
  expires_at timestamptz not null,
  constraint pairings_pkey primary key (mailbox_id, slot),
  constraint pairings_mailbox_id_length check (octet_length(mailbox_id) = 16),
  constraint pairings_slot_range check (slot between 0 and 7),
  constraint pairings_body_length check (octet_length(body) <= 8192)
)`

const serverState = `
create table server_state (
  is_only_row boolean not null default true,
  log_epoch bytea not null,
  constraint server_state_pkey primary key (is_only_row),
  constraint server_state_one_row check (is_only_row),
  constraint server_state_log_epoch_length check (octet_length(log_epoch) = 16)
)`

export const initial: Migration = {
  number: 1,
  name: 'initial',
  statements: [
    users,
    devices,
    // A recovery device is found without its user (PROTOCOL A, mode 2).
    'create index devices_device_id_idx on devices (device_id)',
    streams,
    events,
    // Ciphertext does not compress: out of line, and no attempt at it.
    'alter table events alter column wire set storage external',
    `create index events_expires_at_idx on events (expires_at) where expires_at is not null and wire is not null`,
    deviceLog,
    keyEpochs,
    keyEnvelopes,
    auditLog,
    pairings,
    'create index pairings_expires_at_idx on pairings (expires_at)',
    serverState,
    // 122 bits of the server's strong random source.
    'insert into server_state (log_epoch) values (uuid_send(gen_random_uuid()))',
  ],
}
