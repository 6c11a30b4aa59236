// The payloads of the seven operations of the device log and EPOCH (PROTOCOL C), out and in.
// Strict: exact lengths, known roles, no trailing bytes. What an operation may do is `effects.ts`.

import { type ByteReader, createByteReader, createByteWriter } from '../bytes.ts'
import { type DeviceId, toDeviceId } from '../ids.ts'
import {
  type DeviceRecord,
  type DeviceRole,
  encodeDeviceRecord,
  encodeRole,
  MAX_DEVICE_RECORD_BYTES,
  parseDeviceRecord,
  parseRole,
} from './device-record.ts'

/** A box is sealed outside the entry; the entry commits to its hash. */
export interface EpochMember {
  readonly deviceId: DeviceId
  readonly boxHash: Uint8Array
}

/** EPOCH: the start of key epoch n. */
export interface EpochStart {
  readonly n: number
  readonly commit: Uint8Array
  /** Sorted by device id; exactly the devices that are active after the entry. */
  readonly members: readonly EpochMember[]
  /** The hash of prev_box, or 32 zeros: no link to the epoch before. */
  readonly prevBoxHash: Uint8Array
}

/** Events of the device above `lastSeq` are void; `chain` is its chain at `lastSeq`. */
export interface RevokedDevice {
  readonly deviceId: DeviceId
  readonly lastSeq: number
  readonly chain: Uint8Array
}

export type Operation =
  | {
      readonly type: 'genesis'
      readonly nonce: Uint8Array
      readonly manager: DeviceRecord
      readonly recovery: DeviceRecord | undefined
      readonly epoch: EpochStart
    }
  | { readonly type: 'add'; readonly record: DeviceRecord; readonly epochN: number; readonly boxHash: Uint8Array }
  | {
      readonly type: 'revoke'
      readonly devices: readonly RevokedDevice[]
      /** For people; no rule hangs on it. */
      readonly reason: number
      readonly epoch: EpochStart
    }
  | { readonly type: 'rotate'; readonly epoch: EpochStart }
  | { readonly type: 'recovery'; readonly record: DeviceRecord; readonly epoch: EpochStart }
  | { readonly type: 'role'; readonly deviceId: DeviceId; readonly role: DeviceRole }
  | { readonly type: 'close' }

export type OperationType = Operation['type']

const CODE_BY_OPERATION: Record<OperationType, number> = {
  genesis: 1,
  add: 2,
  revoke: 3,
  rotate: 4,
  recovery: 5,
  role: 6,
  close: 7,
}

export const encodeOperationType = (type: OperationType): number => CODE_BY_OPERATION[type]

function encodeEpoch(epoch: EpochStart): Uint8Array {
  const writer = createByteWriter().u32(epoch.n).bytes(epoch.commit).u8(epoch.members.length)
  for (const member of epoch.members) writer.bytes(member.deviceId).bytes(member.boxHash)
  return writer.bytes(epoch.prevBoxHash).finish()
}

export function encodeOperation(operation: Operation): Uint8Array {
  const writer = createByteWriter()
  switch (operation.type) {
    case 'genesis':
      return writer
        .bytes(operation.nonce)
        .prefixed(encodeDeviceRecord(operation.manager))
        .prefixed(operation.recovery === undefined ? new Uint8Array(0) : encodeDeviceRecord(operation.recovery))
        .bytes(encodeEpoch(operation.epoch))
        .finish()
    case 'add':
      return writer
        .prefixed(encodeDeviceRecord(operation.record))
        .u32(operation.epochN)
        .bytes(operation.boxHash)
        .finish()
    case 'revoke':
      writer.u8(operation.devices.length)
      for (const device of operation.devices) writer.bytes(device.deviceId).u64(device.lastSeq).bytes(device.chain)
      return writer.u8(operation.reason).bytes(encodeEpoch(operation.epoch)).finish()
    case 'rotate':
      return encodeEpoch(operation.epoch)
    case 'recovery':
      return writer.prefixed(encodeDeviceRecord(operation.record)).bytes(encodeEpoch(operation.epoch)).finish()
    case 'role':
      return writer.bytes(operation.deviceId).u8(encodeRole(operation.role)).finish()
    case 'close':
      return writer.finish()
  }
}

