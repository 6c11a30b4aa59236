// Mailboxes of pairing devices (PROTOCOL F), with a number short enough to type, two seats and an end; and what users and
// addresses have used of their limits. A mailbox belongs to no user. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

const mailboxes = `
create table pairing_mailboxes (
  mailbox_id bytea not null,
  nameplate integer not null,
  displayer_hash bytea not null,
  joiner_hash bytea,
  joiner_address text,
  ending text,
  opened_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint pairing_mailboxes_pkey primary key (mailbox_id),
  constraint pairing_mailboxes_nameplate_key unique (nameplate),
  constraint pairing_mailboxes_mailbox_id_length check (octet_length(mailbox_id) = 16),
  constraint pairing_mailboxes_nameplate_range check (nameplate between 1 and 999999),
  constraint pairing_mailboxes_displayer_hash_length check (octet_length(displayer_hash) = 32),
  constraint pairing_mailboxes_joiner_hash_length check (octet_length(joiner_hash) = 32),
  constraint pairing_mailboxes_ending check (ending in ('failed', 'ended'))
)`

const messages = `
create table pairing_messages (
  mailbox_id bytea not null,
  slot smallint not null,
  body bytea not null,
  constraint pairing_messages_pkey primary key (mailbox_id, slot),
  constraint pairing_messages_mailbox_id_fkey
    foreign key (mailbox_id) references pairing_mailboxes (mailbox_id) on delete cascade,
  constraint pairing_messages_slot_range check (slot between 0 and 7),
  constraint pairing_messages_body_length check (octet_length(body) between 1 and 8192)
)`

const openings = `
create table pairing_openings (
  user_id bytea not null,
  opened_at timestamptz[] not null,
  constraint pairing_openings_pkey primary key (user_id)
)`

const addresses = `
create table pairing_addresses (
  kind text not null,
  address text not null,
  used_at timestamptz[] not null,
  constraint pairing_addresses_pkey primary key (kind, address),
  constraint pairing_addresses_kind check (kind in ('opening', 'failed_join'))
)`

export const pairing: Migration = {
  number: 8,
  name: 'pairing',
  statements: [
    mailboxes,
    'create index pairing_mailboxes_expires_at_idx on pairing_mailboxes (expires_at)',
    messages,
    openings,
    addresses,
  ],
}
