// Each event keeps the chain after it in place of its leaf (decision 0034): equality of chains is equality of events. The
// parts of its leaf are computed when its bytes go. A device keeps the log_seq of its newest event, which never falls, and
// the log epoch keeps the time it began. Refuses a database with events of the older form, and then changes nothing.
// Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

const refuseOlderEvents = `
do $$
begin
  if exists (select from events) then
    raise exception 'This database holds events in an older form, which this version cannot read. Nothing was changed. Export them with the version that wrote them ("valise export"), then start this version on an empty database.';
  end if;
end
$$`

const hexOf = (text: string): string => Buffer.from(text, 'latin1').toString('hex')

/** hash("event-inner", hash("event-body", H | LP(ct)) | signature) of an event's bytes (PROTOCOL E). */
const innerHash = `
create function event_inner_hash(p_wire bytea)
returns bytea
language sql
immutable
strict
parallel safe
as $$
  select sha256(
    '\\x${hexOf('valise event-inner\0')}'::bytea
    || sha256('\\x${hexOf('valise event-body\0')}'::bytea || substring(p_wire, 1, octet_length(p_wire) - 64))
    || substring(p_wire, octet_length(p_wire) - 63)
  )
$$`

/** `ttl_s` of an event's bytes: u32 at 165. */
const ttl = `
create function event_ttl_s(p_wire bytea)
returns bigint
language sql
immutable
strict
parallel safe
as $$
  select
    (get_byte(p_wire, 165)::bigint << 24)
    | (get_byte(p_wire, 166) << 16)
    | (get_byte(p_wire, 167) << 8)
    | get_byte(p_wire, 168)
$$`

/** The byte of flags of an event's bytes, at 169. */
const flags = `
create function event_flags(p_wire bytea)
returns smallint
language sql
immutable
strict
parallel safe
as $$
  select get_byte(p_wire, 169)::smallint
$$`

export const eventChains: Migration = {
  number: 11,
  name: 'event-chains',
  statements: [
    refuseOlderEvents,
    `alter table events
      drop column leaf,
      add column chain bytea not null,
      add column inner_hash bytea,
      add column ttl_s bigint,
      add column flags smallint`,
    innerHash,
    ttl,
    flags,
    `alter table devices
      add column last_log_seq bigint not null default 0,
      add column if not exists suspended_at timestamptz`,
    'update devices set last_log_seq = added_log_seq',
    'alter table server_state add column log_epoch_at timestamptz not null default now()',
  ],
}
