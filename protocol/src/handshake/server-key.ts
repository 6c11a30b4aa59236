// The server's identity key: the fingerprint that clients pin together with the next key's, and the signed changes by
// which a pin follows when the server changes its key.

import { concatBytes, createByteReader, createByteWriter, equalBytes } from '../bytes.ts'
import type { Crypto, Signer } from '../crypto.ts'
import { signWithContext, verifyWithContext } from '../kdf.ts'
import { isAcceptableKey } from '../small-order.ts'

/** SHA-256 of the public key, 32 bytes. */
export function serverFingerprint(crypto: Crypto, publicKey: Uint8Array): Uint8Array {
  return crypto.sha256(publicKey)
}

/** One change of key. The key that goes and the key that comes both sign it. */
export interface ServerKeyChange {
  readonly oldPublicKey: Uint8Array
  readonly newPublicKey: Uint8Array
  /** SHA-256 of the key that will follow the new one. */
  readonly nextFingerprint: Uint8Array
  readonly oldSignature: Uint8Array
  readonly newSignature: Uint8Array
}

/** A page of changes holds at most this many. */
export const MAX_KEY_CHANGES_PAGE = 64
/** A change a month for 85 years: no client follows a longer chain. */
export const MAX_KEY_CHANGES = 1024

const VERSION = 1

const signedPart = ({
  oldPublicKey,
  newPublicKey,
  nextFingerprint,
}: Pick<ServerKeyChange, 'oldPublicKey' | 'newPublicKey' | 'nextFingerprint'>): Uint8Array =>
  concatBytes(oldPublicKey, newPublicKey, nextFingerprint)

export async function signServerKeyChange(
  oldSigner: Signer,
  newSigner: Signer,
  nextFingerprint: Uint8Array,
): Promise<ServerKeyChange> {
  const named = { oldPublicKey: oldSigner.publicKey, newPublicKey: newSigner.publicKey, nextFingerprint }
  const message = signedPart(named)
  return {
    ...named,
    oldSignature: await signWithContext(oldSigner, 'server-key', message),
    newSignature: await signWithContext(newSigner, 'server-key-next', message),
  }
}

export const encodeServerKeyChange = (change: ServerKeyChange): Uint8Array =>
  createByteWriter()
    .u8(VERSION)
    .bytes(signedPart(change))
    .bytes(change.oldSignature)
    .bytes(change.newSignature)
    .finish()

/** `undefined` for any other bytes. Its signatures are not looked at. */
export function parseServerKeyChange(bytes: Uint8Array): ServerKeyChange | undefined {
  const reader = createByteReader(bytes)
  const version = reader.u8()
  const change: ServerKeyChange = {
    oldPublicKey: reader.bytes(32),
    newPublicKey: reader.bytes(32),
    nextFingerprint: reader.bytes(32),
    oldSignature: reader.bytes(64),
    newSignature: reader.bytes(64),
  }
  if (!reader.finish() || version !== VERSION) return undefined
  return isAcceptableKey(change.oldPublicKey) && isAcceptableKey(change.newPublicKey) ? change : undefined
}

/** `undefined` unless it parses and both signatures hold. */
export function openServerKeyChange(crypto: Crypto, bytes: Uint8Array): ServerKeyChange | undefined {
  const change = parseServerKeyChange(bytes)
  if (change === undefined) return undefined
  const { oldPublicKey, newPublicKey, oldSignature, newSignature } = change
  const message = signedPart(change)
  const isSigned =
    verifyWithContext(crypto, oldPublicKey, 'server-key', message, oldSignature) &&
    verifyWithContext(crypto, newPublicKey, 'server-key-next', message, newSignature)
  return isSigned ? change : undefined
}

/** What a client holds about a server's keys. */
export interface ServerKeyPin {
  readonly fingerprint: Uint8Array
  /** Unknown until the first handshake when a person gave the fingerprint alone. */
  readonly nextFingerprint?: Uint8Array | undefined
  /** Fingerprints that this client followed away from, the newest last. */
  readonly retired?: readonly Uint8Array[] | undefined
}

/** Why changes give no new pin: each of these is an alarm. */
export type ServerKeyFault =
  /** Does not parse, is not signed, does not continue the pin, or leads back to an earlier key. */
  | 'invalid'
  /** Two valid changes of one key. */
  | 'forked'
  /** A valid change to another key than the pinned next one. */
  | 'wrong_next'

/**
 * Follows changes, oldest first, from the pinned key; returns the pin after them. A client that does not know the next
 * key's fingerprint follows none: `invalid`.
 */
export function followServerKeys(
  crypto: Crypto,
  pin: ServerKeyPin,
  changes: readonly Uint8Array[],
): { ok: true; pin: ServerKeyPin } | { ok: false; fault: ServerKeyFault } {
  let path = pathOf(pin)
  for (const bytes of changes) {
    const change = openServerKeyChange(crypto, bytes)
    if (change === undefined) return { ok: false, fault: 'invalid' }
    const followed = followChange(crypto, path, change)
    if (typeof followed === 'string') return { ok: false, fault: followed }
    path = followed
  }
  return { ok: true, pin: pinOf(path) }
}

/** Every fingerprint a client has held, and at the end the pinned next one: each link of it is one change. */
type KeyPath = readonly Uint8Array[]

const pathOf = ({ retired = [], fingerprint, nextFingerprint }: ServerKeyPin): KeyPath =>
  nextFingerprint === undefined ? [...retired, fingerprint] : [...retired, fingerprint, nextFingerprint]

function pinOf(path: KeyPath): ServerKeyPin {
  const [fingerprint, nextFingerprint] = path.slice(-2)
  if (fingerprint === undefined) throw new RangeError('a path begins with a key')
  return { fingerprint, nextFingerprint, retired: path.slice(0, -2) }
}

function followChange(crypto: Crypto, path: KeyPath, change: ServerKeyChange): KeyPath | ServerKeyFault {
  const fingerprint = serverFingerprint(crypto, change.oldPublicKey)
  const newFingerprint = serverFingerprint(crypto, change.newPublicKey)
  const at = path.findIndex((each) => equalBytes(each, fingerprint))
  const [expected, after] = at === -1 ? [] : path.slice(at + 1)
  if (expected === undefined) return 'invalid'
  if (!equalBytes(newFingerprint, expected)) return 'wrong_next'
  if (after !== undefined) return equalBytes(change.nextFingerprint, after) ? 'invalid' : 'forked'
  const isBack = path.some((each) => equalBytes(each, change.nextFingerprint))
  return isBack ? 'invalid' : [...path, change.nextFingerprint]
}
