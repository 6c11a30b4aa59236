// `valise serve`: the server. The commands of this folder alone know the backend, and load it when they are asked for.

import type { AddCommand } from '../invocation.ts'
import { addServerFlags, type ServerFlags, toRawConfig } from './server-flags.ts'

export const addServe: AddCommand = (program, run) => {
  const command = program
    .command('serve')
    .description(
      'run the server until Ctrl-C; `valise config` shows all it can be told, and `valise doctor` examines it',
    )
  addServerFlags(command).action(
    run(async ({ output }, flags: ServerFlags) => {
      const { runServer } = await import('@valise/backend')
      return runServer({
        flags: toRawConfig(flags),
        print: (line) => process.stdout.write(`${line}\n`),
        printError: (line) => output.failure('server_not_started', line),
        isJson: output.isJson,
      })
    }),
  )
}
