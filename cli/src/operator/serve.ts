// `valise serve`: the server. The commands of this folder alone know the backend, and load it when they are asked for.

import type { RawConfig } from '@valise/backend'
import type { AddCommand } from '../invocation.ts'
import { addDatabaseOptions, type DatabaseOptions, toDatabaseConfig } from './database-options.ts'

interface ServeOptions extends DatabaseOptions {
  readonly host?: string
  readonly port?: string
  readonly adminPort?: string
  readonly redisUrl?: string
}

export const addServe: AddCommand = (program, run) => {
  const command = program
    .command('serve')
    .description('run the server until Ctrl-C; all it can be told otherwise is in the README, by environment')
    .option('--host <address>', 'address to listen on (HOST, default 127.0.0.1)')
    .option('--port <number>', 'public port (PORT, default 8787)')
    .option('--admin-port <number>', 'port of /live, /ready and /metrics (ADMIN_PORT, default 8788)')
  addDatabaseOptions(command)
    .option('--redis-url <url>', 'Redis, to run several nodes as one (REDIS_URL)')
    .action(
      run(async ({ output }, options: ServeOptions) => {
        const { runServer } = await import('@valise/backend')
        return runServer({
          flags: toConfig(options),
          print: (line) => process.stdout.write(`${line}\n`),
          printError: (line) => output.failure('server_not_started', line),
          isJson: output.isJson,
        })
      }),
    )
}

function toConfig({ host, port, adminPort, redisUrl, ...database }: ServeOptions): RawConfig {
  return {
    ...toDatabaseConfig(database),
    ...(host === undefined ? {} : { HOST: host }),
    ...(port === undefined ? {} : { PORT: port }),
    ...(adminPort === undefined ? {} : { ADMIN_PORT: adminPort }),
    ...(redisUrl === undefined ? {} : { REDIS_URL: redisUrl }),
  }
}