const readDeviceId = (reader: ByteReader): DeviceId | undefined => toDeviceId(reader.bytes(16))

const readRecord = (reader: ByteReader): DeviceRecord | undefined =>
  parseDeviceRecord(reader.prefixed(MAX_DEVICE_RECORD_BYTES))

function readEpoch(reader: ByteReader): EpochStart | undefined {
  const n = reader.u32()
  const commit = reader.bytes(32)
  const members: EpochMember[] = []
  for (let left = reader.u8(); left > 0; left--) {
    const deviceId = readDeviceId(reader)
    if (deviceId === undefined) return undefined
    members.push({ deviceId, boxHash: reader.bytes(32) })
  }
  const prevBoxHash = reader.bytes(32)
  return reader.hasFailed() ? undefined : { n, commit, members, prevBoxHash }
}

function readGenesis(reader: ByteReader): Operation | undefined {
  const nonce = reader.bytes(32)
  const manager = readRecord(reader)
  const recoveryBytes = reader.prefixed(MAX_DEVICE_RECORD_BYTES)
  const recovery = recoveryBytes.length === 0 ? undefined : parseDeviceRecord(recoveryBytes)
  const epoch = readEpoch(reader)
  if (manager === undefined || epoch === undefined) return undefined
  if (recoveryBytes.length > 0 && recovery === undefined) return undefined
  return { type: 'genesis', nonce, manager, recovery, epoch }
}

function readAdd(reader: ByteReader): Operation | undefined {
  const record = readRecord(reader)
  const epochN = reader.u32()
  const boxHash = reader.bytes(32)
  return record === undefined ? undefined : { type: 'add', record, epochN, boxHash }
}

function readRevoke(reader: ByteReader): Operation | undefined {
  const count = reader.u8()
  if (count === 0) return undefined
  const devices: RevokedDevice[] = []
  for (let left = count; left > 0; left--) {
    const deviceId = readDeviceId(reader)
    if (deviceId === undefined) return undefined
    devices.push({ deviceId, lastSeq: reader.u64(), chain: reader.bytes(32) })
  }
  const reason = reader.u8()
  const epoch = readEpoch(reader)
  return epoch === undefined ? undefined : { type: 'revoke', devices, reason, epoch }
}

function readRotate(reader: ByteReader): Operation | undefined {
  const epoch = readEpoch(reader)
  return epoch === undefined ? undefined : { type: 'rotate', epoch }
}

function readRecovery(reader: ByteReader): Operation | undefined {
  const record = readRecord(reader)
  const epoch = readEpoch(reader)
  return record === undefined || epoch === undefined ? undefined : { type: 'recovery', record, epoch }
}

function readRole(reader: ByteReader): Operation | undefined {
  const deviceId = readDeviceId(reader)
  const role = parseRole(reader.u8())
  return deviceId === undefined || role === undefined ? undefined : { type: 'role', deviceId, role }
}

const READER_BY_CODE = new Map<number, (reader: ByteReader) => Operation | undefined>([
  [CODE_BY_OPERATION.genesis, readGenesis],
  [CODE_BY_OPERATION.add, readAdd],
  [CODE_BY_OPERATION.revoke, readRevoke],
  [CODE_BY_OPERATION.rotate, readRotate],
  [CODE_BY_OPERATION.recovery, readRecovery],
  [CODE_BY_OPERATION.role, readRole],
  [CODE_BY_OPERATION.close, () => ({ type: 'close' })],
])

export type ParsedOperation =
  | { readonly ok: true; readonly operation: Operation }
  | { readonly ok: false; readonly rule: 'unknown_op' | 'malformed' }

export function parseOperation(code: number, payload: Uint8Array): ParsedOperation {
  const read = READER_BY_CODE.get(code)
  if (read === undefined) return { ok: false, rule: 'unknown_op' }
  const reader = createByteReader(payload)
  const operation = read(reader)
  return operation !== undefined && reader.finish() ? { ok: true, operation } : { ok: false, rule: 'malformed' }
}
