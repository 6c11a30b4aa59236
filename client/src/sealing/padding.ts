// What stands inside a ciphertext: u32 len | data | zeros, up to a length that tells little of the data's (PROTOCOL E).

import { createByteReader, isAllZero, paddedLength } from '@valise/protocol'

const LENGTH_BYTES = 4

export function pad(data: Uint8Array): Uint8Array {
  const padded = new Uint8Array(paddedLength(data.length))
  new DataView(padded.buffer).setUint32(0, data.length)
  padded.set(data, LENGTH_BYTES)
  return padded
}

/** The data, copied; `undefined` unless the length is exactly the padded one and the rest is zeros. */
export function unpad(padded: Uint8Array): Uint8Array | undefined {
  const reader = createByteReader(padded)
  const data = reader.prefixed(padded.length)
  const zeros = reader.bytes(padded.length - LENGTH_BYTES - data.length)
  if (!reader.finish() || padded.length !== paddedLength(data.length) || !isAllZero(zeros)) return undefined
  return data.slice()
}
