// What a verified entry of the device log changes in the tables: the difference between the states before and after.
// Pure.

import {
  activeDevices,
  type Crypto,
  chainStart,
  type DeviceLogState,
  type DeviceState,
  encodeRole,
  isActive,
  type SealedBox,
  toHex,
} from '@valise/protocol'
import type { DeviceLogChange } from '../db/queries/device-log.ts'

export interface EntryEffect {
  readonly crypto: Crypto
  /** Undefined before genesis. */
  readonly before: DeviceLogState | undefined
  readonly after: DeviceLogState
  readonly entry: Uint8Array
  readonly boxes: readonly SealedBox[]
  readonly prev_box: Uint8Array | null
}

const devicesBefore = (before: DeviceLogState | undefined): ReadonlyMap<string, DeviceState> =>
  before?.devices ?? new Map()

export function revokedBetween(before: DeviceLogState | undefined, after: DeviceLogState): DeviceState[] {
  return [...after.devices.values()].filter((device) => {
    const previous = devicesBefore(before).get(toHex(device.deviceId))
    return previous !== undefined && isActive(previous) && !isActive(device)
  })
}

export function describeChange({ crypto, before, after, entry, boxes, prev_box }: EntryEffect): DeviceLogChange {
  const known = devicesBefore(before)
  const added = [...after.devices.values()].filter((device) => !known.has(toHex(device.deviceId)))
  const moved = activeDevices(after).filter((device) => {
    const previous = known.get(toHex(device.deviceId))
    return previous !== undefined && previous.record.role !== device.record.role
  })
  const startsEpoch = after.epoch.n !== before?.epoch.n
  return {
    userId: after.userId,
    seq: after.seq,
    prevHead: before?.head ?? new Uint8Array(32),
    head: after.head,
    entry,
    added: added.map(({ deviceId, record }) => ({
      deviceId,
      edPub: record.edPub,
      role: encodeRole(record.role),
      chain: chainStart(crypto, after.userId, deviceId),
    })),
    revoked: revokedBetween(before, after).map((device) => device.deviceId),
    roles: moved.map(({ deviceId, record }) => ({ deviceId, role: encodeRole(record.role) })),
    epoch: startsEpoch ? { n: after.epoch.n, prevBox: prev_box } : undefined,
    boxes: boxes.map((box) => ({ deviceId: box.device_id, epoch: after.epoch.n, box: box.box })),
    isClosed: after.isClosed,
  }
}
