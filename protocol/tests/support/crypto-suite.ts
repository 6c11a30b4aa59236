// What every filling of the crypto port must do: the public vectors through the very functions the product
// calls, the refusals, and the same answer as all the others on inputs where libraries disagree.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeUtf8, toHex } from '../../src/bytes.ts'
import type { Crypto } from '../../src/crypto.ts'
import { hkdfExpand, hkdfExtract } from '../../src/kdf.ts'
import { isAcceptableKey, isSmallOrderKey } from '../../src/small-order.ts'
import { hex, readFigures, type WycheproofTest } from './vectors.ts'

interface AeadTest extends WycheproofTest {
  readonly key: string
  readonly iv: string
  readonly aad: string
  readonly msg: string
  readonly ct: string
  readonly tag: string
}
interface MacTest extends WycheproofTest {
  readonly key: string
  readonly msg: string
  readonly tag: string
}
interface HkdfTest extends WycheproofTest {
  readonly ikm: string
  readonly salt: string
  readonly info: string
  readonly size: number
  readonly okm: string
}
interface X25519Test extends WycheproofTest {
  readonly public: string
  readonly private: string
  readonly shared: string
}
interface SignatureTest extends WycheproofTest {
  readonly pk: string
  readonly msg: string
  readonly sig: string
}

/** The encodings of small order in the order of docs/PROTOCOL.md. */
export const SMALL_ORDER_ENCODINGS: readonly string[] = [
  `01${'00'.repeat(31)}`,
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  `${'00'.repeat(31)}80`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
  `ec${'ff'.repeat(30)}7f`,
  '00'.repeat(32),
  `01${'00'.repeat(30)}80`,
  `ec${'ff'.repeat(31)}`,
  `ed${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(31)}`,
  `ee${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(31)}`,
]

/** Signatures made with points that have a component of small order: the equation holds only times the cofactor, but for the second. */
const MIXED_ORDER_SIGNATURES = [
  {
    publicKey: 'bf512469e7f9b766bf5c75e47e84fda3ec887bd24d79b9165c19e01a88fe5f72',
    message: 'message 0',
    signature:
      '2a2a466e0e19a690ed7d47e7b1f65c6f6da81a94ae239f0d54e7bc3a8c35a66200e72780033d9ffa56acf99d5762c480982b016c05d819919f55652e5128b208',
    isValid: false,
  },
  {
    publicKey: 'a00d1ab7f3fbc5f8a6a6197bcc37dfa6cb008e8c86fba5303a4d0391d43aa32b',
    message: 'message 9',
    signature:
      'a9a4b61b52db164253147e0c5bd20852d7ab4763e996d0117febccbc7a1abb56cf43a2a71da517deb23355539ed7675ee3e396b74b79554ba2c1bcd46fabd801',
    isValid: true,
  },
  {
    publicKey: 'a00d1ab7f3fbc5f8a6a6197bcc37dfa6cb008e8c86fba5303a4d0391d43aa32b',
    message: 'message 0',
    signature:
      'a9a4b61b52db164253147e0c5bd20852d7ab4763e996d0117febccbc7a1abb56ea54a1327be7e49b7fa8cf7bf0cf1ac3c7844e8e27b27de35164aff337c90100',
    isValid: false,
  },
]

/** Candidates for a forgery under a key of small order: S = 0 and R of small order, over a few messages. */
export function* smallOrderForgeries(publicKey: string): Generator<{ message: Uint8Array; signature: Uint8Array }> {
  for (const r of SMALL_ORDER_ENCODINGS.slice(0, 8)) {
    for (let i = 0; i < 8; i++) {
      yield { message: encodeUtf8(`${publicKey} ${i}`), signature: hex(r + '00'.repeat(32)) }
    }
  }
}

