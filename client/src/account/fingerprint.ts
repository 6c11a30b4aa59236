// What people compare by eye: a device's id, which is a hash of its keys, in eight groups of four.

import { type DeviceId, toHex } from '@valise/protocol'

export const formatDeviceFingerprint = (deviceId: DeviceId): string => (toHex(deviceId).match(/.{4}/g) ?? []).join(' ')
