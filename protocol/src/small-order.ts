// Public keys that no parser lets in. Ed25519: the 14 encodings of points of small order, under which some libraries
// accept forged signatures, and the encodings whose y is not reduced (RFC 8032 §5.1.3). X25519: the points of small order,
// with which every secret agrees on zero (RFC 7748 §6.1), so that what is sealed to them is sealed to everybody.

import { fromHex, toHex } from './bytes.ts'

const zeros = (count: number): string => '00'.repeat(count)
const ones = (count: number): string => 'ff'.repeat(count)

const SMALL_ORDER_KEYS: ReadonlySet<string> = new Set([
  `01${zeros(31)}`,
  `01${zeros(30)}80`,
  zeros(32),
  `${zeros(31)}80`,
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
  `ec${ones(30)}7f`,
  `ec${ones(31)}`,
  `ed${ones(30)}7f`,
  `ed${ones(31)}`,
  `ee${ones(30)}7f`,
  `ee${ones(31)}`,
])

// Almost every key differs from all of them in its first and last byte, which spares the hexadecimal text.
const EDGE_BYTES: ReadonlySet<number> = new Set(
  [...SMALL_ORDER_KEYS].map((hex) => {
    const bytes = fromHex(hex) ?? new Uint8Array(32)
    return edgesOf(bytes)
  }),
)

function edgesOf(key: Uint8Array): number {
  return ((key[0] ?? 0) << 8) | (key[31] ?? 0)
}

/** True for the 14 encodings, canonical or not, of the eight points of small order. */
export function isSmallOrderKey(publicKey: Uint8Array): boolean {
  return EDGE_BYTES.has(edgesOf(publicKey)) && SMALL_ORDER_KEYS.has(toHex(publicKey))
}

/** True for 32 bytes whose y coordinate is below 2^255 - 19. */
function isReducedKey(publicKey: Uint8Array): boolean {
  if (publicKey.length !== 32) return false
  if ((publicKey[0] ?? 0) < 0xed || ((publicKey[31] ?? 0) & 0x7f) !== 0x7f) return true
  return publicKey.subarray(1, 31).some((byte) => byte !== 0xff)
}

/** What every parser of an Ed25519 public key asks: 32 bytes, reduced, not of small order. */
export function isAcceptableKey(publicKey: Uint8Array): boolean {
  return isReducedKey(publicKey) && !isSmallOrderKey(publicKey)
}

/** Without the top bit, which X25519 does not look at (RFC 7748 §5). */
const LOW_ORDER_X25519_KEYS: ReadonlySet<string> = new Set([
  zeros(32),
  `01${zeros(31)}`,
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  `ec${ones(30)}7f`,
  `ed${ones(30)}7f`,
  `ee${ones(30)}7f`,
])

/** True for the encodings, canonical or not, of the X25519 points of small order. */
export function isLowOrderX25519Key(publicKey: Uint8Array): boolean {
  const masked = publicKey.slice()
  masked[31] = (masked[31] ?? 0) & 0x7f
  return LOW_ORDER_X25519_KEYS.has(toHex(masked))
}
