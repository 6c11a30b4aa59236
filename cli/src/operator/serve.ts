// `valise serve`: the server. The commands of this folder alone know the backend, and load it when they are asked for.

import type { RawConfig } from '@valise/backend'
import type { AddCommand } from '../invocation.ts'

interface ServeOptions {
  readonly host?: string
  readonly port?: string
  readonly adminPort?: string
  readonly data?: string
  readonly databaseUrl?: string
  readonly redisUrl?: string
}

export const addServe: AddCommand = (program, run) => {
  program
    .command('serve')
    .description('run the server until Ctrl-C; all it can be told otherwise is in the README, by environment')
    .option('--host <address>', 'address to listen on (HOST, default 127.0.0.1)')
    .option('--port <number>', 'public port (PORT, default 8787)')
    .option('--admin-port <number>', 'port of /live, /ready and /metrics (ADMIN_PORT, default 8788)')
    .option('--data <dir>', 'folder of identity key and embedded database (VALISE_DATA_DIR, default ~/.valise-server)')
    .option('--database-url <url>', 'PostgreSQL 15 or newer instead of the embedded database (DATABASE_URL)')
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

function toConfig({ host, port, adminPort, data, databaseUrl, redisUrl }: ServeOptions): RawConfig {
  return {
    ...(host === undefined ? {} : { HOST: host }),
    ...(port === undefined ? {} : { PORT: port }),
    ...(adminPort === undefined ? {} : { ADMIN_PORT: adminPort }),
    ...(data === undefined ? {} : { VALISE_DATA_DIR: data }),
    ...(databaseUrl === undefined ? {} : { DATABASE_URL: databaseUrl }),
    ...(redisUrl === undefined ? {} : { REDIS_URL: redisUrl }),
  }
}
