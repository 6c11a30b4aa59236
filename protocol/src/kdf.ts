// Hashes, key derivation and signatures with their domains: nothing in this protocol is hashed, derived or
// signed without a name from the lists below, so bytes made for one purpose never serve another.

import { concatBytes, encodeUtf8 } from './bytes.ts'
import type { Crypto, Signer } from './crypto.ts'

export type HashContext =
  | 'device-id'
  | 'user-id'
  | 'log-entry'
  | 'box'
  | 'event-body'
  | 'event-inner'
  | 'event'
  | 'chain-0'
  | 'chain'

export type SignatureContext =
  | 'server_hello'
  | 'client_auth'
  | 'server-key'
  | 'server-key-next'
  | 'device-log'
  | 'device-pop'
  | 'genesis-pop'
  | 'recovery-heir'
  | 'close'
  | 'event'

const domain = (context: string): Uint8Array => encodeUtf8(`valise ${context}\0`)

const HASH_DOMAINS: Readonly<Record<HashContext, Uint8Array>> = {
  'device-id': domain('device-id'),
  'user-id': domain('user-id'),
  'log-entry': domain('log-entry'),
  box: domain('box'),
  'event-body': domain('event-body'),
  'event-inner': domain('event-inner'),
  event: domain('event'),
  'chain-0': domain('chain-0'),
  chain: domain('chain'),
}

/** The 64 spaces keep a signature apart from any other protocol's, as in RFC 8446 §4.4.3. */
const signatureDomain = (context: SignatureContext): Uint8Array =>
  concatBytes(new Uint8Array(64).fill(0x20), domain(context))

const SIGNATURE_DOMAINS: Readonly<Record<SignatureContext, Uint8Array>> = {
  server_hello: signatureDomain('server_hello'),
  client_auth: signatureDomain('client_auth'),
  'server-key': signatureDomain('server-key'),
  'server-key-next': signatureDomain('server-key-next'),
  'device-log': signatureDomain('device-log'),
  'device-pop': signatureDomain('device-pop'),
  'genesis-pop': signatureDomain('genesis-pop'),
  'recovery-heir': signatureDomain('recovery-heir'),
  close: signatureDomain('close'),
  event: signatureDomain('event'),
}

const HASH_BYTES = 32

/** Domain and data side by side, without an allocation for each hash. Nothing of it outlives a call. */
const scratch = new Uint8Array(4096)

/** hash(c, m): SHA-256 under a named domain. On the server's path of an event, twice. */
export function hashWithContext(crypto: Crypto, context: HashContext, data: Uint8Array): Uint8Array {
  const domainBytes = HASH_DOMAINS[context]
  const length = domainBytes.length + data.length
  if (length > scratch.length) return crypto.sha256(concatBytes(domainBytes, data))
  scratch.set(domainBytes)
  scratch.set(data, domainBytes.length)
  return crypto.sha256(scratch.subarray(0, length))
}

/** HKDF-Extract of RFC 5869 §2.2 with SHA-256. */
export function hkdfExtract(crypto: Crypto, salt: Uint8Array, inputKey: Uint8Array): Uint8Array {
  return crypto.hmacSha256(salt, inputKey)
}

/** HKDF-Expand of RFC 5869 §2.3 with SHA-256; throws a RangeError above 255 blocks, as the RFC bounds it. */
export function hkdfExpand(crypto: Crypto, key: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (length > 255 * HASH_BYTES) throw new RangeError('HKDF-Expand yields at most 255 blocks')
  if (length <= HASH_BYTES) return expandOneBlock(crypto, key, info, length)
  const out = new Uint8Array(length)
  // The block before, info and index side by side; the first block has none before it.
  const input = new Uint8Array(HASH_BYTES + info.length + 1)
  input.set(info, HASH_BYTES)
  for (let at = 0, index = 1; at < length; at += HASH_BYTES, index++) {
    input[input.length - 1] = index
    const block = crypto.hmacSha256(key, index === 1 ? input.subarray(HASH_BYTES) : input)
    out.set(length - at < HASH_BYTES ? block.subarray(0, length - at) : block, at)
    input.set(block)
    block.fill(0)
  }
  // Only the caller's copy of the secret stays.
  input.fill(0, 0, HASH_BYTES)
  return out
}

/** All but long keys: this is on the path of a handshake, twenty times. */
function expandOneBlock(crypto: Crypto, key: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const input = new Uint8Array(info.length + 1)
  input.set(info)
  input[info.length] = 1
  const block = crypto.hmacSha256(key, input)
  if (length === HASH_BYTES) return block
  const out = block.slice(0, length)
  block.fill(0)
  return out
}

const PREFIX = 'valise '
/** With PREFIX. They are constants of the code, so there are few. */
const knownLabels = new Map<string, Uint8Array>()

function encodeLabel(prefix: string, label: string): Uint8Array {
  if (prefix !== PREFIX) return encodeUtf8(prefix + label)
  const known = knownLabels.get(label)
  if (known !== undefined) return known
  const encoded = encodeUtf8(prefix + label)
  knownLabels.set(label, encoded)
  return encoded
}

/** HKDF-Expand-Label of RFC 8446 §7.1; the prefix is a parameter so that TLS 1.3 traces test this function. */
export function kdf(
  crypto: Crypto,
  secret: Uint8Array,
  label: string,
  context: Uint8Array,
  length = HASH_BYTES,
  prefix = PREFIX,
): Uint8Array {
  const fullLabel = encodeLabel(prefix, label)
  if (length > 0xffff || fullLabel.length > 0xff || context.length > 0xff) {
    throw new RangeError('a label or a context has at most 255 bytes, what is derived 65535')
  }
  // u16 length | u8 and label | u8 and context.
  const info = new Uint8Array(4 + fullLabel.length + context.length)
  info[0] = length >> 8
  info[1] = length
  info[2] = fullLabel.length
  info.set(fullLabel, 3)
  info[3 + fullLabel.length] = context.length
  info.set(context, 4 + fullLabel.length)
  return hkdfExpand(crypto, secret, info, length)
}

/** The exact bytes under a signature. */
export function signingInput(context: SignatureContext, message: Uint8Array): Uint8Array {
  return concatBytes(SIGNATURE_DOMAINS[context], message)
}

/** sig(sk, c, m): 64 bytes. */
export async function signWithContext(
  signer: Signer,
  context: SignatureContext,
  message: Uint8Array,
): Promise<Uint8Array> {
  return signer.sign(signingInput(context, message))
}

/** Never throws; as strict as `Crypto.verifySignature`. */
export function verifyWithContext(
  crypto: Crypto,
  publicKey: Uint8Array,
  context: SignatureContext,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  return crypto.verifySignature(publicKey, signingInput(context, message), signature)
}
