// The highest number of a device whose session is known to have begun. A number alone says little: its socket may have
// gone, or the database's answer been lost, before there was a session (SES-3). Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

export const confirmedSessions: Migration = {
  number: 9,
  name: 'confirmed-sessions',
  statements: ['alter table devices add column begun_session_number bigint not null default 0'],
}
