// `valise devices`: the user's devices, as far as this one has verified them, and which are online if the server says.

import { type Account, formatTime } from '@valise/client/node'
import { formatUuid, toBase64Url, toHex } from '@valise/protocol'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import type { AddCommand } from '../invocation.ts'
import { askPresence, describeSeen } from '../presence.ts'
import { printable } from '../visible.ts'

export const addDevices: AddCommand = (program, run) => {
  program
    .command('devices')
    .description('list your devices, as this one has verified them, and who is online')
    .action(
      run(({ output, homeDir }) =>
        withHome(homeDir, async (device) => {
          const account = device.account()
          const seenByDevice = account && (await askPresence(device.client(), serverOf(account)))
          for (const each of await device.devices()) {
            const { name, platform, role, status, isThisDevice, deviceFingerprint } = each
            const seen = seenByDevice?.get(toHex(each.deviceId))
            const label = role === 'recovery' ? '(recovery phrase)' : printable(name ?? '(name not received yet)')
            const words = [
              label,
              role,
              status,
              deviceFingerprint,
              printable(platform ?? ''),
              `added ${formatTime(each.addedAtMs)}`,
              role === 'recovery' ? '' : describeSeen(seen),
              isThisDevice ? 'this device' : '',
            ]
            output.result(words.filter((word) => word !== '').join('  '), {
              device_id: formatUuid(each.deviceId),
              name: name ?? null,
              platform: platform ?? null,
              role,
              status,
              this_device: isThisDevice,
              online: seen?.isOnline ?? null,
              last_seen_at: seen?.lastSeenAtMs === undefined ? null : formatTime(seen.lastSeenAtMs),
              added_seq: each.addedSeq,
              added_at: formatTime(each.addedAtMs),
              device_seq: each.lastDeviceSeq,
              device_fingerprint: deviceFingerprint,
            })
          }
          return EXIT.success
        }),
      ),
    )
}

const serverOf = ({ serverUrl, serverFingerprint, serverNextFingerprint }: Account) => ({
  url: serverUrl,
  fingerprint: toBase64Url(serverFingerprint),
  next: serverNextFingerprint && toBase64Url(serverNextFingerprint),
})
