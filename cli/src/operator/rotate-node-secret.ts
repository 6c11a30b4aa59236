// `valise admin rotate-node-secret`: a new secret for what nodes say to each other.

import type { Command } from 'commander'
import { EXIT } from '../failure.ts'
import type { Run } from '../invocation.ts'
import { addDatabaseOptions, type DatabaseOptions, readConfig } from './database-options.ts'

export function addRotateNodeSecret(admin: Command, run: Run): void {
  const command = admin
    .command('rotate-node-secret')
    .description('replace the secret that nodes authenticate their messages in Redis with; nothing has to be restarted')
  addDatabaseOptions(command).action(
    run(async ({ output }, database: DatabaseOptions) => {
      const backend = await import('@valise/backend')
      const outcome = await backend.operate(await readConfig(database), backend.rotateSecretCommand, {})
      if (outcome.type === 'too_soon') {
        const seconds = Math.ceil(outcome.retryAfterMs / 1000)
        output.failure(
          'too_soon',
          `Another change of the node secret is under way. Nothing was changed; try again in ${seconds} s.`,
        )
        return EXIT.failure
      }
      const seconds = Math.ceil(outcome.oldEndsInMs / 1000)
      output.result(
        `The node secret is now number ${outcome.number}. The old one stops working in ${seconds} s; leave the nodes running.`,
        { type: 'node_secret_rotated', number: outcome.number, old_ends_in_ms: outcome.oldEndsInMs },
      )
      return EXIT.success
    }),
  )
}
