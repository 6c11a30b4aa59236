// What a device has verified of the account, as it tells a new device that it lets in (PAIR-9): the device log's newest
// entry, and the chains of devices. Bytes: u64 log_seq | log_head[32] | u16 n | n × (device_id[16] | u64 device_seq | chain[32]).

import { type ChainPosition, createByteReader, createByteWriter, toDeviceId } from '@valise/protocol'

export interface SeenView {
  readonly logSeq: number
  readonly logHead: Uint8Array
  readonly chains: readonly ChainPosition[]
}

/** With so many an invitation has room in one message of a pairing. */
export const MAX_INVITED_DEVICES = 100

export function encodeSeenView({ logSeq, logHead, chains }: SeenView): Uint8Array {
  const writer = createByteWriter().u64(logSeq).bytes(logHead).u16(chains.length)
  for (const { deviceId, deviceSeq, chain } of chains) writer.bytes(deviceId).u64(deviceSeq).bytes(chain)
  return writer.finish()
}

/** Strict: `undefined` for a wrong length, too many chains, or a device_seq of 0. */
export function parseSeenView(bytes: Uint8Array): SeenView | undefined {
  const reader = createByteReader(bytes)
  const logSeq = reader.u64()
  const logHead = reader.bytes(32)
  const count = reader.u16()
  if (reader.hasFailed() || count > MAX_INVITED_DEVICES) return undefined
  const chains: ChainPosition[] = []
  for (let left = count; left > 0; left--) {
    const deviceId = toDeviceId(reader.bytes(16))
    const deviceSeq = reader.u64()
    const chain = reader.bytes(32)
    if (reader.hasFailed() || deviceId === undefined || deviceSeq < 1) return undefined
    chains.push({ deviceId, deviceSeq, chain })
  }
  return reader.finish() ? { logSeq, logHead, chains } : undefined
}
