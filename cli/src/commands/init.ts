// `valise init`: makes a user with this device as its first, and shows the recovery phrase, once.

import { SetupError } from '@valise/client'
import { toHex } from '@valise/protocol'
import { describeAccount } from '../account-fields.ts'
import { EXIT } from '../failure.ts'
import { withNewHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'
import { addServerOptions, type ServerOptions, toServerOptions } from '../server-options.ts'

interface InitOptions extends ServerOptions {
  readonly invite?: string
}

export const addInit: AddCommand = (program, run) => {
  const command = program.command('init').description('make a user with this device as its first')
  addServerOptions(command)
    .option('--invite <code>', 'invitation, on a server that takes new users by invitation only')
    .action(
      run(async ({ output, prompt, homeDir }, { invite, ...options }: InitOptions) => {
        const signal = watchInterruption(output)
        return withNewHome(homeDir, async (device) => {
          const initialise = (invitation: string | undefined) =>
            device.initialise({ ...toServerOptions(options), invitation, signal })
          const { account, recoveryPhrase } = await initialise(invite).catch(async (error: unknown) => {
            const isWanted = error instanceof SetupError && error.code === 'invitation_required'
            if (!isWanted || !prompt.canAsk) throw error
            return initialise(await prompt.ask(`${error.message} Your invitation: `, signal))
          })
          const text = [
            `This device, "${account.name}", is the first of a new user.`,
            '',
            `  user         ${toHex(account.userId)}`,
            `  fingerprint  ${account.deviceFingerprint}`,
            `  home         ${homeDir}`,
            '',
            'Recovery phrase. Write it down and keep it away from this device. It is shown this once and stored nowhere.',
            'Whoever has it can read everything; without it, losing all devices loses everything.',
            '',
            `  ${recoveryPhrase}`,
          ]
          output.result(text.join('\n'), {
            type: 'initialised',
            ...describeAccount(account, homeDir),
            recovery_phrase: recoveryPhrase,
          })
          return EXIT.success
        })
      }),
    )
}
