// What each operation does to the state of a device log, or the rule it breaks. Signature, seq and prev have been
// checked before (`verify.ts`); here stand the rules about devices, keys, roles and epochs.

import { equalBytes } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import { chainStart } from '../events/chain.ts'
import { isSameId, type UserId } from '../ids.ts'
import { verifyWithContext } from '../kdf.ts'
import { DEFAULT_LIMITS } from '../limits.ts'
import { isLowOrderX25519Key, isSmallOrderKey } from '../small-order.ts'
import { type DeviceRecord, deviceIdOf, x25519KeyOf } from './device-record.ts'
import {
  type DeviceState,
  type DeviceTable,
  holdsKeys,
  isActive,
  withChanged,
  withDevice,
  withHolder,
  withKeys,
} from './device-table.ts'
import type { SignedEntry } from './entry.ts'
import type { EpochStart, Operation, RevokedDevice } from './operation.ts'
import { askedBy, type EntryPlace, NOTHING_PENDING, type Pending, stillPending, withoutPending } from './pending.ts'
import { closeMessage, judgePhraseProof, recordMessage } from './phrase-proofs.ts'
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
  findRecovery,
  keyHolders,
} from './state.ts'

/** The parts of a state that an operation may change. */
export type Effect = Omit<DeviceLogState, 'userId' | 'seq' | 'head'>

export type EffectOrRule = { readonly effect: Effect } | { readonly rule: DeviceLogRule }

const refuse = (rule: DeviceLogRule): EffectOrRule => ({ rule })
/** What stays as it was but for these parts. */
function changed(state: DeviceLogState, parts: Partial<Effect>): EffectOrRule {
  const { devices, epoch, pastEpochs, boxCount, pendingRecovery, pendingClose, isClosed } = state
  return { effect: { devices, epoch, pastEpochs, boxCount, pendingRecovery, pendingClose, isClosed, ...parts } }
}

/** The rules for keys that enter the log: not of small order, never there before. */
export function checkNewRecord(crypto: Crypto, devices: DeviceTable, record: DeviceRecord): DeviceLogRule | undefined {
  if (isSmallOrderKey(record.edPub)) return 'small_order_key'
  if (isLowOrderX25519Key(x25519KeyOf(record))) return 'small_order_key'
  return holdsKeys(crypto, devices, record) ? 'key_reused' : undefined
}

/** Each to an older epoch, newest first: so no two to the same, and the first epoch has none. */
function areLinks({ n, links }: EpochStart): boolean {
  let below = n
  for (const link of links) {
    if (link.n >= below || link.n < 1) return false
    below = link.n
  }
  return true
}

/** EPOCH after the devices have changed: its number and its exact list. */
export function startEpoch(
  start: EpochStart,
  before: { readonly epochN: number; readonly logHead: Uint8Array },
  after: { readonly devices: DeviceTable; readonly logSeq: number },
): { readonly epoch: EpochState } | { readonly rule: DeviceLogRule } {
  if (start.n !== before.epochN + 1) return { rule: 'epoch_number' }
  if (!areLinks(start)) return { rule: 'epoch_link' }
  const expected = keyHolders(after)
  if (start.members.length !== expected.length) return { rule: 'epoch_members' }
  const { logSeq } = after
  const boxes: CommittedBox[] = []
  for (const [index, member] of start.members.entries()) {
    const device = expected[index]
    if (device === undefined || !isSameId(device.deviceId, member.deviceId)) return { rule: 'epoch_members' }
    // The id is the device's own bytes, not those of each entry that names it: a log can hold half a million boxes.
    boxes.push({ deviceId: device.deviceId, boxHash: member.boxHash, logSeq, logHead: before.logHead })
  }
  return { epoch: { n: start.n, commit: start.commit, logSeq, boxes, links: start.links } }
}

function withNewEpoch(
  state: DeviceLogState,
  devices: DeviceTable,
  start: EpochStart,
  pending: Partial<Pending> = {},
): EffectOrRule {
  const before = { epochN: state.epoch.n, logHead: state.head }
  const started = startEpoch(start, before, { devices, logSeq: state.seq + 1 })
  if ('rule' in started) return started
  const pastEpochs = putInto(state.pastEpochs, epochKey(state.epoch.n), state.epoch)
  const boxCount = state.boxCount + started.epoch.boxes.length
  return changed(state, { devices, epoch: started.epoch, pastEpochs, boxCount, ...pending })
}

