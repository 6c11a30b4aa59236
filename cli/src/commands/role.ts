// `valise role`: makes a device a manager, which may change devices and keys, or a mere member again.

import { formatUuid } from '@valise/protocol'
import { Argument } from 'commander'
import { nameOf } from '../device-text.ts'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'

export const addRole: AddCommand = (program, run) => {
  program
    .command('role')
    .description('make a device a manager, or a member again')
    .argument('<device>', 'its name, its id, or the beginning of its fingerprint')
    .addArgument(new Argument('<role>', 'managers may add and revoke devices').choices(['manager', 'member']))
    .action(
      run(async ({ output, homeDir }, text: string, role: 'manager' | 'member') => {
        const signal = watchInterruption(output)
        return withHome(homeDir, async (home) => {
          const device = home.pickDevice(await home.currentDevices(signal), text)
          const isChanged = await home.changeRole(device, role, signal)
          output.result(`"${nameOf(device)}" ${isChanged ? 'is' : 'was already'} a ${role}.`, {
            type: 'role',
            device_id: formatUuid(device.deviceId),
            name: device.name ?? null,
            role,
            was_changed: isChanged,
          })
          return EXIT.success
        })
      }),
    )
}
