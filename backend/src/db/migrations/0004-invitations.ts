// Invitations to make a new user (DEV-4): the hash of each that is not used yet. One that is used goes with the
// registration that uses it. They belong to no user. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

export const invitations: Migration = {
  number: 4,
  name: 'invitations',
  statements: [
    `
create table invitations (
  invitation_hash bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint invitations_pkey primary key (invitation_hash),
  constraint invitations_hash_length check (octet_length(invitation_hash) = 32)
)`,
    'create index invitations_expires_at_idx on invitations (expires_at)',
  ],
}