/** sig(new,"device-pop", user_id | DR). */
const holdsDevicePop = (crypto: Crypto, userId: UserId, record: DeviceRecord, proof: Uint8Array): boolean =>
  verifyWithContext(crypto, record.edPub, 'device-pop', recordMessage(userId, record), proof)

const isRecovery = ({ record }: DeviceState): boolean => record.role === 'recovery'

/** The last manager cannot go, unless the recovery device signs: it stays, and can add another. */
const keepsManagement = (devices: DeviceTable, signer: DeviceState): boolean =>
  isRecovery(signer) || activeDevices({ devices }).some(({ record }) => record.role === 'manager')

function applyAdd(
  crypto: Crypto,
  state: DeviceLogState,
  operation: Extract<Operation, { type: 'add' }>,
  proof: Uint8Array,
  signer: DeviceState,
): EffectOrRule {
  const { record } = operation
  // A recovery device enters by genesis or op 5 only: those are where a recovering user looks for the proof of its own.
  if (record.role === 'recovery') return refuse(findRecovery(state) === undefined ? 'role' : 'second_recovery')
  const broken = checkNewRecord(crypto, state.devices, record)
  if (broken !== undefined) return refuse(broken)
  if (!holdsDevicePop(crypto, state.userId, record, proof)) return refuse('device_pop')
  if (operation.epochN !== state.epoch.n) return refuse('epoch_number')
  const count = keyHolders(state).filter((device) => !isRecovery(device)).length
  if (count >= devicesAllowedBy(signer, DEFAULT_LIMITS.max_devices)) return refuse('too_many_devices')
  const logSeq = state.seq + 1
  const box = { deviceId: deviceIdOf(crypto, record), boxHash: operation.boxHash, logSeq, logHead: state.head }
  const epoch = { ...state.epoch, boxes: [...state.epoch.boxes, box] }
  const devices = withDevice(crypto, state.devices, record, logSeq)
  return changed(state, { devices, epoch, boxCount: state.boxCount + 1 })
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
    if (device.status.type === 'revoked') return refuse('device_inactive')
    if (isRecovery(device)) return refuse('recovery_irrevocable')
    const { status } = device
    // A device has one cut for ever, or what readers took for void would count again.
    if (status.type === 'suspended' && !(status.lastSeq === lastSeq && equalBytes(status.chain, chain))) {
      return refuse('cut_differs')
    }
    devices = withChanged(devices, { ...device, status: { type: 'revoked', atSeq: state.seq + 1, lastSeq, chain } })
  }
  if (!keepsManagement(devices, signer)) return refuse('last_manager')
  return withNewEpoch(state, devices, start)
}

function applySuspend(state: DeviceLogState, cut: RevokedDevice, signer: DeviceState): EffectOrRule {
  const { deviceId, lastSeq, chain } = cut
  const device = findDevice(state, deviceId)
  if (device === undefined) return refuse('unknown_device')
  if (device.status.type === 'revoked') return refuse('device_inactive')
  if (isRecovery(device) || isSameId(deviceId, signer.deviceId)) return refuse('suspend_target')
  if (device.status.type === 'suspended') return refuse('device_suspended')
  const status = { type: 'suspended', atSeq: state.seq + 1, lastSeq, chain } as const
  const devices = withChanged(state.devices, { ...device, status })
  return keepsManagement(devices, signer) ? changed(state, { devices }) : refuse('last_manager')
}

/** Without the active recovery device, whose phrase is void from here on. */
function withoutRecovery(crypto: Crypto, state: DeviceLogState): DeviceTable {
  const device = findRecovery(state)
  if (device === undefined) return state.devices
  // A recovery device publishes nothing, so its cut is the start of its chain.
  const chain = chainStart(crypto, state.userId, device.deviceId)
  return withChanged(state.devices, { ...device, status: { type: 'revoked', atSeq: state.seq + 1, lastSeq: 0, chain } })
}

/** A new recovery device: in the place of the old one at once, or pending, so that a stolen manager cannot replace the phrase. */
function applyRecovery(
  crypto: Crypto,
  state: DeviceLogState,
  operation: Extract<Operation, { type: 'recovery' }>,
  entry: SignedEntry & EntryPlace,
  signer: DeviceState,
): EffectOrRule {
  const { record, heirProof, epoch } = operation
  if (record.role !== 'recovery') return refuse('role')
  const broken = checkNewRecord(crypto, state.devices, record)
  if (broken !== undefined) return refuse(broken)
  if (!holdsDevicePop(crypto, state.userId, record, entry.proof)) return refuse('device_pop')
  const heir = judgePhraseProof(crypto, state, 'recovery-heir', recordMessage(state.userId, record), heirProof)
  if (heir === 'broken') return refuse('phrase_proof')
  const isFinal = heir === 'holds' || isRecovery(signer) || findRecovery(state) === undefined
  if (isFinal !== (epoch !== undefined)) return refuse('recovery_form')
  if (epoch === undefined) {
    const devices = withKeys(crypto, state.devices, record)
    return changed(state, { devices, pendingRecovery: { ...askedBy(entry), record } })
  }
  const devices = withDevice(crypto, withoutRecovery(crypto, state), record, state.seq + 1)
  // The phrase was typed for this: all that waits without one falls.
  return withNewEpoch(state, devices, epoch, NOTHING_PENDING)
}

