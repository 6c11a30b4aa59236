// CPace over ristretto255 with SHA-512, as draft-irtf-cfrg-cpace has it (CPACE-RISTR255-SHA512, initiator-responder): two
// that know one short secret get a strong key, and whoever guesses the secret has one guess a run. Pure; no state.

import { ristretto255, ristretto255_hasher } from '@noble/curves/ed25519.js'
import { sha512 } from '@noble/hashes/sha2.js'
import { concatBytes, encodeUtf8 } from '@valise/protocol'

export const CPACE_SHARE_BYTES = 32

/** What both must agree on before they begin. */
export interface CpaceInputs {
  /** PRS: what both know and nobody else. */
  readonly secret: Uint8Array
  /** CI: whom and what the run is for. */
  readonly channel: Uint8Array
  /** sid: of this run alone. */
  readonly sessionId: Uint8Array
}

export interface CpaceShare {
  readonly share: Uint8Array
  readonly associatedData: Uint8Array
}

const DOMAIN = encodeUtf8('CPaceRistretto255')
const KEY_DOMAIN = encodeUtf8('CPaceRistretto255_ISK')
/** The input block of SHA-512. */
const HASH_BLOCK_BYTES = 128
/** Twice the order's length, so that the remainder is uniform. */
const WIDE_SCALAR_BYTES = 64

const { Point } = ristretto255
const { Fn } = Point

/** element_derivation: the one-way map of RFC 9496 §4.3.4, of 64 bytes. */
function mapToElement(bytes: Uint8Array) {
  const { deriveToCurve } = ristretto255_hasher
  if (deriveToCurve === undefined) throw new Error('the library for ristretto255 has no one-way map')
  return deriveToCurve(bytes)
}

/** prepend_len: the length as LEB128, then the bytes. */
function prependLength(bytes: Uint8Array): Uint8Array {
  const length: number[] = []
  let rest = bytes.length
  do {
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))
    rest >>>= 7
  } while (rest > 0)
  return concatBytes(Uint8Array.from(length), bytes)
}

/** lv_cat. */
const joinPrefixed = (...parts: readonly Uint8Array[]): Uint8Array => concatBytes(...parts.map(prependLength))

/** calculate_generator: secret and domain fill the first block of the hash, so its work tells nothing of the secret's length. */
export function cpaceGenerator({ secret, channel, sessionId }: CpaceInputs): Uint8Array {
  const used = prependLength(secret).length + prependLength(DOMAIN).length
  const padding = new Uint8Array(Math.max(0, HASH_BLOCK_BYTES - 1 - used))
  return mapToElement(sha512(joinPrefixed(DOMAIN, secret, padding, channel, sessionId))).toBytes()
}

/** sample_scalar: 1 to the order less 1, as 32 bytes. */
export function cpaceScalar(random: { randomBytes(length: number): Uint8Array }): Uint8Array {
  for (;;) {
    const wide = random.randomBytes(WIDE_SCALAR_BYTES)
    let value = 0n
    for (const byte of wide.toReversed()) value = (value << 8n) | BigInt(byte)
    const scalar = Fn.create(value)
    if (scalar !== 0n) return Fn.toBytes(scalar)
  }
}

/** scalar_mult: the share to send. */
export const cpaceShare = (generator: Uint8Array, scalar: Uint8Array): Uint8Array =>
  Point.fromBytes(generator).multiply(Fn.fromBytes(scalar)).toBytes()

/** scalar_mult_vfy: `undefined` for the identity element and for bytes that are no canonical encoding of an element. */
export function cpaceSharedPoint(scalar: Uint8Array, peerShare: Uint8Array): Uint8Array | undefined {
  const element = parseElement(peerShare)
  if (element === undefined || element.is0()) return undefined
  return element.multiply(Fn.fromBytes(scalar)).toBytes()
}

function parseElement(bytes: Uint8Array) {
  try {
    return Point.fromBytes(bytes)
  } catch {
    return undefined
  }
}

/** ISK of the initiator-responder setting, 64 bytes. */
export const cpaceSessionKey = (
  sessionId: Uint8Array,
  sharedPoint: Uint8Array,
  initiator: CpaceShare,
  responder: CpaceShare,
): Uint8Array =>
  sha512(
    concatBytes(
      joinPrefixed(KEY_DOMAIN, sessionId, sharedPoint),
      joinPrefixed(initiator.share, initiator.associatedData),
      joinPrefixed(responder.share, responder.associatedData),
    ),
  )
