// What a device log amounts to after its newest entry: the devices, the current key epoch, the head.
// A state is never changed: `applyEntry` makes the next one.

import { equalBytes, toHex } from '../bytes.ts'
import type { DeviceId, UserId } from '../ids.ts'
import { RECOVERED_DEVICES_BEYOND } from '../limits.ts'
import { type DeviceState, type DeviceTable, devicesIn } from './device-table.ts'
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
  /** 32 zeros: no link to the epoch before. */
  readonly prevBoxHash: Uint8Array
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
  readonly isClosed: boolean
}

type WithDevices = Pick<DeviceLogState, 'devices'>

/** Active or revoked. `state` is `undefined` before genesis. */
export const findDevice = (state: WithDevices | undefined, deviceId: DeviceId): DeviceState | undefined =>
  findIn(state?.devices.byId, toHex(deviceId))

/** How many devices besides the recovery device there may be once the signer has added one, where `maxDevices` are allowed. */
export const devicesAllowedBy = (signer: DeviceState, maxDevices: number): number =>
  signer.record.role === 'recovery' ? maxDevices + RECOVERED_DEVICES_BEYOND : maxDevices

/** True for what a revoked device wrote after its cut: void, whatever it holds and whenever it was stored. */
export const isBeyondCut = ({ status }: DeviceState, deviceSeq: number): boolean =>
  status.type === 'revoked' && deviceSeq > status.lastSeq

/** Sorted by device id, the order of EPOCH. */
export const activeDevices = ({ devices }: WithDevices): readonly DeviceState[] => devices.active

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

/** The hash of the prev_box that must come with the newest entry, if it links a new epoch to the one before. */
export function prevBoxHashOfNewestEntry(state: DeviceLogState): Uint8Array | undefined {
  const isLinked = state.epoch.logSeq === state.seq && !equalBytes(state.epoch.prevBoxHash, new Uint8Array(32))
  return isLinked ? state.epoch.prevBoxHash : undefined
}
