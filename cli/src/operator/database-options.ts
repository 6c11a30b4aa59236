// The flags by which serve and the operator's commands name a server's database: the same words for the same place.

import type { Config, RawConfig } from '@valise/backend'
import type { Command } from 'commander'
import { MisuseError } from '../failure.ts'

export interface DatabaseOptions {
  readonly data?: string
  readonly databaseUrl?: string
}

export const addDatabaseOptions = (command: Command): Command =>
  command
    .option('--data <dir>', 'folder of identity key and embedded database (VALISE_DATA_DIR, default ~/.valise-server)')
    .option(
      '--database-url <url>',
      'PostgreSQL 15 or newer instead of the embedded database (DATABASE_URL, where no other user sees its password)',
    )

export const toDatabaseConfig = ({ data, databaseUrl }: DatabaseOptions): RawConfig => ({
  ...(data === undefined ? {} : { VALISE_DATA_DIR: data }),
  ...(databaseUrl === undefined ? {} : { DATABASE_URL: databaseUrl }),
})

/** Throws a MisuseError. */
export async function readConfig(database: DatabaseOptions): Promise<Config> {
  const { ConfigError, parseConfig } = await import('@valise/backend')
  try {
    return parseConfig(toDatabaseConfig(database))
  } catch (error) {
    if (error instanceof ConfigError) throw new MisuseError('bad_configuration', error.message, { cause: error })
    throw error
  }
}
