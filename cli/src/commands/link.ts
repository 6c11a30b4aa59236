// `valise link`: asks to become a further device of a user, and waits until a device of his approves.

import { toHex } from '@valise/protocol'
import { describeAccount } from '../account-fields.ts'
import { EXIT } from '../failure.ts'
import { withNewHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'
import { addServerOptions, type ServerOptions, toServerOptions } from '../server-options.ts'
import { printable } from '../visible.ts'

export const addLink: AddCommand = (program, run) => {
  const command = program.command('link').description('ask to be a further device, and wait for the approval')
  addServerOptions(command).action(
    run(async ({ output, homeDir }, options: ServerOptions) => {
      const signal = watchInterruption(output)
      return withNewHome(homeDir, async (device) => {
        const account = await device.link({
          ...toServerOptions(options),
          signal,
          onRequest: ({ text: request, deviceFingerprint }) => {
            const text = [
              'On a device that you already have, type:',
              '',
              '  npx valise approve REQUEST',
              '',
              'with this line for REQUEST:',
              '',
              request,
              '',
              `It must show this fingerprint:  ${deviceFingerprint}`,
              'Waiting for the approval …',
            ]
            output.result(text.join('\n'), {
              type: 'request',
              request,
              device_fingerprint: deviceFingerprint,
            })
          },
        })
        output.result(
          `Approved. This device, "${printable(account.name)}", now belongs to user ${toHex(account.userId)}.`,
          {
            type: 'linked',
            ...describeAccount(account, homeDir),
          },
        )
        return EXIT.success
      })
    }),
  )
}
