// What a person is shown before a device is let in: who asks, and what it will be able to do.

import type { NewDevice } from '@valise/client/node'
import type { Output } from './output.ts'
import { printable } from './visible.ts'

export function showNewDevice(output: Output, { name, platform, deviceFingerprint }: NewDevice): void {
  const text = [
    'A device asks to be one of yours:',
    '',
    `  name         ${printable(name)}`,
    `  platform     ${printable(platform)}`,
    `  fingerprint  ${deviceFingerprint}`,
    '',
    'It will read everything: what you have published so far, and what you publish from now on.',
  ]
  output.result(text.join('\n'), { type: 'new_device', name, platform, device_fingerprint: deviceFingerprint })
}
