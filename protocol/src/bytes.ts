// Bytes in and out: a writer and a strict reader for the layouts of docs/PROTOCOL.md, canonical base64url, hex.
// A reader never throws on a peer's bytes: it fails once, stays failed, and `finish()` tells.

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const out = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Not constant-time: for public values only. Secrets are compared with `Crypto.isEqual`. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

export function isAllZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0)
}

const textEncoder = new TextEncoder()
const strictTextDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function encodeUtf8(text: string): Uint8Array {
  return textEncoder.encode(text)
}

/** `undefined` when the bytes are not well-formed UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return strictTextDecoder.decode(bytes)
  } catch {
    return undefined
  }
}

const ascii = new TextDecoder()
/** Characters of a text that is being written. Bytes given may be secret, so nothing of them stays here. */
const scratch = new Uint8Array(4096)

/** Written at once: a text that grows by pieces is a tree of strings, most of a handshake's garbage. */
function writeAscii(length: number, write: (out: Uint8Array) => void): string {
  const out = length <= scratch.length ? scratch.subarray(0, length) : new Uint8Array(length)
  write(out)
  const text = ascii.decode(out)
  out.fill(0)
  return text
}

const codesOf = (alphabet: string): Uint8Array => Uint8Array.from(alphabet, (character) => character.charCodeAt(0))
const HEX = codesOf('0123456789abcdef')

export function toHex(bytes: Uint8Array): string {
  return writeAscii(2 * bytes.length, (out) => {
    let at = 0
    for (const byte of bytes) {
      out[at++] = HEX[byte >> 4] ?? 0
      out[at++] = HEX[byte & 15] ?? 0
    }
  })
}

/** `undefined` unless the text is an even number of hexadecimal digits. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return undefined
  const out = new Uint8Array(text.length / 2)
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16)
  return out
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const BASE64URL = codesOf(ALPHABET)
const NO_VALUE = 0xff
/** By the character's code. */
const VALUES = new Uint8Array(128).fill(NO_VALUE)
for (let value = 0; value < ALPHABET.length; value++) VALUES[ALPHABET.charCodeAt(value)] = value

/** base64url without padding (RFC 4648 §5). */
export function toBase64Url(bytes: Uint8Array): string {
  // Whole groups of three are written as four; what the last one lacks is cut off again.
  const missing = (3 - (bytes.length % 3)) % 3
  const length = ((bytes.length + missing) / 3) * 4
  const text = writeAscii(length, (out) => {
    let at = 0
    for (let i = 0; i < bytes.length; i += 3) {
      const chunk = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0)
      out[at++] = BASE64URL[chunk >> 18] ?? 0
      out[at++] = BASE64URL[(chunk >> 12) & 63] ?? 0
      out[at++] = BASE64URL[(chunk >> 6) & 63] ?? 0
      out[at++] = BASE64URL[chunk & 63] ?? 0
    }
  })
  return missing === 0 ? text : text.slice(0, -missing)
}

/** Canonical base64url only: `undefined` for padding, foreign characters or set bits beyond the last byte. */
export function fromBase64Url(text: string): Uint8Array | undefined {
  if (text.length % 4 === 1) return undefined
  const out = new Uint8Array(Math.floor((text.length * 3) / 4))
  let bits = 0
  let bitCount = 0
  let at = 0
  for (let i = 0; i < text.length; i++) {
    const value = VALUES[text.charCodeAt(i)] ?? NO_VALUE
    if (value === NO_VALUE) return undefined
    bits = ((bits << 6) | value) & 0xffff
    bitCount += 6
    if (bitCount >= 8) {
      bitCount -= 8
      out[at++] = (bits >> bitCount) & 0xff
    }
  }
  return (bits & ((1 << bitCount) - 1)) === 0 ? out : undefined
}

export interface ByteWriter {
  u8(value: number): ByteWriter
  u16(value: number): ByteWriter
  u32(value: number): ByteWriter
  u64(value: number): ByteWriter
  bytes(value: Uint8Array): ByteWriter
  /** LP(x): u32 length and the bytes. */
  prefixed(value: Uint8Array): ByteWriter
  finish(): Uint8Array
}

/** Big-endian. Integers out of range throw a RangeError: the caller's bug, never a peer's. */
export function createByteWriter(): ByteWriter {
  const parts: Uint8Array[] = []
  const integer = (value: number, size: 1 | 2 | 4 | 8): Uint8Array => {
    const limit = size === 8 ? Number.MAX_SAFE_INTEGER : 2 ** (8 * size) - 1
    if (!Number.isInteger(value) || value < 0 || value > limit) {
      throw new RangeError(`expected an integer from 0 to ${limit}`)
    }
    const out = new Uint8Array(size)
    let rest = value
    for (let i = size - 1; i >= 0; i--) {
      out[i] = rest % 256
      rest = Math.floor(rest / 256)
    }
    return out
  }
  const push = (part: Uint8Array): ByteWriter => {
    parts.push(part)
    return writer
  }
  const writer: ByteWriter = {
    u8: (value) => push(integer(value, 1)),
    u16: (value) => push(integer(value, 2)),
    u32: (value) => push(integer(value, 4)),
    u64: (value) => push(integer(value, 8)),
    bytes: push,
    prefixed: (value) => push(integer(value.length, 4)).bytes(value),
    finish: () => concatBytes(...parts),
  }
  return writer
}

/** LP(x) as bytes. */
export function prefixBytes(value: Uint8Array): Uint8Array {
  return createByteWriter().prefixed(value).finish()
}

export interface ByteReader {
  u8(): number
  u16(): number
  u32(): number
  /** Fails above 2^53 - 1, which no counter or time of this protocol reaches. */
  u64(): number
  /** A view into the input, not a copy. */
  bytes(length: number): Uint8Array
  /** LP(x), refused above `maxLength` before anything is read. */
  prefixed(maxLength: number): Uint8Array
  offset(): number
  /** True once a read ran past the end or a bound: every later read yields zeros. */
  hasFailed(): boolean
  /** True when every read succeeded and no byte is left over. */
  finish(): boolean
}

export function createByteReader(input: Uint8Array): ByteReader {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength)
  let offset = 0
  let failed = false
  const take = (length: number): number | undefined => {
    if (failed || length > input.length - offset) {
      failed = true
      return undefined
    }
    const at = offset
    offset += length
    return at
  }
  const integer = (length: number, read: (at: number) => number): number => {
    const at = take(length)
    return at === undefined ? 0 : read(at)
  }
  const bytes = (length: number): Uint8Array => {
    const at = take(length)
    return at === undefined ? new Uint8Array(0) : input.subarray(at, at + length)
  }
  const u32 = (): number => integer(4, (at) => view.getUint32(at))
  return {
    u8: () => integer(1, (at) => view.getUint8(at)),
    u16: () => integer(2, (at) => view.getUint16(at)),
    u32,
    u64: () =>
      integer(8, (at) => {
        const value = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4)
        if (!Number.isSafeInteger(value)) failed = true
        return value
      }),
    bytes,
    prefixed: (maxLength) => {
      const length = u32()
      if (length > maxLength) failed = true
      return failed ? new Uint8Array(0) : bytes(length)
    },
    offset: () => offset,
    hasFailed: () => failed,
    finish: () => !failed && offset === input.length,
  }
}
