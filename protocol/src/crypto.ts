// The cryptographic primitives that both sides need, as a port: the server and Node clients fill it
// with OpenSSL (`node-crypto.ts`), browsers with the noble libraries (in the client package).
// Nothing here can open an event's content: content keys exist in the client package only.

/** AES-256-GCM under one fixed key. Nonces are 12 bytes, tags 16 bytes at the end of the ciphertext. */
export interface Aead {
  /** Ciphertext and tag, behind `headroom` bytes that the caller must fill with a header (0 unless given). */
  seal(nonce: Uint8Array, associatedData: Uint8Array, plaintext: Uint8Array, headroom?: number): Uint8Array
  /** `undefined` when the tag does not match or the ciphertext is shorter than a tag; never throws on bytes of a peer. */
  open(nonce: Uint8Array, associatedData: Uint8Array, ciphertext: Uint8Array): Uint8Array | undefined
}

/** One ephemeral X25519 key pair (RFC 7748); the private half never leaves this object. */
export interface KeyAgreement {
  readonly publicKey: Uint8Array
  /** The 32-byte shared secret, or `undefined` when it is all zero (RFC 7748 §6.1) or the peer's key is malformed. */
  agree(peerPublicKey: Uint8Array): Uint8Array | undefined
}

/** An Ed25519 private key (RFC 8032). Asynchronous where the platform keeps the key to itself (a browser's key store). */
export interface Signer {
  readonly publicKey: Uint8Array
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>
}

export interface Crypto {
  sha256(data: Uint8Array): Uint8Array
  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array
  /** Copies the 32-byte key: the caller may overwrite its own. */
  createAead(key: Uint8Array): Aead
  /** A new key pair, or that of a given 32-byte private key. */
  createKeyAgreement(privateKey?: Uint8Array): KeyAgreement
  /**
   * RFC 8032 §5.1.7 with the equation [S]B = R + [k]A (no cofactor), so that every implementation agrees on every input.
   * `false` for a key of small order or not canonical, a wrong length or a bad signature; never throws.
   */
  verifySignature(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean
  /** Signs with a 32-byte Ed25519 seed (RFC 8032 §5.1.5). */
  createSigner(seed: Uint8Array): Signer
  /** From the platform's secure generator, at most 65 536 bytes a call. */
  randomBytes(length: number): Uint8Array
  /** Constant-time comparison; `false` when the lengths differ. */
  isEqual(a: Uint8Array, b: Uint8Array): boolean
}
