// The database: in reach, new enough, set so that the promises hold, migrated as this version needs it, with room for
// this node's connections, and its clock. It is opened as the server opens it, and nothing is changed.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import { FolderLockedError } from '../db/folder-lock.ts'
import { type MigrationState, readMigrationState } from '../db/migrate.ts'
import { openPglite } from '../db/pglite.ts'
import { type Database, openPostgres } from '../db/postgres.ts'
import { readServerSettings, type ServerSettings } from '../db/queries/server-settings.ts'
import { readDatabaseBytes } from '../db/queries/server-state.ts'
import { tryAppendOnly } from '../db/queries/try-append.ts'
import { describeUnopened, describeUnreachable } from '../db/unopened.ts'
import { PrivateFileError } from '../files/private-file.ts'
import { createLog } from '../telemetry/log.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { checkClock } from './check-clock.ts'
import { describeStorage } from './describe-storage.ts'
import { type Finding, findingsOf, messageOf } from './finding.ts'

const findings = findingsOf('database')
const { ok, note, wrong } = findings
const MIB = 1024 * 1024

export function checkDatabase(config: Config): Promise<Finding[]> {
  return config.databaseUrl === undefined ? checkEmbedded(config) : checkPostgres(config, config.databaseUrl)
}

const quietParts = () => ({
  log: createLog({ level: 'silent' }),
  metrics: createMetrics().database,
  slowQueryMs: Number.MAX_SAFE_INTEGER,
})

async function checkEmbedded(config: Config): Promise<Finding[]> {
  const dataDir = join(config.dataDir, 'database')
  const mode = note(
    'the embedded database survives a crash of the process, but not every power cut',
    'where that matters, give the server a PostgreSQL with --database-url',
  )
  if (!existsSync(join(dataDir, 'cluster'))) return [ok('the embedded database will be made at the first start'), mode]
  try {
    const db = await openPglite({ ...quietParts(), dataDir })
    try {
      const migrations = await readMigrationState(db)
      return [
        ok('the embedded database opens'),
        ...describeMigrations(migrations),
        ...(await checkAppend(db, migrations)),
        mode,
      ]
    } finally {
      await db.close()
    }
  } catch (error) {
    if (error instanceof FolderLockedError) return [ok('the embedded database is in use by a server that runs'), mode]
    // What is wrong with the folder is said of the files.
    if (error instanceof PrivateFileError) return [mode]
    return [
      wrong(
        `the embedded database does not open: ${messageOf(error)}`,
        `restore ${dataDir} from a backup, or move it away to begin anew`,
      ),
    ]
  }
}

async function checkPostgres(config: Config, url: string): Promise<Finding[]> {
  let db: Database
  try {
    db = await openPostgres({ ...quietParts(), url, poolSize: 2 })
  } catch (error) {
    const { text, remedy } = describeUnopened(error) ?? describeUnreachable(messageOf(error))
    return [wrong(text, remedy)]
  }
  try {
    const beforeMs = Date.now()
    const settings = await readServerSettings(db)
    const migrations = await readMigrationState(db)
    const reading = { theirsMs: settings.now_ms, beforeMs, afterMs: Date.now() }
    return [
      ...describeSettings(settings, config),
      ...describeMigrations(migrations),
      ...(await checkAppend(db, migrations)),
      describeSize(await readDatabaseBytes(db), config),
      checkClock(findings, 'the database', reading),
    ]
  } catch (error) {
    return [wrong(`PostgreSQL answers, and then fails: ${messageOf(error)}`, 'look into its own log')]
  } finally {
    await db.close()
  }
}

/** An event that is stored and taken back, where the tables are those of this version. */
async function checkAppend(db: Database, migrations: MigrationState): Promise<Finding[]> {
  if (migrations.type !== 'current') return []
  try {
    await tryAppendOnly(db)
    return [ok('an event can be stored (one was tried, and taken back)')]
  } catch (error) {
    return [
      wrong(
        `it answers, but no event can be stored: ${messageOf(error)}`,
        'mend what the message names; the log of the database has more',
      ),
    ]
  }
}

function describeSettings(settings: ServerSettings, { poolSize }: Config): Finding[] {
  const { version, fsync, full_page_writes, synchronous_commit, max_connections, used_connections } = settings
  const found = [ok(`PostgreSQL ${version} answers`)]
  if (settings.is_standby) {
    found.push(wrong('it is a standby, which takes no writes', 'name the primary in DATABASE_URL'))
  }
  if (!settings.may_create) {
    found.push(
      note('this user may make no tables here', 'grant create on the schema, or let another user run the migrations'),
    )
  }
  if (fsync !== 'on') {
    found.push(wrong('fsync is off: a power cut can lose what was acknowledged', 'set fsync = on in postgresql.conf'))
  }
  if (full_page_writes !== 'on') {
    found.push(
      note(
        'full_page_writes is off: a power cut can damage the database',
        'set it on, unless the file system writes pages whole',
      ),
    )
  }
  if (fsync === 'on' && full_page_writes === 'on') {
    found.push(ok(`commits are durable (synchronous_commit ${synchronous_commit}, fsync on)`))
  }
  const free = max_connections - used_connections
  if (free < poolSize) {
    found.push(
      note(
        `${used_connections} of its ${max_connections} connections are used, and this node wants up to ${poolSize}`,
        'raise max_connections, or lower VALISE_POOL_SIZE; a node that runs already has its own among the used',
      ),
    )
  } else {
    found.push(ok(`${free} of its ${max_connections} connections are free for the ${poolSize} of this node`))
  }
  return found
}

function describeSize(bytes: number, { storage: { maxDatabaseBytes, marks } }: Config): Finding {
  if (maxDatabaseBytes === undefined) {
    const size = `it takes ${Math.floor(bytes / MIB)} MiB`
    return ok(
      `${size}; without VALISE_DATABASE_BYTES the server does not know how much it may take, and closes nothing`,
    )
  }
  const remedy = 'enlarge the disk of the database and raise VALISE_DATABASE_BYTES, or lower VALISE_USER_BYTES'
  const left = { bytes: Math.max(0, maxDatabaseBytes - bytes), where: 'of VALISE_DATABASE_BYTES', remedy }
  return describeStorage(findings, left, marks)
}

function describeMigrations(state: MigrationState): Finding[] {
  switch (state.type) {
    case 'current':
      return [ok(`its tables are those of this version (migration ${state.number})`)]
    case 'behind':
      return [ok(`the next start brings it from migration ${state.applied} to ${state.needed}`)]
    case 'ahead':
      return [
        wrong(
          `it has migration ${state.number} (${state.name}) of a newer version; this one does not start on it`,
          'install that version',
        ),
      ]
    case 'changed':
      return [
        wrong(
          `migration ${state.number} (${state.name}) is another than this version's`,
          'restore the database from a backup, or install the version that made it',
        ),
      ]
  }
}
