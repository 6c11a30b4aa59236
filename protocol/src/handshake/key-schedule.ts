// The key schedule: TLS 1.3's (RFC 8446 §7.1) with our own label prefix. The prefix is a parameter, so that
// the traces of RFC 8448 test these very functions. Secrets given in are not overwritten here.

import { fromHex } from '../bytes.ts'
import type { Aead, Crypto } from '../crypto.ts'
import { hkdfExtract, kdf } from '../kdf.ts'

const NOTHING = new Uint8Array(0)
const ZEROS = new Uint8Array(32)
const HASH_OF_NOTHING =
  fromHex('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855') ?? new Uint8Array(32)

export interface HandshakeSecrets {
  readonly handshakeSecret: Uint8Array
  readonly clientHandshake: Uint8Array
  readonly serverHandshake: Uint8Array
}

/** What a finished handshake leaves behind; whoever makes a session channel of it gives it away. */
export interface SessionSecrets {
  readonly masterSecret: Uint8Array
  readonly transcriptHash: Uint8Array
  readonly clientTraffic: Uint8Array
  readonly serverTraffic: Uint8Array
  /** 16 bytes, public to both sides. */
  readonly sessionId: Uint8Array
}

export interface TrafficSecrets {
  readonly clientTraffic: Uint8Array
  readonly serverTraffic: Uint8Array
}

/** derive(secret, label, SHA-256("")): the salt of the schedule's next extraction. */
function nextSalt(crypto: Crypto, secret: Uint8Array, label: 'derived' | 'rekey', prefix?: string): Uint8Array {
  return kdf(crypto, secret, label, HASH_OF_NOTHING, 32, prefix)
}

/** The salt of HS. There is no early secret to mix in, so it is one public constant for each prefix. */
const saltByPrefix = new Map<string | undefined, Uint8Array>()

function handshakeSalt(crypto: Crypto, prefix: string | undefined): Uint8Array {
  const known = saltByPrefix.get(prefix)
  if (known !== undefined) return known
  const salt = nextSalt(crypto, hkdfExtract(crypto, ZEROS, ZEROS), 'derived', prefix)
  saltByPrefix.set(prefix, salt)
  return salt
}

/** `helloHash` is th(SH). */
export function deriveHandshakeSecrets(
  crypto: Crypto,
  sharedSecret: Uint8Array,
  helloHash: Uint8Array,
  prefix?: string,
): HandshakeSecrets {
  const handshakeSecret = hkdfExtract(crypto, handshakeSalt(crypto, prefix), sharedSecret)
  return {
    handshakeSecret,
    clientHandshake: kdf(crypto, handshakeSecret, 'c hs traffic', helloHash, 32, prefix),
    serverHandshake: kdf(crypto, handshakeSecret, 's hs traffic', helloHash, 32, prefix),
  }
}

export function deriveMasterSecret(crypto: Crypto, handshakeSecret: Uint8Array, prefix?: string): Uint8Array {
  // Whoever has the salt has the master secret.
  const salt = nextSalt(crypto, handshakeSecret, 'derived', prefix)
  const masterSecret = hkdfExtract(crypto, salt, ZEROS)
  eraseSecrets(salt)
  return masterSecret
}

export function deriveTrafficSecrets(
  crypto: Crypto,
  masterSecret: Uint8Array,
  transcriptHash: Uint8Array,
  prefix?: string,
): TrafficSecrets {
  return {
    clientTraffic: kdf(crypto, masterSecret, 'c ap traffic', transcriptHash, 32, prefix),
    serverTraffic: kdf(crypto, masterSecret, 's ap traffic', transcriptHash, 32, prefix),
  }
}

/** `transcriptHash` is TH, the hash of the whole handshake. */
export function deriveSessionSecrets(
  crypto: Crypto,
  handshakeSecret: Uint8Array,
  transcriptHash: Uint8Array,
): SessionSecrets {
  const masterSecret = deriveMasterSecret(crypto, handshakeSecret)
  return {
    masterSecret,
    transcriptHash,
    ...deriveTrafficSecrets(crypto, masterSecret, transcriptHash),
    sessionId: kdf(crypto, masterSecret, 'session id', transcriptHash, 16),
  }
}

/** The master secret after a rotation: knowing the old one is not enough, nor is knowing the new shared secret. */
export function deriveRotatedMasterSecret(
  crypto: Crypto,
  masterSecret: Uint8Array,
  sharedSecret: Uint8Array,
): Uint8Array {
  const salt = nextSalt(crypto, masterSecret, 'rekey')
  const rotated = hkdfExtract(crypto, salt, sharedSecret)
  eraseSecrets(salt)
  return rotated
}

/** The Finished MAC over a transcript hash. */
export function finishedMac(
  crypto: Crypto,
  trafficSecret: Uint8Array,
  transcriptHash: Uint8Array,
  prefix?: string,
): Uint8Array {
  const key = kdf(crypto, trafficSecret, 'finished', NOTHING, 32, prefix)
  const mac = crypto.hmacSha256(key, transcriptHash)
  eraseSecrets(key)
  return mac
}

interface TrafficKeys {
  readonly aead: Aead
  readonly iv: Uint8Array
}

export function deriveTrafficKeys(crypto: Crypto, trafficSecret: Uint8Array): TrafficKeys {
  const key = kdf(crypto, trafficSecret, 'key', NOTHING, 32)
  const aead = crypto.createAead(key)
  eraseSecrets(key)
  return { aead, iv: kdf(crypto, trafficSecret, 'iv', NOTHING, 12) }
}

/** Overwrites each with zeros. Copies inside an `Aead` live until they are collected. */
export function eraseSecrets(...secrets: readonly Uint8Array[]): void {
  for (const secret of secrets) secret.fill(0)
}
