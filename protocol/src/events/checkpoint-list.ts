// The list at the end of a checkpoint's header (PROTOCOL E): the chains of devices as its author has seen them. It stands in
// clear, so that the server can refuse a false one before anybody reads it.

import { createByteReader, createByteWriter, toHex } from '../bytes.ts'
import { type DeviceId, toDeviceId } from '../ids.ts'

/** The chain of a device after its event `deviceSeq`. */
export interface ChainPosition {
  readonly deviceId: DeviceId
  readonly deviceSeq: number
  readonly chain: Uint8Array
}

export const CHECKPOINT_COUNT_BYTES = 2
const POSITION_BYTES = 16 + 8 + 32
/** Positions in one checkpoint. */
export const MAX_CHECKPOINT_POSITIONS = 512

/** The length of the list whose first two bytes are given; `undefined` when no list has it. */
export function checkpointListBytes(countBytes: Uint8Array): number | undefined {
  const count = ((countBytes[0] ?? 0) << 8) | (countBytes[1] ?? 0)
  return count < 1 || count > MAX_CHECKPOINT_POSITIONS ? undefined : CHECKPOINT_COUNT_BYTES + count * POSITION_BYTES
}

const isAscending = (before: ChainPosition | undefined, next: ChainPosition): boolean =>
  before === undefined || toHex(before.deviceId) < toHex(next.deviceId)

/** u16 n | n × (device_id | u64 device_seq | chain). Throws a RangeError unless sorted by device id, 1 to 512 positions. */
export function encodeCheckpointList(positions: readonly ChainPosition[]): Uint8Array {
  const writer = createByteWriter().u16(positions.length)
  for (const { deviceId, deviceSeq, chain } of positions) writer.bytes(deviceId).u64(deviceSeq).bytes(chain)
  const bytes = writer.finish()
  if (parseCheckpointList(bytes) === undefined) {
    throw new RangeError(`expected 1 to ${MAX_CHECKPOINT_POSITIONS} chains, sorted by device id`)
  }
  return bytes
}

/** Strict: `undefined` for no or too many positions, a wrong length, a device_seq of 0, or an order that is not strict. */
export function parseCheckpointList(bytes: Uint8Array): readonly ChainPosition[] | undefined {
  if (checkpointListBytes(bytes) !== bytes.length) return undefined
  const reader = createByteReader(bytes)
  const positions: ChainPosition[] = []
  for (let left = reader.u16(); left > 0; left--) {
    const deviceId = toDeviceId(reader.bytes(16))
    const deviceSeq = reader.u64()
    const chain = reader.bytes(32)
    if (deviceId === undefined || deviceSeq < 1 || reader.hasFailed()) return undefined
    const position = { deviceId, deviceSeq, chain }
    if (!isAscending(positions.at(-1), position)) return undefined
    positions.push(position)
  }
  return reader.finish() ? positions : undefined
}
