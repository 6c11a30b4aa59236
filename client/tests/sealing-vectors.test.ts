// Vectors of other people's making, against the very functions that seal boxes and contents: RFC 9180, X-Wing,
// ChaCha20-Poly1305 and XChaCha20-Poly1305 (Wycheproof), and BIP39.

import { KEM_X_WING, KEM_X25519 } from '@valise/protocol'
import { describe, expect, test } from 'vitest'
import { hex as bytesOf, readFigures, type WycheproofTest } from '../../protocol/tests/support/vectors.ts'
import { openContentBytes, openSubkeyBytes, sealContentBytes } from '../src/sealing/content-cipher.ts'
import { hpkeOpen, hpkeSeal, hpkeSuite, kemPublicKey } from '../src/sealing/hpke.ts'
import { formatRecoveryPhrase, readRecoveryPhrase } from '../src/sealing/recovery.ts'

interface HpkeVector {
  readonly info: string
  readonly ikmE: string
  readonly skRm: string
  readonly pkRm: string
  readonly enc: string
  readonly aad: string
  readonly ct: string
  readonly pt: string
}

describe('HPKE', () => {
  const vectors = readFigures<HpkeVector>('hpke')

  test('DEV-2: RFC 9180 has vectors for the suite in use', () => {
    expect(vectors.length).toBeGreaterThan(0)
  })

  for (const [index, vector] of vectors.entries()) {
    const privateKey = bytesOf(vector.skRm)
    const publicKey = bytesOf(vector.pkRm)
    const context = { info: bytesOf(vector.info), associatedData: bytesOf(vector.aad) }
    const sealed = { enc: bytesOf(vector.enc), ciphertext: bytesOf(vector.ct) }

    test(`DEV-2: RFC 9180, X25519 and AES-256-GCM, vector ${index + 1}`, async () => {
      expect(await kemPublicKey(KEM_X25519, privateKey)).toEqual(publicKey)
      const plaintext = bytesOf(vector.pt)
      expect(await hpkeOpen(KEM_X25519, privateKey, context, sealed)).toEqual(plaintext)
      expect(await hpkeSeal(KEM_X25519, publicKey, context, plaintext, bytesOf(vector.ikmE))).toEqual(sealed)
    })
  }
})

interface XWingVector {
  readonly seed: string
  readonly randomness: string
  readonly pk: string
  readonly sk: string
  readonly ct: string
  readonly ss: string
}

describe('X-Wing', () => {
  for (const [index, vector] of readFigures<XWingVector>('x-wing').entries()) {
    test(`DEV-2: X-Wing vector ${index + 1}`, async () => {
      const privateKey = bytesOf(vector.sk)
      const publicKey = bytesOf(vector.pk)
      expect(vector.sk).toBe(vector.seed)
      expect(await kemPublicKey(KEM_X_WING, privateKey)).toEqual(publicKey)
      const { kem } = hpkeSuite(KEM_X_WING)
      const recipientPublicKey = await kem.deserializePublicKey(publicKey)
      const { enc, sharedSecret } = await kem.encap({ recipientPublicKey, ekm: bytesOf(vector.randomness) })
      expect(new Uint8Array(enc)).toEqual(bytesOf(vector.ct))
      expect(new Uint8Array(sharedSecret)).toEqual(bytesOf(vector.ss))
      const recipientKey = await kem.deserializePrivateKey(privateKey)
      expect(new Uint8Array(await kem.decap({ recipientKey, enc: bytesOf(vector.ct) }))).toEqual(bytesOf(vector.ss))

      // And the whole of HPKE over it, with the same randomness.
      const context = { info: bytesOf('01'), associatedData: bytesOf('02') }
      const sealed = await hpkeSeal(KEM_X_WING, publicKey, context, bytesOf('03'), bytesOf(vector.randomness))
      expect(sealed.enc).toEqual(bytesOf(vector.ct))
      expect(await hpkeOpen(KEM_X_WING, privateKey, context, sealed)).toEqual(bytesOf('03'))
    })
  }
})

interface AeadTest extends WycheproofTest {
  readonly key: string
  readonly iv: string
  readonly aad: string
  readonly msg: string
  readonly ct: string
  readonly tag: string
}

describe('ChaCha20-Poly1305', () => {
  const tests = readFigures<AeadTest>('chacha20-poly1305')

  test(`DEV-2: ${tests.length} vectors of Wycheproof`, () => {
    expect(tests.length).toBeGreaterThan(300)
    for (const { tcId, key, iv, aad, msg, ct, tag, result } of tests) {
      const opened = openSubkeyBytes(bytesOf(key), bytesOf(iv), bytesOf(aad), bytesOf(ct + tag))
      expect(opened, `test ${tcId}`).toEqual(result === 'valid' ? bytesOf(msg) : undefined)
    }
  })
})

describe('XChaCha20-Poly1305', () => {
  const tests = readFigures<AeadTest>('xchacha20-poly1305')

  test(`DEV-2: ${tests.length} vectors of Wycheproof`, () => {
    expect(tests.length).toBeGreaterThan(300)
    for (const { tcId, key, iv, aad, msg, ct, tag, result } of tests) {
      const opened = openContentBytes(bytesOf(key), bytesOf(iv), bytesOf(aad), bytesOf(ct + tag))
      expect(opened, `test ${tcId}`).toEqual(result === 'valid' ? bytesOf(msg) : undefined)
      if (result !== 'valid') continue
      const sealed = sealContentBytes(bytesOf(key), bytesOf(iv), bytesOf(aad), bytesOf(msg))
      expect(sealed, `test ${tcId}`).toEqual(bytesOf(ct + tag))
    }
  })
})

describe('BIP39', () => {
  test.each([
    ['00000000000000000000000000000000', `${'abandon '.repeat(11)}about`],
    ['7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f', 'legal winner thank year wave sausage worth useful legal winner thank yellow'],
    ['ffffffffffffffffffffffffffffffff', `${'zoo '.repeat(11)}wrong`],
  ])('DEV-5: the words of %s', (entropy, phrase) => {
    expect(formatRecoveryPhrase(bytesOf(entropy))).toBe(phrase)
    expect(readRecoveryPhrase(phrase)).toEqual({ ok: true, entropy: bytesOf(entropy) })
  })
})
