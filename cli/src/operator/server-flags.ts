// The flags that stand for variables of the server's configuration, the same for every command that takes one.

import type { RawConfig } from '@valise/backend'
import type { Command } from 'commander'
import { addDatabaseOptions, type DatabaseOptions, toDatabaseConfig } from './database-options.ts'

export interface ServerFlags extends DatabaseOptions {
  readonly host?: string
  readonly port?: string
  readonly adminPort?: string
  readonly redisUrl?: string
}

export function addServerFlags(command: Command): Command {
  command
    .option('--host <address>', 'address to listen on (HOST, default 127.0.0.1)')
    .option('--port <number>', 'public port (PORT, default 8787)')
    .option('--admin-port <number>', 'port of status page, /live, /ready and /metrics (ADMIN_PORT, default 8788)')
  return addDatabaseOptions(command).option(
    '--redis-url <url>',
    'Redis, to run several nodes as one (REDIS_URL, where no other user sees its password)',
  )
}

export function toRawConfig({ host, port, adminPort, redisUrl, ...database }: ServerFlags): RawConfig {
  return {
    ...toDatabaseConfig(database),
    ...(host === undefined ? {} : { HOST: host }),
    ...(port === undefined ? {} : { PORT: port }),
    ...(adminPort === undefined ? {} : { ADMIN_PORT: adminPort }),
    ...(redisUrl === undefined ? {} : { REDIS_URL: redisUrl }),
  }
}