function testVectors(crypto: Crypto): void {
  test('CRY-1: AES-256-GCM answers Wycheproof', () => {
    const vectors = readFigures<AeadTest>('aes-gcm')
    expect(vectors.length).toBeGreaterThan(60)
    for (const { tcId, key, iv, aad, msg, ct, tag, result } of vectors) {
      const aead = crypto.createAead(hex(key))
      const opened = aead.open(hex(iv), hex(aad), hex(ct + tag))
      if (result === 'valid') {
        expect(toHex(opened!), `test ${tcId}`).toBe(msg)
        expect(toHex(aead.seal(hex(iv), hex(aad), hex(msg))), `test ${tcId}`).toBe(ct + tag)
      } else {
        expect(opened, `test ${tcId}`).toBeUndefined()
      }
    }
  })

  test('CRY-1: HMAC-SHA256 answers Wycheproof', () => {
    const vectors = readFigures<MacTest>('hmac-sha256')
    expect(vectors.length).toBeGreaterThan(150)
    for (const { tcId, key, msg, tag, result } of vectors) {
      const mac = crypto.hmacSha256(hex(key), hex(msg)).subarray(0, hex(tag).length)
      expect(crypto.isEqual(mac, hex(tag)), `test ${tcId}`).toBe(result === 'valid')
    }
  })

  test('CRY-1: HKDF-SHA256 answers Wycheproof', () => {
    const vectors = readFigures<HkdfTest>('hkdf-sha256')
    expect(vectors.length).toBeGreaterThan(80)
    for (const vector of vectors) {
      const key = hkdfExtract(crypto, hex(vector.salt), hex(vector.ikm))
      const expand = () => toHex(hkdfExpand(crypto, key, hex(vector.info), vector.size))
      if (vector.result === 'valid') expect(expand(), `test ${vector.tcId}`).toBe(vector.okm)
      else expect(expand, `test ${vector.tcId}`).toThrow(RangeError)
    }
  })

  test('CRY-1: X25519 answers Wycheproof, and an all-zero secret is none', () => {
    const vectors = readFigures<X25519Test>('x25519')
    expect(vectors.filter(({ shared }) => shared === '00'.repeat(32)).length).toBeGreaterThan(0)
    for (const vector of vectors) {
      const secret = crypto.createKeyAgreement(hex(vector.private)).agree(hex(vector.public))
      if (vector.shared === '00'.repeat(32)) expect(secret, `test ${vector.tcId}`).toBeUndefined()
      else expect(toHex(secret!), `test ${vector.tcId}`).toBe(vector.shared)
    }
  })

  test('CRY-1: Ed25519 answers Wycheproof', () => {
    const vectors = readFigures<SignatureTest>('ed25519')
    expect(vectors.length).toBeGreaterThan(140)
    for (const { tcId, pk, msg, sig, result } of vectors) {
      expect(crypto.verifySignature(hex(pk), hex(msg), hex(sig)), `test ${tcId}`).toBe(result === 'valid')
    }
  })

  test('CRY-1: a signer makes the keys and signatures of RFC 8032 section 7.1', async () => {
    const signer = crypto.createSigner(hex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb'))
    expect(toHex(signer.publicKey)).toBe('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c')
    expect(toHex(await signer.sign(hex('72')))).toBe(
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    )
  })

  test('CRY-1: SHA-256 of the empty text and of "abc"', () => {
    expect(toHex(crypto.sha256(new Uint8Array(0)))).toBe(
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    )
    expect(toHex(crypto.sha256(encodeUtf8('abc')))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    )
  })
}

function testRefusals(crypto: Crypto): void {
  test('H-2: no signature stands under a key of small order', () => {
    for (const key of SMALL_ORDER_ENCODINGS) {
      expect(isSmallOrderKey(hex(key))).toBe(true)
      expect(isAcceptableKey(hex(key))).toBe(false)
      for (const { message, signature } of smallOrderForgeries(key)) {
        expect(crypto.verifySignature(hex(key), message, signature)).toBe(false)
      }
    }
  })

  test('H-2: a key that is not reduced is refused, its neighbours below the prime are not', () => {
    expect(isAcceptableKey(hex(`f0${'ff'.repeat(30)}7f`))).toBe(false)
    expect(isAcceptableKey(hex(`f0${'ff'.repeat(31)}`))).toBe(false)
    expect(isAcceptableKey(hex(`eb${'ff'.repeat(30)}7f`))).toBe(true)
    expect(isAcceptableKey(hex(`f0${'ff'.repeat(29)}fe7f`))).toBe(true)
    expect(isAcceptableKey(new Uint8Array(31).fill(7))).toBe(false)
  })

  test('H-2: a signature with a component of small order gets one answer everywhere', () => {
    for (const { isValid, message, publicKey, signature } of MIXED_ORDER_SIGNATURES) {
      expect(crypto.verifySignature(hex(publicKey), encodeUtf8(message), hex(signature))).toBe(isValid)
    }
  })

  test('H-3: a tag that was cut, down to 4 bytes, opens nothing', () => {
    const aead = crypto.createAead(crypto.randomBytes(32))
    const nonce = crypto.randomBytes(12)
    const data = encodeUtf8('header')
    const sealed = aead.seal(nonce, data, encodeUtf8('payload'))
    expect(aead.open(nonce, data, sealed)).toEqual(encodeUtf8('payload'))
    for (let cut = 1; cut <= sealed.length; cut++) {
      expect(aead.open(nonce, data, sealed.subarray(0, sealed.length - cut))).toBeUndefined()
    }
  })

  test('CRY-3: headroom stands in front of the same ciphertext', () => {
    const aead = crypto.createAead(crypto.randomBytes(32))
    const nonce = crypto.randomBytes(12)
    for (const length of [0, 1, 256, 100_000]) {
      const plaintext = new Uint8Array(length).fill(0x5a)
      const sealed = aead.seal(nonce, nonce, plaintext)
      const withHeadroom = aead.seal(nonce, nonce, plaintext, 2)
      expect(withHeadroom.length).toBe(2 + length + 16)
      expect(crypto.isEqual(withHeadroom.subarray(2), sealed)).toBe(true)
    }
  })

  test('CRY-3: a given key is copied, so the caller may overwrite its own', () => {
    const key = crypto.randomBytes(32)
    const seed = crypto.randomBytes(32)
    const aead = crypto.createAead(key)
    const signer = crypto.createSigner(seed)
    const nonce = new Uint8Array(12)
    const sealed = aead.seal(nonce, nonce, seed)
    const signature = signer.sign(nonce)
    key.fill(0)
    seed.fill(0)
    expect(aead.open(nonce, nonce, sealed)).toBeDefined()
    expect(signer.sign(nonce)).toEqual(signature)
  })

  test('CRY-3: a key of a wrong length is a bug and throws', () => {
    expect(() => crypto.createAead(new Uint8Array(16))).toThrow()
    expect(() => crypto.createSigner(new Uint8Array(31))).toThrow()
    expect(() => crypto.createKeyAgreement(new Uint8Array(33))).toThrow()
  })

  test('CRY-3: results are plain bytes that share nothing with other results', () => {
    const first = crypto.sha256(encodeUtf8('first'))
    const copy = first.slice()
    first[0] = (first[0] ?? 0) ^ 1
    expect(copy).not.toEqual(first)
    for (const bytes of [first, crypto.randomBytes(8), crypto.hmacSha256(first, first), crypto.sha256(first)]) {
      expect(Object.getPrototypeOf(bytes)).toBe(Uint8Array.prototype)
    }
  })

  test('CRY-3: comparison tells equal bytes from all others', () => {
    expect(crypto.isEqual(Uint8Array.of(1, 2), Uint8Array.of(1, 2))).toBe(true)
    expect(crypto.isEqual(Uint8Array.of(1, 2), Uint8Array.of(1, 3))).toBe(false)
    expect(crypto.isEqual(Uint8Array.of(1, 2), Uint8Array.of(1))).toBe(false)
    expect(crypto.isEqual(new Uint8Array(0), new Uint8Array(0))).toBe(true)
  })

  test('CRY-3: both sides of a key agreement hold the same secret', () => {
    const a = crypto.createKeyAgreement()
    const b = crypto.createKeyAgreement()
    expect(a.agree(b.publicKey)).toEqual(b.agree(a.publicKey))
    expect(a.publicKey).not.toEqual(b.publicKey)
  })

  test("CRY-3: no bytes of a peer's make it throw", () => {
    const aead = crypto.createAead(crypto.randomBytes(32))
    const agreement = crypto.createKeyAgreement()
    const nonce = new Uint8Array(12)
    const anyBytes = fc.oneof(fc.uint8Array({ maxLength: 80 }), fc.uint8Array({ minLength: 32, maxLength: 32 }))
    const anySignature = fc.oneof(fc.uint8Array({ maxLength: 80 }), fc.uint8Array({ minLength: 64, maxLength: 64 }))
    fc.assert(
      fc.property(anyBytes, anySignature, (bytes, signature) => {
        expect(aead.open(nonce, nonce, bytes)).toBeUndefined()
        expect(crypto.verifySignature(bytes, bytes, signature)).toBe(false)
        if (bytes.length !== 32) expect(agreement.agree(bytes)).toBeUndefined()
      }),
      { numRuns: 200 },
    )
  })
}

export function describeCrypto(name: string, crypto: Crypto): void {
  describe(`the crypto port over ${name}`, () => {
    testVectors(crypto)
    testRefusals(crypto)
  })
}
