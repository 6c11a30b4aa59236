// The secrets that all nodes of a server share and nobody else has: numbered, 32 random bytes each, two at most. The
// first is made by the first node that starts. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

const table = `
create table node_secrets (
  number integer not null,
  secret bytea not null,
  made_at timestamptz not null default now(),
  constraint node_secrets_pkey primary key (number),
  constraint node_secrets_number_range check (number > 0),
  constraint node_secrets_secret_length check (octet_length(secret) = 32)
)`

export const nodeSecrets: Migration = { number: 15, name: 'node-secrets', statements: [table] }
