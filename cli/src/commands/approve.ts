// `valise approve`: lets another device in, after a person has compared its fingerprint.

import { formatUuid } from '@valise/protocol'
import { EXIT, MisuseError } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'
import { showNewDevice } from '../new-device.ts'
import { readSecret, seenByOthers } from '../secret-input.ts'
import { printable } from '../visible.ts'

interface ApproveOptions {
  readonly requestFile?: string
}

export const addApprove: AddCommand = (program, run) => {
  program
    .command('approve')
    .description('let the device in that printed this request')
    .argument(
      '[request]',
      `the line that \`valise link\` printed on the other device (${seenByOthers('--request-file')})`,
    )
    .option('--request-file <file>', 'read the line from this file (-: standard input)')
    .action(
      run(async ({ output, prompt, homeDir }, given: string | undefined, { requestFile }: ApproveOptions) => {
        prompt.requireSomeone()
        const signal = watchInterruption(output)
        const source = { given, file: requestFile, option: '--request-file', what: 'the request' }
        const request = await readSecret(prompt, source, signal)
        if (request === undefined) {
          throw new MisuseError(
            'bad_command_line',
            'Expected the line that `valise link` printed on the other device, or --request-file with a file that holds it.',
          )
        }
        return withHome(homeDir, async (device) => {
          const approved = await device.approve({
            request,
            confirm: (newDevice) => {
              showNewDevice(output, newDevice)
              return prompt.confirm('Does the other device show this fingerprint, and may it come in?', signal)
            },
            onSilence: () =>
              output.notice(
                'waiting',
                'Nothing comes from the other device. Is `valise link` still waiting there? Ctrl-C gives up.',
              ),
            signal,
          })
          if (approved === undefined) {
            output.failure('declined', 'Declined. The other device was not let in.')
            return EXIT.failure
          }
          const { deviceId, name, deviceFingerprint } = approved.device
          output.result(`Approved: "${printable(name ?? 'unnamed')}" is one of your devices now.`, {
            type: 'approved',
            device_id: formatUuid(deviceId),
            name,
            device_fingerprint: deviceFingerprint,
            log_seq: approved.logSeq,
          })
          return EXIT.success
        })
      }),
    )
}
