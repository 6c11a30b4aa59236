// What a PostgreSQL server must and should be set to. A setting that breaks a promise refuses the start and says why;
// one that only weakens it is a warning.

import type { Log } from '../telemetry/log.ts'
import type { Queryable } from './database.ts'
import type { Statement } from './statement.ts'

const OLDEST_VERSION = 15

/** The database cannot keep the promises; `message` says which setting and what to do. */
export class DatabaseRefusedError extends Error {
  override readonly name = 'DatabaseRefusedError'
}

/** The server takes no writes: a standby, or a primary that was set to read-only. */
export class ReadOnlyError extends Error {
  override readonly name = 'ReadOnlyError'
  /** SQLSTATE read_only_sql_transaction, which a write would get. */
  readonly code = '25006'

  constructor() {
    super('PostgreSQL takes no writes here: it is a standby, or default_transaction_read_only is on')
  }
}

const readSettings: Statement = {
  name: 'read_settings',
  text: `
    select
      current_setting('server_version_num')::integer as version,
      current_setting('fsync') = 'on' as is_fsync_on,
      current_setting('full_page_writes') = 'on' as is_full_page_writes_on`,
}

interface Settings {
  readonly version: number
  readonly is_fsync_on: boolean
  readonly is_full_page_writes_on: boolean
}

export async function checkServer(db: Queryable, log: Log): Promise<void> {
  const [settings] = await db.query<Settings>(readSettings, [])
  if (settings === undefined) throw new DatabaseRefusedError('PostgreSQL did not tell its settings')
  const major = Math.floor(settings.version / 10_000)
  if (major < OLDEST_VERSION) {
    throw new DatabaseRefusedError(`PostgreSQL ${major} is too old: version ${OLDEST_VERSION} or newer is needed`)
  }
  if (!settings.is_fsync_on) {
    log.warn(
      { event: 'db.settings.weak', setting: 'fsync' },
      'PostgreSQL runs with fsync off: a power cut can lose or damage what was acknowledged',
    )
  }
  if (!settings.is_full_page_writes_on) {
    log.warn(
      { event: 'db.settings.weak', setting: 'full_page_writes' },
      'PostgreSQL runs with full_page_writes off: a power cut can damage the database unless the file system writes pages whole',
    )
  }
}
