// What a device log amounts to after its newest entry: the devices, the current key epoch, the head.
// A state is never changed: `applyEntry` makes the next one.

import { toHex } from '../bytes.ts'
import type { DeviceId, UserId } from '../ids.ts'
import { RECOVERED_DEVICES_BEYOND } from '../limits.ts'
import type { DeviceRecord } from './device-record.ts'
import { type DeviceState, type DeviceTable, devicesIn, isActive } from './device-table.ts'
import type { EpochLink } from './operation.ts'
import { findIn, type PrefixTree } from './prefix-tree.ts'

/** A box that the log commits to: the secret of one epoch, sealed to one device. */
export interface CommittedBox {
  readonly deviceId: DeviceId
  readonly boxHash: Uint8Array
  /** The entry that commits to the box. */
  readonly logSeq: number
  /** The head before that entry (zero in genesis), which the box is bound to. */
  readonly logHead: Uint8Array
}

export interface EpochState {
  readonly n: number
  readonly commit: Uint8Array
  /** The entry that started the epoch: events under an older `log_seq` are stale. */
  readonly logSeq: number
  /** One a member, those added later included. */
  readonly boxes: readonly CommittedBox[]
  /** To older epochs, newest first. */
  readonly links: readonly EpochLink[]
}

/** What an entry asked for, and what takes effect only if nothing objects for seven days. */
export interface PendingClose {
  /** Of the entry that asked. */
  readonly hash: Uint8Array
  readonly atSeq: number
  /** An active manager, always: what it asked for falls with its say. */
  readonly signer: DeviceId
}

export interface PendingRecovery extends PendingClose {
  /** In no epoch and not among the devices until it is settled. */
  readonly record: DeviceRecord
}

export interface DeviceLogState {
  readonly userId: UserId
  readonly seq: number
  /** The hash of the newest entry, 32 bytes. */
  readonly head: Uint8Array
  /** To be read with `findDevice`, `activeDevices` and `devicesOf`. */
  readonly devices: DeviceTable
  readonly epoch: EpochState
  /** Without the current one. To be read with `findEpoch`. */
  readonly pastEpochs: PrefixTree<EpochState>
  /** Of all epochs, past and current: most of what a state weighs where keys are often changed. */
  readonly boxCount: number
  readonly pendingRecovery: PendingRecovery | undefined
  readonly pendingClose: PendingClose | undefined
  readonly isClosed: boolean
}

type WithDevices = Pick<DeviceLogState, 'devices'>

/** Active, suspended or revoked. `state` is `undefined` before genesis. */
export const findDevice = (state: WithDevices | undefined, deviceId: DeviceId): DeviceState | undefined =>
  findIn(state?.devices.byId, toHex(deviceId))

/** How many devices besides the recovery device there may be once the signer has added one, where `maxDevices` are allowed. */
export const devicesAllowedBy = (signer: DeviceState, maxDevices: number): number =>
  signer.record.role === 'recovery' ? maxDevices + RECOVERED_DEVICES_BEYOND : maxDevices

/** True for what a suspended or revoked device wrote after its cut: void, whatever it holds and whenever it was stored. */
export const isBeyondCut = ({ status }: DeviceState, deviceSeq: number): boolean =>
  status.type !== 'active' && deviceSeq > status.lastSeq

/** Active and suspended devices: those that EPOCH lists, in its order, and that count against the limit of devices. */
export const keyHolders = ({ devices }: WithDevices): readonly DeviceState[] => devices.holders

/** Sorted by device id. */
export const activeDevices = ({ devices }: WithDevices): readonly DeviceState[] => devices.holders.filter(isActive)

/** The active recovery device. */
export const findRecovery = ({ devices }: WithDevices): DeviceState | undefined =>
  devices.holders.find(({ record }) => record.role === 'recovery')

/** Whoever was ever in the log, in the order in which they were added. Looks at all of them. */
export const devicesOf = ({ devices }: WithDevices): DeviceState[] => devicesIn(devices)

/** Of an epoch's number, which is a u32: where `pastEpochs` holds it. */
export const epochKey = (n: number): string => n.toString(16).padStart(8, '0')

/** Epoch n, current or past. */
export const findEpoch = (state: DeviceLogState, n: number): EpochState | undefined =>
  n === state.epoch.n ? state.epoch : findIn(state.pastEpochs, epochKey(n))

/** The boxes that must come with the newest entry; none for an entry that neither adds a device nor starts an epoch. */
export const boxesOfNewestEntry = (state: DeviceLogState): CommittedBox[] =>
  state.epoch.boxes.filter((box) => box.logSeq === state.seq)

/** The links whose boxes must come with the newest entry, in this order; none for one that starts no epoch. */
export const linksOfNewestEntry = (state: DeviceLogState): readonly EpochLink[] =>
  state.epoch.logSeq === state.seq ? state.epoch.links : []
