// What each operation does to the state of a device log, or the rule it breaks. Signature, seq and prev have been
// checked before (`verify.ts`); here stand the rules about devices, keys, roles and epochs.

import { isAllZero } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import { chainStart } from '../events/chain.ts'
import { isSameId, type UserId } from '../ids.ts'
import { verifyWithContext } from '../kdf.ts'
import { DEFAULT_LIMITS } from '../limits.ts'
import { isLowOrderX25519Key, isSmallOrderKey } from '../small-order.ts'
import { type DeviceRecord, deviceIdOf, encodeDeviceRecord, x25519KeyOf } from './device-record.ts'
import { type DeviceState, type DeviceTable, holdsKeys, isActive, withChanged, withDevice } from './device-table.ts'
import type { SignedEntry } from './entry.ts'
import type { EpochStart, Operation, RevokedDevice } from './operation.ts'
import { putInto } from './prefix-tree.ts'
import type { DeviceLogRule } from './rules.ts'
import {
  activeDevices,
  type CommittedBox,
  type DeviceLogState,
  devicesAllowedBy,
  type EpochState,
  epochKey,
  findDevice,
} from './state.ts'

/** The parts of a state that an operation may change. */
export type Effect = Pick<DeviceLogState, 'devices' | 'epoch' | 'pastEpochs' | 'boxCount' | 'isClosed'>

export type EffectOrRule = { readonly effect: Effect } | { readonly rule: DeviceLogRule }

const refuse = (rule: DeviceLogRule): EffectOrRule => ({ rule })

/** The rules for keys that enter the log: not of small order, never there before. */
export function checkNewRecord(crypto: Crypto, devices: DeviceTable, record: DeviceRecord): DeviceLogRule | undefined {
  if (isSmallOrderKey(record.edPub)) return 'small_order_key'
  if (isLowOrderX25519Key(x25519KeyOf(record))) return 'small_order_key'
  return holdsKeys(crypto, devices, record) ? 'key_reused' : undefined
}

/** EPOCH after the devices have changed: its number and its exact list. */
export function startEpoch(
  start: EpochStart,
  before: { readonly epochN: number; readonly logHead: Uint8Array },
  after: { readonly devices: DeviceTable; readonly logSeq: number },
): { readonly epoch: EpochState } | { readonly rule: DeviceLogRule } {
  if (start.n !== before.epochN + 1) return { rule: 'epoch_number' }
  if (before.epochN === 0 && !isAllZero(start.prevBoxHash)) return { rule: 'epoch_link' }
  const expected = activeDevices(after)
  if (start.members.length !== expected.length) return { rule: 'epoch_members' }
  const { logSeq } = after
  const boxes: CommittedBox[] = []
  for (const [index, member] of start.members.entries()) {
    const device = expected[index]
    if (device === undefined || !isSameId(device.deviceId, member.deviceId)) return { rule: 'epoch_members' }
    // The id is the device's own bytes, not those of each entry that names it: a log can hold half a million boxes.
    boxes.push({ deviceId: device.deviceId, boxHash: member.boxHash, logSeq, logHead: before.logHead })
  }
  return { epoch: { n: start.n, commit: start.commit, logSeq, boxes, prevBoxHash: start.prevBoxHash } }
}

function withNewEpoch(state: DeviceLogState, devices: DeviceTable, start: EpochStart): EffectOrRule {
  const before = { epochN: state.epoch.n, logHead: state.head }
  const started = startEpoch(start, before, { devices, logSeq: state.seq + 1 })
  if ('rule' in started) return started
  const pastEpochs = putInto(state.pastEpochs, epochKey(state.epoch.n), state.epoch)
  const boxCount = state.boxCount + started.epoch.boxes.length
  return { effect: { devices, epoch: started.epoch, pastEpochs, boxCount, isClosed: false } }
}

const isActiveRecovery = (device: DeviceState): boolean => isActive(device) && device.record.role === 'recovery'

/** sig(new,"device-pop", user_id | DR). */
const holdsDevicePop = (crypto: Crypto, userId: UserId, record: DeviceRecord, proof: Uint8Array): boolean =>
  verifyWithContext(crypto, record.edPub, 'device-pop', devicePopMessage(userId, record), proof)

export function devicePopMessage(userId: UserId, record: DeviceRecord): Uint8Array {
  const encoded = encodeDeviceRecord(record)
  const message = new Uint8Array(userId.length + encoded.length)
  message.set(userId)
  message.set(encoded, userId.length)
  return message
}

/** The last manager cannot go, unless the recovery device signs and stays: it can add another. */
function keepsManagement(devices: DeviceTable, signer: DeviceState): boolean {
  if (activeDevices({ devices }).some(({ record }) => record.role === 'manager')) return true
  const signerAfter = findDevice({ devices }, signer.deviceId)
  return signerAfter !== undefined && isActiveRecovery(signerAfter)
}

