// Runs an operator's command on the configured database: on PostgreSQL itself, in the embedded database when no server
// holds it, and otherwise by asking the server that does.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import type { Database } from '../db/database.ts'
import { FolderLockedError } from '../db/folder-lock.ts'
import { runMigrations } from '../db/migrate.ts'
import { openPglite } from '../db/pglite.ts'
import { openPostgres } from '../db/postgres.ts'
import { createLog } from '../telemetry/log.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { AdminAccessError, readAdminAccess } from './access.ts'
import type { AdminCommand } from './command.ts'

const TIMEOUT_MS = 30_000
const POOL_SIZE = 2

/** Rejects with words fit to show. */
export async function operate<Input, Output>(
  config: Config,
  command: AdminCommand<Input, Output>,
  input: Input,
): Promise<Output> {
  let db: Database
  try {
    db = await openDatabase(config)
  } catch (error) {
    if (error instanceof FolderLockedError) return askServer(config.dataDir, command, input)
    throw error
  }
  try {
    await runMigrations(db)
    return await command.run(db, input)
  } finally {
    await db.close()
  }
}

async function openDatabase({ databaseUrl, dataDir, logLevel, slowQueryMs }: Config): Promise<Database> {
  // Only what goes wrong is of interest here.
  const log = createLog({ level: logLevel === 'silent' ? 'silent' : 'error' })
  const parts = { log, metrics: createMetrics().database, slowQueryMs }
  if (databaseUrl !== undefined) return openPostgres({ ...parts, url: databaseUrl, poolSize: POOL_SIZE })
  const folder = join(dataDir, 'database')
  // A mistyped folder is refused, not made.
  if (!existsSync(folder)) {
    throw new AdminAccessError(`${dataDir} holds no database yet: name the server's folder, or start it there once`)
  }
  return openPglite({ ...parts, dataDir: folder })
}

async function askServer<Input, Output>(
  dataDir: string,
  { name, output }: AdminCommand<Input, Output>,
  input: Input,
): Promise<Output> {
  const { url, token } = await readAdminAccess(dataDir)
  const response = await fetch(`${url}/admin/${name}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
    body: JSON.stringify(input),
    redirect: 'error',
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch((error: unknown) => {
    throw new AdminAccessError(`The server that holds the database does not answer on its admin port, ${url}`, {
      cause: error,
    })
  })
  if (!response.ok) throw new AdminAccessError(`The server refused the command (HTTP ${response.status})`)
  const parsed = output.safeParse(await response.json())
  if (!parsed.success) throw new AdminAccessError('The server answered something else: is it of another version?')
  return parsed.data
}
