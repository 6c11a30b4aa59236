// `valise init`: makes a user with this device as its first. The recovery phrase is shown once and, at a terminal, typed
// back before anything is made.

import { SetupError } from '@valise/client'
import { toHex } from '@valise/protocol'
import { describeAccount } from '../account-fields.ts'
import { createConfirmServer } from '../confirm-server.ts'
import { EXIT } from '../failure.ts'
import { withNewHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'
import { confirmSheet, describeSheet, sheetFields } from '../recovery-phrase.ts'
import { readSecret, seenByOthers } from '../secret-input.ts'
import { addServerOptions, type ServerOptions, toServerOptions } from '../server-options.ts'
import { printable } from '../visible.ts'

interface InitOptions extends ServerOptions {
  readonly invite?: string
  readonly inviteFile?: string
}

export const addInit: AddCommand = (program, run) => {
  const command = program.command('init').description('make a user with this device as its first')
  addServerOptions(command)
    .option(
      '--invite <code>',
      `invitation, on a server that takes new users by invitation only (${seenByOthers('--invite-file')})`,
    )
    .option('--invite-file <file>', 'read the invitation from this file (-: standard input)')
    .action(
      run(async (invocation, { invite, inviteFile, ...options }: InitOptions) => {
        const { output, prompt, homeDir } = invocation
        const signal = watchInterruption(output)
        const source = { given: invite, file: inviteFile, option: '--invite-file', what: 'the invitation' }
        const given = await readSecret(prompt, source, signal)
        const confirmServer = createConfirmServer(invocation, signal)
        const isTypedBack = prompt.isPersonThere && !output.isJson
        return withNewHome(homeDir, async (device) => {
          const initialise = (invitation: string | undefined) =>
            device.initialise({
              ...toServerOptions(options),
              invitation,
              confirmServer,
              ...(isTypedBack ? { confirmPhrase: (shown) => confirmSheet({ output, prompt }, shown, signal) } : {}),
              signal,
            })
          const { account, sheet } = await initialise(given).catch(async (error: unknown) => {
            const isWanted = error instanceof SetupError && error.code === 'invitation_required'
            if (!isWanted || !prompt.canAsk) throw error
            return initialise(await prompt.ask(`${error.message} Your invitation: `, signal))
          })
          const text = [
            `This device, "${printable(account.name)}", is the first of a new user.`,
            '',
            `  user         ${toHex(account.userId)}`,
            `  fingerprint  ${account.deviceFingerprint}`,
            `  home         ${homeDir}`,
            ...(isTypedBack ? [] : ['', describeSheet(sheet)]),
          ]
          output.result(text.join('\n'), {
            type: 'initialised',
            ...describeAccount(account, homeDir),
            ...sheetFields(sheet),
          })
          return EXIT.success
        })
      }),
    )
}
