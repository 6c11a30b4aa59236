// `valise revoke`: signs a device out for good, with new keys for the rest, after saying what that means.

import { type DeviceSummary, describeCut, type NodeDevice } from '@valise/client/node'
import { formatUuid, isSameId } from '@valise/protocol'
import { Option } from 'commander'
import { describeDevice, nameOf } from '../device-text.ts'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'

/** As they stand in the signed entry. */
const REASONS = ['lost', 'stolen', 'retired', 'replaced', 'unspecified'] as const

interface RevokeOptions {
  readonly reason: (typeof REASONS)[number]
}

export const addRevoke: AddCommand = (program, run) => {
  program
    .command('revoke')
    .description('cut a device off for good, and change the keys for the rest')
    .argument('<device>', 'its name, its id, or the beginning of its fingerprint')
    .addOption(
      new Option('--reason <reason>', 'signed with it, for your other devices').choices(REASONS).default('unspecified'),
    )
    .action(
      run(async ({ output, prompt, homeDir }, text: string, { reason }: RevokeOptions) => {
        prompt.requireSomeone()
        const signal = watchInterruption(output)
        return withHome(homeDir, async (home) => {
          const device = home.pickDevice(await home.currentDevices(signal), text)
          output.result(describeRevocation(device), {
            type: 'revoking',
            device_id: formatUuid(device.deviceId),
            name: device.name ?? null,
            device_fingerprint: device.deviceFingerprint,
            this_device: device.isThisDevice,
          })
          if (!(await prompt.confirm('Revoke it?', signal))) {
            output.failure('declined', 'Declined. Nothing was changed.')
            return EXIT.failure
          }
          const isRevoked = await home.revoke([device], reason, signal)
          // Another manager may have been first, and cut it off elsewhere.
          const words = isRevoked ? 'is revoked.' : describeCut(await lookAgain(home, device))
          output.result(`"${nameOf(device)}" ${words}`, {
            type: 'revoked',
            device_id: formatUuid(device.deviceId),
            name: device.name ?? null,
            was_active: isRevoked,
          })
          return EXIT.success
        })
      }),
    )
}

const lookAgain = async (home: NodeDevice, device: DeviceSummary): Promise<DeviceSummary> =>
  (await home.devices()).find(({ deviceId }) => isSameId(deviceId, device.deviceId)) ?? device

function describeRevocation(device: DeviceSummary): string {
  const what = device.isThisDevice
    ? [
        'This is the device you are typing on. It will be cut off at once, and everything it holds of the account is erased:',
        'keys, events, and what it could not send. Your other devices keep theirs.',
      ]
    : [
        'It will be cut off at once, on every server node, and read nothing that is written from now on. What it has read, it has.',
        `What it sent after event ${device.lastDeviceSeq} of its own, the last one that is here, will count for nothing. It does not come back:`,
        'to use it again, link it anew.',
      ]
  return ['The device to be revoked:', '', ...describeDevice(device), '', ...what].join('\n')
}
