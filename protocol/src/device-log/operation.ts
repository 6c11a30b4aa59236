// The payloads of the ten operations of the device log and EPOCH (PROTOCOL C), out and in.
// Strict: exact lengths, known roles, no trailing bytes. What an operation may do is `effects.ts`.

import { type ByteReader, type ByteWriter, createByteReader, createByteWriter } from '../bytes.ts'
import { type DeviceId, toDeviceId } from '../ids.ts'
import { MAX_EPOCH_LINKS } from '../limits.ts'
import {
  type DeviceRecord,
  type DeviceRole,
  encodeDeviceRecord,
  encodeRole,
  MAX_DEVICE_RECORD_BYTES,
  parseDeviceRecord,
  parseRole,
} from './device-record.ts'

const PROOF_BYTES = 64
/** What an op 5 says of itself: an epoch follows, or nothing does. */
const PENDING = 0
const FINAL = 1

/** A box is sealed outside the entry; the entry commits to its hash. */
export interface EpochMember {
  readonly deviceId: DeviceId
  readonly boxHash: Uint8Array
}

/** EPOCH: the start of key epoch n. */
export interface EpochStart {
  readonly n: number
  readonly commit: Uint8Array
  /** Sorted by device id; exactly the devices that are active or suspended after the entry. */
  readonly members: readonly EpochMember[]
  /** Newest first; at most `MAX_EPOCH_LINKS`. */
  readonly links: readonly EpochLink[]
}

/** A link of an epoch to an older one: the older secret, sealed under the newer one. */
export interface EpochLink {
  /** The older epoch. */
  readonly n: number
  readonly boxHash: Uint8Array
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
  | {
      readonly type: 'recovery'
      readonly record: DeviceRecord
      /** sig(old recovery,"recovery-heir", user_id | DR), or empty. */
      readonly heirProof: Uint8Array
      /** `undefined`: the new recovery device is pending until an entry settles it. */
      readonly epoch: EpochStart | undefined
    }
  | { readonly type: 'role'; readonly deviceId: DeviceId; readonly role: DeviceRole }
  /** `phraseProof`: sig(recovery,"close", user_id | prev), or empty. */
  | { readonly type: 'close'; readonly phraseProof: Uint8Array }
  | { readonly type: 'suspend'; readonly device: RevokedDevice }
  /** `hash` is that of the entry that asked. */
  | { readonly type: 'settle'; readonly hash: Uint8Array; readonly epoch: EpochStart }
  | { readonly type: 'cancel'; readonly hash: Uint8Array }

export type OperationType = Operation['type']

const CODE_BY_OPERATION: Record<OperationType, number> = {
  genesis: 1,
  add: 2,
  revoke: 3,
  rotate: 4,
  recovery: 5,
  role: 6,
  close: 7,
  suspend: 8,
  settle: 9,
  cancel: 10,
}

export const encodeOperationType = (type: OperationType): number => CODE_BY_OPERATION[type]

function encodeEpoch(epoch: EpochStart): Uint8Array {
  const writer = createByteWriter().u32(epoch.n).bytes(epoch.commit).u8(epoch.members.length)
  for (const member of epoch.members) writer.bytes(member.deviceId).bytes(member.boxHash)
  writer.u8(epoch.links.length)
  for (const link of epoch.links) writer.u32(link.n).bytes(link.boxHash)
  return writer.finish()
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
      for (const device of operation.devices) writeCut(writer, device)
      return writer.u8(operation.reason).bytes(encodeEpoch(operation.epoch)).finish()
    case 'rotate':
      return encodeEpoch(operation.epoch)
    case 'recovery':
      writer.prefixed(encodeDeviceRecord(operation.record)).prefixed(operation.heirProof)
      writer.u8(operation.epoch === undefined ? PENDING : FINAL)
      return (operation.epoch === undefined ? writer : writer.bytes(encodeEpoch(operation.epoch))).finish()
    case 'role':
      return writer.bytes(operation.deviceId).u8(encodeRole(operation.role)).finish()
    case 'close':
      return writer.prefixed(operation.phraseProof).finish()
    case 'suspend':
      return writeCut(writer, operation.device).finish()
    case 'settle':
      return writer.bytes(operation.hash).bytes(encodeEpoch(operation.epoch)).finish()
    case 'cancel':
      return writer.bytes(operation.hash).finish()
  }
}

const readDeviceId = (reader: ByteReader): DeviceId | undefined => toDeviceId(reader.bytes(16))

/** Empty or one signature. */
function readProof(reader: ByteReader): Uint8Array | undefined {
  const proof = reader.prefixed(PROOF_BYTES)
  return proof.length === 0 || proof.length === PROOF_BYTES ? proof : undefined
}

const writeCut = (writer: ByteWriter, { deviceId, lastSeq, chain }: RevokedDevice): ByteWriter =>
  writer.bytes(deviceId).u64(lastSeq).bytes(chain)

function readCut(reader: ByteReader): RevokedDevice | undefined {
  const deviceId = readDeviceId(reader)
  const lastSeq = reader.u64()
  const chain = reader.bytes(32)
  return deviceId === undefined ? undefined : { deviceId, lastSeq, chain }
}

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
  const linkCount = reader.u8()
  if (linkCount > MAX_EPOCH_LINKS) return undefined
  const links: EpochLink[] = []
  for (let left = linkCount; left > 0; left--) links.push({ n: reader.u32(), boxHash: reader.bytes(32) })
  return reader.hasFailed() ? undefined : { n, commit, members, links }
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
    const device = readCut(reader)
    if (device === undefined) return undefined
    devices.push(device)
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
  const heirProof = readProof(reader)
  const form = reader.u8()
  if (record === undefined || heirProof === undefined) return undefined
  if (form === PENDING) return { type: 'recovery', record, heirProof, epoch: undefined }
  const epoch = form === FINAL ? readEpoch(reader) : undefined
  return epoch === undefined ? undefined : { type: 'recovery', record, heirProof, epoch }
}

function readRole(reader: ByteReader): Operation | undefined {
  const deviceId = readDeviceId(reader)
  const role = parseRole(reader.u8())
  return deviceId === undefined || role === undefined ? undefined : { type: 'role', deviceId, role }
}

function readClose(reader: ByteReader): Operation | undefined {
  const phraseProof = readProof(reader)
  return phraseProof === undefined ? undefined : { type: 'close', phraseProof }
}

function readSuspend(reader: ByteReader): Operation | undefined {
  const device = readCut(reader)
  return device === undefined ? undefined : { type: 'suspend', device }
}

function readSettle(reader: ByteReader): Operation | undefined {
  const hash = reader.bytes(32)
  const epoch = readEpoch(reader)
  return epoch === undefined ? undefined : { type: 'settle', hash, epoch }
}

const READER_BY_CODE = new Map<number, (reader: ByteReader) => Operation | undefined>([
  [CODE_BY_OPERATION.genesis, readGenesis],
  [CODE_BY_OPERATION.add, readAdd],
  [CODE_BY_OPERATION.revoke, readRevoke],
  [CODE_BY_OPERATION.rotate, readRotate],
  [CODE_BY_OPERATION.recovery, readRecovery],
  [CODE_BY_OPERATION.role, readRole],
  [CODE_BY_OPERATION.close, readClose],
  [CODE_BY_OPERATION.suspend, readSuspend],
  [CODE_BY_OPERATION.settle, readSettle],
  [CODE_BY_OPERATION.cancel, (reader) => ({ type: 'cancel', hash: reader.bytes(32) })],
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
