// What the server holds of each user, beside the hot row of `users` so that no publisher waits for who counts or prunes:
// how many bytes, counted up to which event, and up to where the bytes are gone. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

export const userStorage: Migration = {
  number: 7,
  name: 'user-storage',
  statements: [
    `create table user_storage (
      user_id bytea not null,
      counted_through bigint not null default 0,
      stored_bytes bigint not null default 0,
      pruned_through bigint not null default 0,
      oldest_stored_at timestamptz,
      constraint user_storage_pkey primary key (user_id),
      constraint user_storage_user_fkey foreign key (user_id) references users (user_id),
      constraint user_storage_not_negative check (stored_bytes >= 0),
      constraint user_storage_pruned_is_counted check (pruned_through <= counted_through)
    )`,
    'create index user_storage_stored_bytes_idx on user_storage (stored_bytes)',
    `create index user_storage_oldest_idx on user_storage (oldest_stored_at)
      where oldest_stored_at is not null`,
    `insert into user_storage (user_id)
      select u.user_id
      from users as u
      where u.deleted_at is null`,
  ],
}
