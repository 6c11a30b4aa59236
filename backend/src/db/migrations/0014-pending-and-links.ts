// Suspended devices, epochs with several links, and what a manager asked for without the phrase (decision 0040).
// Logs of the old EPOCH are refused by the verifier, so no link of theirs is kept. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

export const pendingAndLinks: Migration = {
  number: 14,
  name: 'pending-and-links',
  statements: [
    // The cut of a suspended or revoked device, as its entry says: what the device wrote beyond it is void.
    `alter table devices
      add column suspended_log_seq bigint,
      add column if not exists suspended_at timestamptz,
      add column cut_device_seq bigint,
      add column cut_chain bytea`,
    // The device in whose 24 hours the entry counts; null for an entry that counts in nobody's.
    'alter table device_log add column counted_device_id bytea',
    `create index device_log_counted_idx on device_log (user_id, appended_at)
      where counted_device_id is not null`,
    'alter table key_epochs drop column prev_box',
    `create table key_links (
      user_id bytea not null,
      epoch bigint not null,
      prev_epoch bigint not null,
      box bytea not null,
      constraint key_links_pkey primary key (user_id, epoch, prev_epoch),
      constraint key_links_user_fkey foreign key (user_id) references users (user_id)
    )`,
    // One row while the end of an account waits.
    `create table pending_closes (
      user_id bytea not null,
      log_seq bigint not null,
      asked_at timestamptz not null default now(),
      constraint pending_closes_pkey primary key (user_id),
      constraint pending_closes_user_fkey foreign key (user_id) references users (user_id)
    )`,
    'create index pending_closes_asked_at_idx on pending_closes (asked_at)',
  ],
}
