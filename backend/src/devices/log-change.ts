// What a verified entry of the device log changes in the tables: the difference between the states before and after.
// Pure.

import {
  activeDevices,
  type Crypto,
  chainStart,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  encodeRole,
  findDevice,
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
  /** The device that signed the entry; undefined for genesis. */
  readonly signerId?: DeviceId | undefined
}

const activeBefore = (before: DeviceLogState | undefined): readonly DeviceState[] =>
  before === undefined ? [] : activeDevices(before)

export function revokedBetween(before: DeviceLogState | undefined, after: DeviceLogState): DeviceState[] {
  return activeBefore(before).flatMap(({ deviceId }) => {
    const device = findDevice(after, deviceId)
    return device === undefined || isActive(device) ? [] : [device]
  })
}

export function describeChange({
  crypto,
  before,
  after,
  entry,
  boxes,
  prev_box,
  signerId,
}: EntryEffect): DeviceLogChange {
  const roleBefore = new Map(activeBefore(before).map(({ deviceId, record }) => [toHex(deviceId), record.role]))
  const added = activeDevices(after).filter(({ deviceId }) => !roleBefore.has(toHex(deviceId)))
  const moved = activeDevices(after).filter(({ deviceId, record }) => {
    const previous = roleBefore.get(toHex(deviceId))
    return previous !== undefined && previous !== record.role
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
      addedBy: signerId,
    })),
    revoked: revokedBetween(before, after).map((device) => device.deviceId),
    roles: moved.map(({ deviceId, record }) => ({ deviceId, role: encodeRole(record.role) })),
    epoch: startsEpoch ? { n: after.epoch.n, prevBox: prev_box } : undefined,
    boxes: boxes.map((box) => ({ deviceId: box.device_id, epoch: after.epoch.n, box: box.box })),
    isClosed: after.isClosed,
  }
}
