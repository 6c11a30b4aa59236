// A device as a person is shown it before he decides about it.

import { type DeviceSummary, formatTime } from '@valise/client/node'
import { printable } from './visible.ts'

export const nameOf = ({ name }: Pick<DeviceSummary, 'name'>): string => printable(name ?? 'unnamed')

export const describeDevice = (device: DeviceSummary): string[] => [
  `  name         ${nameOf(device)}`,
  `  platform     ${printable(device.platform ?? 'not told yet')}`,
  `  role         ${device.role}`,
  `  fingerprint  ${device.deviceFingerprint}`,
  `  added        ${formatTime(device.addedAtMs)}`,
]
