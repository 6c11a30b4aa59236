// The bytes of the two hellos: version, suites, nonces and key shares. Strict both ways: exact lengths,
// known suites only, each at most once, and an ML-KEM key exactly when its suite is offered.

import { createByteReader, createByteWriter } from '../bytes.ts'

export const PROTOCOL_VERSION = 1
/** X25519 alone. */
export const SUITE_X25519 = 1
/** ML-KEM-768 and X25519; parsed, and not chosen while Node's OpenSSL has no ML-KEM. */
const SUITE_X25519_MLKEM768 = 2

export type Suite = typeof SUITE_X25519 | typeof SUITE_X25519_MLKEM768

const KNOWN_SUITES: readonly Suite[] = [SUITE_X25519, SUITE_X25519_MLKEM768]
const MLKEM768_KEY_BYTES = 1184
const MLKEM768_CIPHERTEXT_BYTES = 1088

interface ClientHello {
  readonly suites: readonly Suite[]
  readonly nonce: Uint8Array
  readonly keyShare: Uint8Array
  readonly serverFingerprint: Uint8Array
  /** Empty unless suite 2 is offered. */
  readonly kemKey: Uint8Array
}

interface ServerHello {
  readonly suite: Suite
  readonly nonce: Uint8Array
  readonly keyShare: Uint8Array
  /** Empty unless suite 2 was chosen. */
  readonly kemCiphertext: Uint8Array
}

const toSuite = (value: number): Suite | undefined => KNOWN_SUITES.find((suite) => suite === value)

export function encodeClientHello(hello: ClientHello): Uint8Array {
  const writer = createByteWriter().u8(PROTOCOL_VERSION).u8(hello.suites.length)
  for (const suite of hello.suites) writer.u16(suite)
  return writer.bytes(hello.nonce).bytes(hello.keyShare).bytes(hello.serverFingerprint).prefixed(hello.kemKey).finish()
}

export function parseClientHello(
  bytes: Uint8Array,
): { ok: true; hello: ClientHello } | { ok: false; code: 'handshake_failed' | 'version_unsupported' } {
  const failed = { ok: false, code: 'handshake_failed' } as const
  const reader = createByteReader(bytes)
  const version = reader.u8()
  if (reader.hasFailed()) return failed
  if (version !== PROTOCOL_VERSION) return { ok: false, code: 'version_unsupported' }
  const count = reader.u8()
  const suites: Suite[] = []
  for (let i = 0; i < count; i++) {
    const suite = toSuite(reader.u16())
    if (suite === undefined || suites.includes(suite)) return failed
    suites.push(suite)
  }
  const hello: ClientHello = {
    suites,
    nonce: reader.bytes(32),
    keyShare: reader.bytes(32),
    serverFingerprint: reader.bytes(32),
    kemKey: reader.prefixed(MLKEM768_KEY_BYTES),
  }
  const kemKeyBytes = suites.includes(SUITE_X25519_MLKEM768) ? MLKEM768_KEY_BYTES : 0
  return reader.finish() && hello.kemKey.length === kemKeyBytes ? { ok: true, hello } : failed
}

export function encodeServerHello(hello: ServerHello): Uint8Array {
  return createByteWriter()
    .u8(PROTOCOL_VERSION)
    .u16(hello.suite)
    .bytes(hello.nonce)
    .bytes(hello.keyShare)
    .prefixed(hello.kemCiphertext)
    .finish()
}

export function parseServerHello(bytes: Uint8Array): ServerHello | undefined {
  const reader = createByteReader(bytes)
  const version = reader.u8()
  const suite = toSuite(reader.u16())
  if (version !== PROTOCOL_VERSION || suite === undefined) return undefined
  const hello: ServerHello = {
    suite,
    nonce: reader.bytes(32),
    keyShare: reader.bytes(32),
    kemCiphertext: reader.prefixed(MLKEM768_CIPHERTEXT_BYTES),
  }
  const ciphertextBytes = suite === SUITE_X25519_MLKEM768 ? MLKEM768_CIPHERTEXT_BYTES : 0
  return reader.finish() && hello.kemCiphertext.length === ciphertextBytes ? hello : undefined
}
