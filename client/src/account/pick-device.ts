// Which device a person means by a name, the beginning of a fingerprint, or an id. More than one is none: what is revoked
// by mistake does not come back.

import { formatUuid, toHex } from '@valise/protocol'
import { formatTime } from '../time-text.ts'
import { AccountError } from './account-error.ts'
import type { DeviceCut, DeviceSummary } from './directory.ts'

/** Shorter beginnings of a fingerprint could be meant as names. */
const MIN_PREFIX_DIGITS = 4

function means(text: string, { deviceId, name }: DeviceSummary): boolean {
  if (name === text || formatUuid(deviceId) === text.toLowerCase()) return true
  const digits = text.replace(/[\s-]/g, '').toLowerCase()
  return digits.length >= MIN_PREFIX_DIGITS && toHex(deviceId).startsWith(digits)
}

/** Of the devices that are not revoked, without the recovery phrase. Throws an `AccountError`. */
export function pickDevice(devices: readonly DeviceSummary[], text: string): DeviceSummary {
  const meant = devices.filter((device) => device.role !== 'recovery' && means(text, device))
  const present = meant.filter(({ status }) => status !== 'revoked')
  const [device, another] = present
  if (another !== undefined) {
    throw new AccountError('ambiguous_device', 'More than one device is meant by that; give its fingerprint.')
  }
  if (device !== undefined) return device
  const revoked = meant.at(-1)
  if (revoked !== undefined) throw new AccountError('already_revoked', `That device ${describeCut(revoked)}`)
  throw new AccountError(
    'unknown_device',
    'No device is meant by that. Expected a name, an id, or at least four digits from the beginning of a fingerprint.',
  )
}

/** What it means to revoke a device a second time: nothing. A sentence that begins with "was revoked before". */
export function describeCut({ cut }: Pick<DeviceSummary, 'cut'>): string {
  if (cut === undefined) return 'was revoked before.'
  const { logSeq, deviceSeq, signer, signedAtMs } = cut
  const rest =
    deviceSeq === 0
      ? 'Nothing that it sent counts'
      : `What it sent after event ${deviceSeq} of its own counts for nothing`
  const signed = `which ${describeSigner(signer)} signed at ${formatTime(signedAtMs)} by its clock`
  return `was revoked before, by entry ${logSeq} of the device log, ${signed}. ${rest}; where it was cut off does not change any more.`
}

/** A name that could move a cursor or turn the reading direction is not shown. */
const UNFIT = /[\p{C}\p{Zl}\p{Zp}]/u

function describeSigner({ isThisDevice, role, name, deviceFingerprint }: DeviceCut['signer']): string {
  if (isThisDevice) return 'this device'
  if (role === 'recovery') return 'the recovery phrase'
  return name === undefined || UNFIT.test(name) ? `your device ${deviceFingerprint}` : `your device "${name}"`
}
