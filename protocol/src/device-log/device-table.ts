// Who ever stood in a device log, as plain data that is never changed. Beside the devices it holds what the rules ask for
// at each entry, so that none has to look through all of them: who is active, and which keys are taken.

import { toHex } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import { type DeviceId, isSameId } from '../ids.ts'
import { type DeviceRecord, deviceIdOf } from './device-record.ts'
import { findIn, type PrefixTree, putInto, valuesIn } from './prefix-tree.ts'

export type DeviceStatus =
  | { readonly type: 'active' }
  /** `lastSeq` is the last device_seq that counts and `chain` the chain there; what the device wrote later is void. */
  | { readonly type: 'revoked'; readonly atSeq: number; readonly lastSeq: number; readonly chain: Uint8Array }

export interface DeviceState {
  /** With the role it has now. */
  readonly record: DeviceRecord
  readonly deviceId: DeviceId
  /** The seq of the entry that added it. */
  readonly addedSeq: number
  readonly status: DeviceStatus
}

export interface DeviceTable {
  /** Revoked devices stay, and count. */
  readonly size: number
  readonly byId: PrefixTree<DeviceState>
  /** Sorted by device id, the order of EPOCH; at most 52. */
  readonly active: readonly DeviceState[]
  readonly edKeys: PrefixTree<true>
  /** By their hash. */
  readonly kemKeys: PrefixTree<true>
}

export const NO_DEVICES: DeviceTable = {
  size: 0,
  byId: undefined,
  active: [],
  edKeys: undefined,
  kemKeys: undefined,
}

export const isActive = (device: DeviceState): boolean => device.status.type === 'active'

/** Only to find the key again: it stands nowhere outside the table. */
const kemKeyOf = (crypto: Crypto, { kemPub }: DeviceRecord): string => toHex(crypto.sha256(kemPub))

const byDeviceId = (a: DeviceState, b: DeviceState): number => (toHex(a.deviceId) < toHex(b.deviceId) ? -1 : 1)

/** A device with this id, signing key or KEM key is in the table, active or not. */
export const holdsKeys = (crypto: Crypto, table: DeviceTable, record: DeviceRecord): boolean =>
  findIn(table.byId, toHex(deviceIdOf(crypto, record))) !== undefined ||
  findIn(table.edKeys, toHex(record.edPub)) !== undefined ||
  findIn(table.kemKeys, kemKeyOf(crypto, record)) !== undefined

/** With a device that was never in it. */
export function withDevice(crypto: Crypto, table: DeviceTable, record: DeviceRecord, addedSeq: number): DeviceTable {
  const deviceId = deviceIdOf(crypto, record)
  const device: DeviceState = { record, deviceId, addedSeq, status: { type: 'active' } }
  return {
    size: table.size + 1,
    byId: putInto(table.byId, toHex(deviceId), device),
    active: [...table.active, device].sort(byDeviceId),
    edKeys: putInto(table.edKeys, toHex(record.edPub), true),
    kemKeys: putInto(table.kemKeys, kemKeyOf(crypto, record), true),
  }
}

/** With an active device as it is from now on, in another role or revoked. */
export function withChanged(table: DeviceTable, changed: DeviceState): DeviceTable {
  const { deviceId } = changed
  const active = table.active.map((device) => (isSameId(device.deviceId, deviceId) ? changed : device)).filter(isActive)
  return { ...table, byId: putInto(table.byId, toHex(deviceId), changed), active }
}

/** In the order in which they were added; in genesis the manager comes first. */
export const devicesIn = (table: DeviceTable): DeviceState[] =>
  [...valuesIn(table.byId)].sort((a, b) => a.addedSeq - b.addedSeq || (a.record.role === 'recovery' ? 1 : -1))
