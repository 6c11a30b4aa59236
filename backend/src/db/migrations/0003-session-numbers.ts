// Each session of a device gets the next number of its row when it begins, so every node orders the sessions of a
// device alike (SES-3). Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

export const sessionNumbers: Migration = {
  number: 3,
  name: 'session-numbers',
  statements: ['alter table devices add column session_number bigint not null default 0'],
}