function applyAdd(
  crypto: Crypto,
  state: DeviceLogState,
  operation: Extract<Operation, { type: 'add' }>,
  proof: Uint8Array,
  signer: DeviceState,
): EffectOrRule {
  const { record } = operation
  const active = activeDevices(state)
  // A recovery device enters by genesis or op 5 only: those are where a recovering user looks for his own proof.
  if (record.role === 'recovery') return refuse(active.some(isActiveRecovery) ? 'second_recovery' : 'role')
  const broken = checkNewRecord(crypto, state.devices, record)
  if (broken !== undefined) return refuse(broken)
  if (!holdsDevicePop(crypto, state.userId, record, proof)) return refuse('device_pop')
  if (operation.epochN !== state.epoch.n) return refuse('epoch_number')
  const count = active.filter((device) => !isActiveRecovery(device)).length
  if (count >= devicesAllowedBy(signer, DEFAULT_LIMITS.max_devices)) return refuse('too_many_devices')
  const logSeq = state.seq + 1
  const box = { deviceId: deviceIdOf(crypto, record), boxHash: operation.boxHash, logSeq, logHead: state.head }
  const epoch = { ...state.epoch, boxes: [...state.epoch.boxes, box] }
  const devices = withDevice(crypto, state.devices, record, logSeq)
  const { pastEpochs, boxCount } = state
  return { effect: { devices, epoch, pastEpochs, boxCount: boxCount + 1, isClosed: false } }
}

function applyRevoke(
  state: DeviceLogState,
  revoked: readonly RevokedDevice[],
  start: EpochStart,
  signer: DeviceState,
): EffectOrRule {
  let { devices } = state
  for (const { deviceId, lastSeq, chain } of revoked) {
    const device = findDevice({ devices }, deviceId)
    if (device === undefined) return refuse('unknown_device')
    if (!isActive(device)) return refuse('device_inactive')
    const status = { type: 'revoked', atSeq: state.seq + 1, lastSeq, chain } as const
    devices = withChanged(devices, { ...device, status })
  }
  if (!keepsManagement(devices, signer)) return refuse('last_manager')
  return withNewEpoch(state, devices, start)
}

/** The new recovery device takes the place of the old one, whose phrase is void from here on. */
function applyRecovery(
  crypto: Crypto,
  state: DeviceLogState,
  operation: Extract<Operation, { type: 'recovery' }>,
  proof: Uint8Array,
): EffectOrRule {
  const { record } = operation
  if (record.role !== 'recovery') return refuse('role')
  const broken = checkNewRecord(crypto, state.devices, record)
  if (broken !== undefined) return refuse(broken)
  if (!holdsDevicePop(crypto, state.userId, record, proof)) return refuse('device_pop')
  const atSeq = state.seq + 1
  let devices = withDevice(crypto, state.devices, record, atSeq)
  for (const device of activeDevices(state).filter(isActiveRecovery)) {
    // A recovery device publishes nothing, so its cut is the start of its chain.
    const chain = chainStart(crypto, state.userId, device.deviceId)
    devices = withChanged(devices, { ...device, status: { type: 'revoked', atSeq, lastSeq: 0, chain } })
  }
  return withNewEpoch(state, devices, operation.epoch)
}

function applyRole(
  state: DeviceLogState,
  operation: Extract<Operation, { type: 'role' }>,
  signer: DeviceState,
): EffectOrRule {
  const device = findDevice(state, operation.deviceId)
  if (device === undefined) return refuse('unknown_device')
  if (!isActive(device)) return refuse('device_inactive')
  if (operation.role === 'recovery' || device.record.role === 'recovery') return refuse('role')
  const devices = withChanged(state.devices, { ...device, record: { ...device.record, role: operation.role } })
  if (!keepsManagement(devices, signer)) return refuse('last_manager')
  const { epoch, pastEpochs, boxCount } = state
  return { effect: { devices, epoch, pastEpochs, boxCount, isClosed: false } }
}

/** The effect of an operation that is not genesis. */
export function applyOperation(
  crypto: Crypto,
  state: DeviceLogState,
  operation: Operation,
  entry: SignedEntry,
  signer: DeviceState,
): EffectOrRule {
  const { devices, epoch, pastEpochs, boxCount } = state
  const bearsProof = operation.type === 'add' || operation.type === 'recovery'
  if (!bearsProof && entry.proof.length > 0) return refuse('malformed')
  switch (operation.type) {
    case 'genesis':
      return refuse('genesis')
    case 'add':
      return applyAdd(crypto, state, operation, entry.proof, signer)
    case 'revoke':
      return applyRevoke(state, operation.devices, operation.epoch, signer)
    case 'rotate':
      return withNewEpoch(state, devices, operation.epoch)
    case 'recovery':
      return applyRecovery(crypto, state, operation, entry.proof)
    case 'role':
      return applyRole(state, operation, signer)
    case 'close':
      return { effect: { devices, epoch, pastEpochs, boxCount, isClosed: true } }
  }
}
