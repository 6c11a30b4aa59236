// `valise admin restored`: said once, after a backup of the database was put back.

import type { Command } from 'commander'
import { EXIT } from '../failure.ts'
import { watchInterruption } from '../interruption.ts'
import type { Run } from '../invocation.ts'
import { addDatabaseOptions, type DatabaseOptions, readConfig } from './database-options.ts'

export function addRestored(admin: Command, run: Run): void {
  const command = admin
    .command('restored')
    .description(
      'say that a backup of the database was put back: devices then stop, and offer to publish again what it lacks',
    )
  addDatabaseOptions(command).action(
    run(async ({ output, prompt }, database: DatabaseOptions) => {
      prompt.requireSomeone()
      const question = 'Was a backup put back? Every device will stop, until its user says `valise republish`.'
      if (!(await prompt.confirm(question, watchInterruption(output)))) {
        output.failure('declined', 'Declined. Nothing was changed.')
        return EXIT.failure
      }
      const backend = await import('@valise/backend')
      const { logEpoch } = await backend.operate(await readConfig(database), backend.restoredCommand, {})
      output.result(
        `The log has a new epoch, ${logEpoch}. Tell your users to run \`valise republish\` on each device.`,
        {
          type: 'restored',
          log_epoch: logEpoch,
        },
      )
      return EXIT.success
    }),
  )
}
