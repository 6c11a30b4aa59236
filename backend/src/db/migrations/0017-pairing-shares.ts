// Places of pairing are shared by address (PAIR-10): a mailbox knows the address that opened it, and can lose its place to
// another. Tries by number have one rate for all addresses (PAIR-11). Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

export const pairingShares: Migration = {
  number: 17,
  name: 'pairing-shares',
  statements: [
    `alter table pairing_mailboxes add column opener_address text not null default ''`,
    'alter table pairing_mailboxes alter column opener_address drop default',
    'create index pairing_mailboxes_opener_address_idx on pairing_mailboxes (opener_address)',
    'alter table pairing_mailboxes drop constraint pairing_mailboxes_nameplate_range',
    `
alter table pairing_mailboxes
  add constraint pairing_mailboxes_nameplate_range check (nameplate between 1 and 999999999)`,
    'alter table pairing_mailboxes drop constraint pairing_mailboxes_ending',
    `
alter table pairing_mailboxes
  add constraint pairing_mailboxes_ending check (ending in ('failed', 'ended', 'evicted'))`,
    `
create table pairing_rates (
  kind text not null,
  tokens double precision not null,
  filled_at timestamptz not null,
  constraint pairing_rates_pkey primary key (kind),
  constraint pairing_rates_kind check (kind in ('join'))
)`,
  ],
}
