// Who ever stood in a device log, as plain data that is never changed. Beside the devices it holds what the rules ask for
// at each entry, so that none has to look through all of them: who holds the epoch's key, and which keys are taken.

import { toHex } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import { type DeviceId, isSameId } from '../ids.ts'
import { type DeviceRecord, deviceIdOf } from './device-record.ts'
import { findIn, type PrefixTree, putInto, valuesIn } from './prefix-tree.ts'

/** `lastSeq` is the last device_seq that counts and `chain` the chain there; what the device wrote later is void. */
export interface DeviceCut {
  readonly atSeq: number
  readonly lastSeq: number
  readonly chain: Uint8Array
}

export type DeviceStatus =
  | { readonly type: 'active' }
  /** Reads on, and signs and publishes nothing. Only a revocation with the same cut ends it. */
  | ({ readonly type: 'suspended' } & DeviceCut)
  | ({ readonly type: 'revoked' } & DeviceCut)

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
  /** Active and suspended devices, sorted by device id, as EPOCH lists them; at most 52. */
  readonly holders: readonly DeviceState[]
  /** Records whose keys are taken: those of all devices, and of each recovery device that was ever pending. */
  readonly keyCount: number
  readonly edKeys: PrefixTree<true>
  /** By their hash. */
  readonly kemKeys: PrefixTree<true>
}

export const NO_DEVICES: DeviceTable = {
  size: 0,
  byId: undefined,
  holders: [],
  keyCount: 0,
  edKeys: undefined,
  kemKeys: undefined,
}

export const isActive = (device: DeviceState): boolean => device.status.type === 'active'

const isHolder = (device: DeviceState): boolean => device.status.type !== 'revoked'

/** Only to find the key again: it stands nowhere outside the table. */
const kemKeyOf = (crypto: Crypto, { kemPub }: DeviceRecord): string => toHex(crypto.sha256(kemPub))

const byDeviceId = (a: DeviceState, b: DeviceState): number => (toHex(a.deviceId) < toHex(b.deviceId) ? -1 : 1)

/** This signing key, KEM key or the id they make is in the table, whatever became of its device. */
export const holdsKeys = (crypto: Crypto, table: DeviceTable, record: DeviceRecord): boolean =>
  findIn(table.byId, toHex(deviceIdOf(crypto, record))) !== undefined ||
  findIn(table.edKeys, toHex(record.edPub)) !== undefined ||
  findIn(table.kemKeys, kemKeyOf(crypto, record)) !== undefined

/** With keys that were never in it, of a device that is not in it yet. */
export const withKeys = (crypto: Crypto, table: DeviceTable, record: DeviceRecord): DeviceTable => ({
  ...table,
  keyCount: table.keyCount + 1,
  edKeys: putInto(table.edKeys, toHex(record.edPub), true),
  kemKeys: putInto(table.kemKeys, kemKeyOf(crypto, record), true),
})

/** With a device whose keys are in it, and which was never in it itself. */
export function withHolder(crypto: Crypto, table: DeviceTable, record: DeviceRecord, addedSeq: number): DeviceTable {
  const deviceId = deviceIdOf(crypto, record)
  const device: DeviceState = { record, deviceId, addedSeq, status: { type: 'active' } }
  return {
    ...table,
    size: table.size + 1,
    byId: putInto(table.byId, toHex(deviceId), device),
    holders: [...table.holders, device].sort(byDeviceId),
  }
}

/** With a device that was never in it. */
export const withDevice = (crypto: Crypto, table: DeviceTable, record: DeviceRecord, addedSeq: number): DeviceTable =>
  withHolder(crypto, withKeys(crypto, table, record), record, addedSeq)

/** With a device that is not revoked as it is from now on: in another role, suspended or revoked. */
export function withChanged(table: DeviceTable, changed: DeviceState): DeviceTable {
  const { deviceId } = changed
  const holders = table.holders
    .map((device) => (isSameId(device.deviceId, deviceId) ? changed : device))
    .filter(isHolder)
  return { ...table, byId: putInto(table.byId, toHex(deviceId), changed), holders }
}

/** In the order in which they were added; in genesis the manager comes first. */
export const devicesIn = (table: DeviceTable): DeviceState[] =>
  [...valuesIn(table.byId)].sort((a, b) => a.addedSeq - b.addedSeq || (a.record.role === 'recovery' ? 1 : -1))
