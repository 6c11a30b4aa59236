// PADMÉ (Nikitin et al., PETS 2019 §4.3.2): a length leaks at most O(log log length) bits, at a cost under 12 %.

/** Nothing is shorter than this, so that short messages look alike. */
const MIN_PADDED_BYTES = 128
/** The length of the data in front of it. */
const LENGTH_PREFIX_BYTES = 4

/** Exact below 2^31, where `Math.log2` may round. */
const floorLog2 = (value: number): number => 31 - Math.clz32(value)

/** The length of `u32 len | data | zeros` for data of `dataLength` bytes. */
export function paddedLength(dataLength: number): number {
  const length = Math.max(MIN_PADDED_BYTES, LENGTH_PREFIX_BYTES + dataLength)
  const exponent = floorLog2(length)
  const significantBits = floorLog2(exponent) + 1
  const step = 2 ** (exponent - significantBits)
  return Math.ceil(length / step) * step
}
