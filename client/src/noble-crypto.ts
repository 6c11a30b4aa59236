// The crypto port over the noble libraries, for browsers and wherever OpenSSL is not at hand. It answers as
// node-crypto does on every input, malformed ones included; one suite of tests runs over both.

import { gcm } from '@noble/ciphers/aes.js'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { bytesToNumberLE } from '@noble/curves/utils.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256, sha512 } from '@noble/hashes/sha2.js'
import { randomBytes } from '@noble/hashes/utils.js'
import {
  type Aead,
  type Crypto,
  concatBytes,
  equalBytes,
  isAcceptableKey,
  type KeyAgreement,
  type Signer,
} from '@valise/protocol'

const TAG_BYTES = 16

function createAead(rawKey: Uint8Array): Aead {
  if (rawKey.length !== 32) throw new RangeError('an AES-256 key has 32 bytes')
  const key = rawKey.slice()
  return {
    seal: (nonce, associatedData, plaintext, headroom = 0) => {
      const ciphertext = gcm(key, nonce, associatedData).encrypt(plaintext)
      return headroom === 0 ? ciphertext : concatBytes(new Uint8Array(headroom), ciphertext)
    },
    open: (nonce, associatedData, ciphertext) => {
      if (ciphertext.length < TAG_BYTES) return undefined
      try {
        return gcm(key, nonce, associatedData).decrypt(ciphertext)
      } catch {
        return undefined
      }
    },
  }
}

function createKeyAgreement(rawPrivateKey?: Uint8Array): KeyAgreement {
  const privateKey = rawPrivateKey?.slice() ?? x25519.utils.randomSecretKey()
  return {
    publicKey: x25519.getPublicKey(privateKey),
    agree: (peerPublicKey) => {
      try {
        return x25519.getSharedSecret(privateKey, peerPublicKey)
      } catch {
        // A wrong length, or a secret of zeros.
        return undefined
      }
    },
  }
}

function createSigner(seed: Uint8Array): Signer {
  const key = seed.slice()
  return { publicKey: ed25519.getPublicKey(key), sign: (message) => ed25519.sign(message, key) }
}

/**
 * noble's own `verify` checks the equation times the cofactor, OpenSSL checks it without: on a signature made with a
 * component of small order they disagree, and a device log would stand on one client and fall on another. So the
 * equation is computed here as OpenSSL does: R must be the encoding of [S]B - [k]A.
 */
function verifySignature(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== 64 || !isAcceptableKey(publicKey)) return false
  const { BASE, Fn } = ed25519.Point
  const r = signature.subarray(0, 32)
  const s = bytesToNumberLE(signature.subarray(32))
  if (s >= Fn.ORDER) return false
  try {
    const a = ed25519.Point.fromBytes(publicKey)
    const k = Fn.create(bytesToNumberLE(sha512(concatBytes(r, publicKey, message))))
    return equalBytes(BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(k)).toBytes(), r)
  } catch {
    return false
  }
}

/** Compares every byte whatever they are; JavaScript promises no more about time. */
function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0)
  return difference === 0
}

export const nobleCrypto: Crypto = {
  sha256: (data) => sha256(data),
  hmacSha256: (key, data) => hmac(sha256, key, data),
  createAead,
  createKeyAgreement,
  verifySignature,
  createSigner,
  randomBytes: (length) => randomBytes(length),
  isEqual,
}
