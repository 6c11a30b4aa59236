// What people compare by eye: a device's id, which is a hash of its keys, in eight groups of four.

import { type DeviceId, type ServerKeyPin, toBase64Url, toHex } from '@valise/protocol'

export const formatDeviceFingerprint = (deviceId: DeviceId): string => (toHex(deviceId).match(/.{4}/g) ?? []).join(' ')

/** What `--fingerprint` and `trust` take: the key's, and after a dot the next key's. */
export const formatFingerprint = ({ fingerprint, nextFingerprint }: ServerKeyPin): string =>
  [fingerprint, ...(nextFingerprint === undefined ? [] : [nextFingerprint])].map(toBase64Url).join('.')
