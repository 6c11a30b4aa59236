// Which device a person means by a name, the beginning of a fingerprint, or an id. More than one is none: what is revoked
// by mistake does not come back.

import { formatUuid, toHex } from '@valise/protocol'
import { AccountError } from './account-error.ts'
import type { DeviceSummary } from './directory.ts'

/** Shorter beginnings of a fingerprint could be meant as names. */
const MIN_PREFIX_DIGITS = 4

function means(text: string, { deviceId, name }: DeviceSummary): boolean {
  if (name === text || formatUuid(deviceId) === text.toLowerCase()) return true
  const digits = text.replace(/[\s-]/g, '').toLowerCase()
  return digits.length >= MIN_PREFIX_DIGITS && toHex(deviceId).startsWith(digits)
}

/** Of the devices that are active, without the recovery phrase. Throws an `AccountError`. */
export function pickDevice(devices: readonly DeviceSummary[], text: string): DeviceSummary {
  const meant = devices.filter((device) => device.role !== 'recovery' && means(text, device))
  const active = meant.filter(({ status }) => status === 'active')
  const [device, another] = active
  if (another !== undefined) {
    throw new AccountError('ambiguous_device', 'More than one device is meant by that; give its fingerprint.')
  }
  if (device !== undefined) return device
  throw meant.length > 0
    ? new AccountError('already_revoked', 'That device was revoked before.')
    : new AccountError(
        'unknown_device',
        'No device is meant by that. Expected a name, an id, or at least four digits from the beginning of a fingerprint.',
      )
}
