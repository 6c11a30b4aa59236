// `valise approve`: lets another device in, after a person has compared its fingerprint.

import { formatUuid } from '@valise/protocol'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'
import { showNewDevice } from '../new-device.ts'
import { printable } from '../visible.ts'

export const addApprove: AddCommand = (program, run) => {
  program
    .command('approve')
    .description('let the device in that printed this request')
    .argument('<request>', 'the line that `valise link` printed on the other device')
    .action(
      run(async ({ output, prompt, homeDir }, request: string) => {
        prompt.requireSomeone()
        const signal = watchInterruption(output)
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
