// `valise trust`: the user has compared the server's new fingerprint with its operator.

import { toBase64Url } from '@valise/protocol'
import { describeAccount } from '../account-fields.ts'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'

export const addTrust: AddCommand = (program, run) => {
  program
    .command('trust')
    .description('trust another key of the server, after you have asked its operator for the fingerprint')
    .argument('<fingerprint>', 'as the operator tells it: the 43 characters that the server prints when it starts')
    .action(
      run(({ output, homeDir }, fingerprint: string) =>
        withHome(homeDir, async (device) => {
          const before = device.account()
          const account = await device.trustServer(fingerprint, watchInterruption(output))
          const from = before === undefined ? null : toBase64Url(before.serverFingerprint)
          const to = toBase64Url(account.serverFingerprint)
          output.result(`This device trusts the key ${to} of ${account.serverUrl} now. Before: ${from ?? 'none'}.`, {
            type: 'trusted',
            ...describeAccount(account, homeDir),
            from,
          })
          return EXIT.success
        }),
      ),
    )
}
