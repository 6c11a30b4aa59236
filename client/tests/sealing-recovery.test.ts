// The recovery phrase: twelve words, typed back by people, and the keys they make.

import { KEM_X_WING } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  createRecoveryEntropy,
  createRecoveryKeys,
  formatRecoveryPhrase,
  readRecoveryPhrase,
} from '../src/sealing/recovery.ts'

describe('the recovery phrase', () => {
  test('DEV-5: any entropy comes back from its twelve words', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (entropy) => {
        const phrase = formatRecoveryPhrase(entropy)
        expect(phrase.split(' ')).toHaveLength(12)
        expect(readRecoveryPhrase(phrase)).toEqual({ ok: true, entropy })
        expect(readRecoveryPhrase(`  ${phrase.toUpperCase().replaceAll(' ', '\n ')} `)).toEqual({ ok: true, entropy })
      }),
    )
  })

  test.each([
    ['a wrong checksum', 'abandon '.repeat(12), { problem: 'checksum' }],
    ['eleven words', 'abandon '.repeat(11), { problem: 'word_count', count: 11 }],
    ['24 words', `${'abandon '.repeat(23)}art`, { problem: 'word_count', count: 24 }],
    ['a word of no list', `${'abandon '.repeat(11)}valise`, { problem: 'unknown_words', positions: [12] }],
    ['two words of no list', `valise ${'zoo '.repeat(10)}border`, { problem: 'unknown_words', positions: [1] }],
    ['nothing', '', { problem: 'word_count', count: 0 }],
  ])('DEV-5: %s is no phrase, and what is wrong is told by its place', (_title, phrase, problem) => {
    expect(readRecoveryPhrase(phrase)).toEqual({ ok: false, ...problem })
  })

  test('DEV-5: no text makes the parser throw', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(readRecoveryPhrase(text).ok).toBe(false)
      }),
    )
  })

  test('DEV-5: the same phrase makes the same recovery device, another one another', async () => {
    const entropy = createRecoveryEntropy(crypto)
    const keys = await createRecoveryKeys(crypto, entropy)
    expect(keys.record).toMatchObject({ role: 'recovery', kemId: KEM_X_WING })
    expect((await createRecoveryKeys(crypto, entropy)).record).toEqual(keys.record)
    const other = await createRecoveryKeys(crypto, createRecoveryEntropy(crypto))
    expect(other.deviceId).not.toEqual(keys.deviceId)
    expect(keys.secrets.signSeed).not.toEqual(keys.secrets.kemPrivateKey)
  })

  test('DEV-5: the secret between the phrase and the keys is overwritten', async () => {
    const keys: Uint8Array[] = []
    const hmacSha256 = (key: Uint8Array, data: Uint8Array): Uint8Array => {
      keys.push(key)
      return crypto.hmacSha256(key, data)
    }
    await createRecoveryKeys({ ...crypto, hmacSha256 }, createRecoveryEntropy(crypto))
    const [, ...derivedFrom] = keys
    expect(derivedFrom).toEqual([new Uint8Array(32), new Uint8Array(32)])
  })
})
