// What a verified entry of the device log changes in the tables: the difference between the states before and after.
// Pure.

import {
  type Crypto,
  chainStart,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  type DeviceStatus,
  encodeRole,
  equalBytes,
  findDevice,
  keyHolders,
  type PendingClose,
  type SealedBox,
  type SealedLink,
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
  readonly links: readonly SealedLink[]
  /** The device in whose 24 hours the entry counts. */
  readonly countedDeviceId?: Uint8Array | undefined
  /** The device that signed the entry; undefined for genesis. */
  readonly signerId?: DeviceId | undefined
}

const holdersBefore = (before: DeviceLogState | undefined): readonly DeviceState[] =>
  before === undefined ? [] : keyHolders(before)

/** Those that have this status since the entry. */
function becomingBetween(
  before: DeviceLogState | undefined,
  after: DeviceLogState,
  type: DeviceStatus['type'],
): DeviceState[] {
  return holdersBefore(before).flatMap(({ deviceId, status }) => {
    const device = findDevice(after, deviceId)
    return device === undefined || device.status.type !== type || status.type === type ? [] : [device]
  })
}

export const revokedBetween = (before: DeviceLogState | undefined, after: DeviceLogState): DeviceState[] =>
  becomingBetween(before, after, 'revoked')

/** One that takes the place of another is asked for: the older one is dropped with it. */
function pendingChange(
  before: PendingClose | undefined,
  after: PendingClose | undefined,
): 'asked' | 'dropped' | undefined {
  if (after === undefined) return before === undefined ? undefined : 'dropped'
  return before !== undefined && equalBytes(before.hash, after.hash) ? undefined : 'asked'
}

export function describeChange(effect: EntryEffect): DeviceLogChange {
  const { crypto, before, after, entry, boxes, links, countedDeviceId, signerId } = effect
  const roleBefore = new Map(holdersBefore(before).map(({ deviceId, record }) => [toHex(deviceId), record.role]))
  const added = keyHolders(after).filter(({ deviceId }) => !roleBefore.has(toHex(deviceId)))
  const moved = keyHolders(after).filter(({ deviceId, record }) => {
    const previous = roleBefore.get(toHex(deviceId))
    return previous !== undefined && previous !== record.role
  })
  const revoked = revokedBetween(before, after)
  const suspended = becomingBetween(before, after, 'suspended')
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
    revoked: revoked.map((device) => device.deviceId),
    suspended: suspended.map((device) => device.deviceId),
    cuts: [...revoked, ...suspended].flatMap(({ deviceId, status }) =>
      status.type === 'active' ? [] : [{ deviceId, lastSeq: status.lastSeq, chain: status.chain }],
    ),
    roles: moved.map(({ deviceId, record }) => ({ deviceId, role: encodeRole(record.role) })),
    epoch: startsEpoch
      ? { n: after.epoch.n, links: links.map(({ prev_epoch, box }) => ({ prevEpoch: prev_epoch, box })) }
      : undefined,
    boxes: boxes.map((box) => ({ deviceId: box.device_id, epoch: after.epoch.n, box: box.box })),
    pendingRecovery: pendingChange(before?.pendingRecovery, after.pendingRecovery),
    pendingClose: pendingChange(before?.pendingClose, after.pendingClose),
    countedDeviceId,
    isClosed: after.isClosed,
  }
}