function applySettle(
  crypto: Crypto,
  state: DeviceLogState,
  operation: Extract<Operation, { type: 'settle' }>,
  signer: DeviceState,
): EffectOrRule {
  const pending = state.pendingRecovery
  if (pending === undefined || !equalBytes(pending.hash, operation.hash)) return refuse('nothing_pending')
  if (!isRecovery(signer) && !isSameId(signer.deviceId, pending.signer)) return refuse('nothing_pending')
  const devices = withHolder(crypto, withoutRecovery(crypto, state), pending.record, state.seq + 1)
  return withNewEpoch(state, devices, operation.epoch, { pendingRecovery: undefined })
}

function applyRole(
  state: DeviceLogState,
  operation: Extract<Operation, { type: 'role' }>,
  signer: DeviceState,
): EffectOrRule {
  const device = findDevice(state, operation.deviceId)
  if (device === undefined) return refuse('unknown_device')
  if (device.status.type === 'suspended') return refuse('device_suspended')
  if (!isActive(device)) return refuse('device_inactive')
  if (operation.role === 'recovery' || isRecovery(device)) return refuse('role')
  const devices = withChanged(state.devices, { ...device, record: { ...device.record, role: operation.role } })
  return keepsManagement(devices, signer) ? changed(state, { devices }) : refuse('last_manager')
}

function applyClose(
  crypto: Crypto,
  state: DeviceLogState,
  phraseProof: Uint8Array,
  entry: EntryPlace,
  signer: DeviceState,
): EffectOrRule {
  const proof = judgePhraseProof(crypto, state, 'close', closeMessage(state), phraseProof)
  if (proof === 'broken') return refuse('phrase_proof')
  if (proof === 'holds' || isRecovery(signer) || findRecovery(state) === undefined) {
    return changed(state, { ...NOTHING_PENDING, isClosed: true })
  }
  if (state.pendingClose !== undefined) return refuse('close_pending')
  return changed(state, { pendingClose: askedBy(entry) })
}

function applyCancel(state: DeviceLogState, hash: Uint8Array): EffectOrRule {
  const pending = withoutPending(state, hash)
  return pending === undefined ? refuse('nothing_pending') : changed(state, pending)
}

/** What the operation does by itself, whatever falls by it. */
function effectOf(
  crypto: Crypto,
  state: DeviceLogState,
  operation: Operation,
  entry: SignedEntry & EntryPlace,
  signer: DeviceState,
): EffectOrRule {
  switch (operation.type) {
    case 'genesis':
      return refuse('genesis')
    case 'add':
      return applyAdd(crypto, state, operation, entry.proof, signer)
    case 'revoke':
      return applyRevoke(state, operation.devices, operation.epoch, signer)
    case 'rotate':
      return withNewEpoch(state, state.devices, operation.epoch)
    case 'recovery':
      return applyRecovery(crypto, state, operation, entry, signer)
    case 'role':
      return applyRole(state, operation, signer)
    case 'close':
      return applyClose(crypto, state, operation.phraseProof, entry, signer)
    case 'suspend':
      return applySuspend(state, operation.device, signer)
    case 'settle':
      return applySettle(crypto, state, operation, signer)
    case 'cancel':
      return applyCancel(state, operation.hash)
  }
}

/** The effect of an operation that is not genesis. `signer` is active and no member. */
export function applyOperation(
  crypto: Crypto,
  state: DeviceLogState,
  operation: Operation,
  entry: SignedEntry & EntryPlace,
  signer: DeviceState,
): EffectOrRule {
  const bearsProof = operation.type === 'add' || operation.type === 'recovery'
  if (!bearsProof && entry.proof.length > 0) return refuse('malformed')
  const outcome = effectOf(crypto, state, operation, entry, signer)
  if ('rule' in outcome) return outcome
  return { effect: { ...outcome.effect, ...stillPending(outcome.effect, signer) } }
}
