// The audit log is only ever added to: whoever may write the tables cannot change a record by mistake, and what retention
// takes away is found by its age. Frozen: a change is a new migration.

import type { Migration } from './migration.ts'

export const auditLogIsAppendOnly: Migration = {
  number: 6,
  name: 'audit-log-is-append-only',
  statements: [
    `create function refuse_audit_change() returns trigger
language plpgsql
as $$
begin
  raise exception 'the audit log is only ever added to' using errcode = 'restrict_violation';
end
$$`,
    `create trigger audit_log_append_only
before update on audit_log
for each row execute function refuse_audit_change()`,
    'create index audit_log_recorded_at_idx on audit_log (recorded_at)',
    'alter table audit_log add constraint audit_log_hash_length check (octet_length(hash) = 32 and octet_length(prev_hash) = 32)',
  ],
}
