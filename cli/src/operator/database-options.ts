// The flags by which serve and the operator's commands name a server's database: the same words for the same place.

import type { RawConfig } from '@valise/backend'
import type { Command } from 'commander'

export interface DatabaseOptions {
  readonly data?: string
  readonly databaseUrl?: string
}

export const addDatabaseOptions = (command: Command): Command =>
  command
    .option('--data <dir>', 'folder of identity key and embedded database (VALISE_DATA_DIR, default ~/.valise-server)')
    .option('--database-url <url>', 'PostgreSQL 15 or newer instead of the embedded database (DATABASE_URL)')

export const toDatabaseConfig = ({ data, databaseUrl }: DatabaseOptions): RawConfig => ({
  ...(data === undefined ? {} : { VALISE_DATA_DIR: data }),
  ...(databaseUrl === undefined ? {} : { DATABASE_URL: databaseUrl }),
})
