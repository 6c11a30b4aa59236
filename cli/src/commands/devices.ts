// `valise devices`: the user's devices, as far as this one has verified them.

import { formatUuid } from '@valise/protocol'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import type { AddCommand } from '../invocation.ts'
import { printable } from '../output.ts'

export const addDevices: AddCommand = (program, run) => {
  program
    .command('devices')
    .description('list your devices, as this one has verified them')
    .action(
      run(({ output, homeDir }) =>
        withHome(homeDir, async (device) => {
          for (const each of await device.devices()) {
            const { name, platform, role, status, isThisDevice, deviceFingerprint } = each
            const label = role === 'recovery' ? '(recovery phrase)' : printable(name ?? '(name not received yet)')
            const words = [
              label,
              role,
              status,
              deviceFingerprint,
              printable(platform ?? ''),
              isThisDevice ? 'this device' : '',
            ]
            output.result(words.filter((word) => word !== '').join('  '), {
              device_id: formatUuid(each.deviceId),
              name: name ?? null,
              platform: platform ?? null,
              role,
              status,
              this_device: isThisDevice,
              added_seq: each.addedSeq,
              device_seq: each.lastDeviceSeq,
              device_fingerprint: deviceFingerprint,
            })
          }
          return EXIT.success
        }),
      ),
    )
}
