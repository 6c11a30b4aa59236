// What a PostgreSQL server is set to, for whoever examines it before a start.

import type { Queryable, Statement } from '../postgres.ts'

export interface ServerSettings {
  readonly version: string
  readonly fsync: string
  readonly full_page_writes: string
  readonly synchronous_commit: string
  readonly max_connections: number
  readonly used_connections: number
  readonly is_standby: boolean
  readonly may_create: boolean
  /** Unix milliseconds. */
  readonly now_ms: number
}

const readSettings: Statement = {
  name: 'read_server_settings',
  text: `
    select
      split_part(current_setting('server_version'), ' ', 1) as version,
      current_setting('fsync') as fsync,
      current_setting('full_page_writes') as full_page_writes,
      current_setting('synchronous_commit') as synchronous_commit,
      current_setting('max_connections')::integer as max_connections,
      (select sum(numbackends)::integer from pg_stat_database) as used_connections,
      pg_is_in_recovery() as is_standby,
      coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
      (extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms`,
}

/** Rejects when the server is out of reach. */
export async function readServerSettings(db: Queryable): Promise<ServerSettings> {
  const [settings] = await db.query<ServerSettings>(readSettings, [])
  if (settings === undefined) throw new Error('PostgreSQL did not tell its settings')
  return settings
}
