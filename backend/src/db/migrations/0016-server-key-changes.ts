// The signed changes of the server's key (KEY-2): one for each key that was changed. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

export const serverKeyChanges: Migration = {
  number: 16,
  name: 'server-key-changes',
  statements: [
    `
create table server_key_changes (
  old_fingerprint bytea not null,
  change bytea not null,
  changed_at timestamptz not null default clock_timestamp(),
  constraint server_key_changes_pkey primary key (old_fingerprint),
  constraint server_key_changes_fingerprint_length check (octet_length(old_fingerprint) = 32),
  constraint server_key_changes_change_length check (octet_length(change) = 225)
)`,
  ],
}
