// What each connection is set to before it is used, whatever the server, the database or the role says: the forms in
// which values are read, the time-outs, and the schema. Set by a query and not at connecting, because PgBouncer refuses
// start-up parameters that it does not know.

import type { Queryable } from './database.ts'
import { DatabaseRefusedError, ReadOnlyError } from './startup-checks.ts'
import type { Statement } from './statement.ts'

export interface SessionSettings {
  readonly statementTimeoutMs: number
  readonly idleInTransactionTimeoutMs: number
}

export interface SettledConnection {
  /** Of its backend. */
  readonly pid: number
  /** Where its tables are made and found. */
  readonly schema: string
}

/** Setting by value; each is one that a statement or the reading of a row depends on. */
const FIXED: Readonly<Record<string, string>> = {
  // A statement that waited for a lock sees what its holder wrote. At a stricter level it would fail instead.
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  bytea_output: 'hex',
  client_encoding: 'UTF8',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  transform_null_equals: 'off',
  // statement_timeout alone bounds a wait.
  lock_timeout: '0',
  idle_session_timeout: '0',
}

const fixedSettings = Object.entries(FIXED)
  .map(([name, value]) => `set_config('${name}', '${value}', false)`)
  .join(',\n      ')

/** Of its own and first: the time-out of a role holds until it is changed, for this statement too, which is over at once. */
const setStatementTimeout: Statement = { name: '', text: `select set_config('statement_timeout', $1, false)` }

/** `$1` is a time-out in milliseconds; `$2` the schema of the first connection, null for the first itself. */
const settle: Statement = {
  name: '',
  text: `
    select
      pg_backend_pid() as pid,
      current_setting('synchronous_commit') as synchronous_commit,
      current_setting('session_replication_role') as replication_role,
      current_setting('transaction_read_only') = 'on' or pg_is_in_recovery() as is_read_only,
      set_config('idle_in_transaction_session_timeout', $1, false) as idle_timeout,
      coalesce($2::text, current_schema()) as schema,
      -- PostgreSQL 17 and newer.
      (select set_config(s.name, '0', false) from pg_settings as s where s.name = 'transaction_timeout') as transaction,
      ${fixedSettings}`,
}

const setSchema: Statement = {
  name: '',
  text: `select set_config('search_path', quote_ident($1) || ', pg_temp', false)`,
}

interface SettledRow {
  readonly pid: number
  readonly synchronous_commit: string
  readonly replication_role: string
  readonly is_read_only: boolean
  readonly schema: string | null
}

/**
 * Sets a new connection. `schema` is that of the connections before it, so that all see the same tables. Throws a
 * DatabaseRefusedError where a setting breaks a promise, and a ReadOnlyError where nothing can be written.
 */
export async function settleConnection(
  connection: Queryable,
  { statementTimeoutMs, idleInTransactionTimeoutMs }: SessionSettings,
  schema: string | undefined,
): Promise<SettledConnection> {
  await connection.query(setStatementTimeout, [String(statementTimeoutMs)])
  const [row] = await connection.query<SettledRow>(settle, [String(idleInTransactionTimeoutMs), schema ?? null])
  if (row === undefined) throw new DatabaseRefusedError('PostgreSQL did not tell its settings')
  if (row.is_read_only) throw new ReadOnlyError()
  if (row.synchronous_commit === 'off') {
    throw new DatabaseRefusedError(
      'PostgreSQL has synchronous_commit off, so a commit is acknowledged before it is on disk. ' +
        'Set it to on (or local) for the server, the database and the role.',
    )
  }
  if (row.replication_role !== 'origin') {
    throw new DatabaseRefusedError(
      `PostgreSQL has session_replication_role ${row.replication_role} for this role, so foreign keys are not checked. ` +
        'Set it to origin for the database and the role.',
    )
  }
  if (row.schema === null || /^pg_|^information_schema$/.test(row.schema)) {
    throw new DatabaseRefusedError(
      'PostgreSQL names no schema for the tables: the search_path of this role and database has none that exists. ' +
        'Create the schema, or set search_path to one (public, for example).',
    )
  }
  // Nothing in another schema of the path can take a table's place, temporary tables least of all.
  await connection.query(setSchema, [row.schema])
  return { pid: row.pid, schema: row.schema }
}
