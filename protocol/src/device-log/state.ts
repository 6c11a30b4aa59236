// What a device log amounts to after its newest entry: the devices, the current key epoch, the head.
// A state is never changed: `applyEntry` makes the next one.

import { equalBytes, toHex } from '../bytes.ts'
import type { DeviceId, UserId } from '../ids.ts'
import { RECOVERED_DEVICES_BEYOND } from '../limits.ts'
import type { DeviceRecord } from './device-record.ts'

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
  /** By device id in hexadecimal; revoked devices stay. */
  readonly devices: ReadonlyMap<string, DeviceState>
  readonly epoch: EpochState
  /** Epoch 1 first, without the current one. */
  readonly pastEpochs: readonly EpochState[]
  readonly isClosed: boolean
}

export const findDevice = (state: Pick<DeviceLogState, 'devices'>, deviceId: DeviceId): DeviceState | undefined =>
  state.devices.get(toHex(deviceId))

export const isActive = (device: DeviceState): boolean => device.status.type === 'active'

/** How many devices besides the recovery device there may be once the signer has added one, where `maxDevices` are allowed. */
export const devicesAllowedBy = (signer: DeviceState, maxDevices: number): number =>
  signer.record.role === 'recovery' ? maxDevices + RECOVERED_DEVICES_BEYOND : maxDevices

/** True for what a revoked device wrote after its cut: void, whatever it holds and whenever it was stored. */
export const isBeyondCut = ({ status }: DeviceState, deviceSeq: number): boolean =>
  status.type === 'revoked' && deviceSeq > status.lastSeq

/** Sorted by device id, the order of EPOCH. */
export function activeDevices(state: Pick<DeviceLogState, 'devices'>): DeviceState[] {
  return [...state.devices]
    .filter(([, device]) => isActive(device))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, device]) => device)
}

/** Epoch n, current or past. */
export const findEpoch = (state: DeviceLogState, n: number): EpochState | undefined =>
  n === state.epoch.n ? state.epoch : state.pastEpochs[n - 1]

/** The boxes that must come with the newest entry; none for an entry that neither adds a device nor starts an epoch. */
export const boxesOfNewestEntry = (state: DeviceLogState): CommittedBox[] =>
  state.epoch.boxes.filter((box) => box.logSeq === state.seq)

/** The hash of the prev_box that must come with the newest entry, if it links a new epoch to the one before. */
export function prevBoxHashOfNewestEntry(state: DeviceLogState): Uint8Array | undefined {
  const isLinked = state.epoch.logSeq === state.seq && !equalBytes(state.epoch.prevBoxHash, new Uint8Array(32))
  return isLinked ? state.epoch.prevBoxHash : undefined
}
