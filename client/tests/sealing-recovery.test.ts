// The recovery phrase: twelve words, typed back by people, and the keys they make.

import { KEM_X_WING } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  createRecoveryEntropy,
  createRecoveryKeys,
  formatRecoveryPhrase,
  parseRecoveryPhrase,
} from '../src/sealing/recovery.ts'

describe('the recovery phrase', () => {
  test('DEV-5: any entropy comes back from its twelve words', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (entropy) => {
        const phrase = formatRecoveryPhrase(entropy)
        expect(phrase.split(' ')).toHaveLength(12)
        expect(parseRecoveryPhrase(phrase)).toEqual(entropy)
        expect(parseRecoveryPhrase(`  ${phrase.toUpperCase().replaceAll(' ', '\n ')} `)).toEqual(entropy)
      }),
    )
  })

  test.each([
    ['a wrong checksum', 'abandon '.repeat(12)],
    ['eleven words', 'abandon '.repeat(11)],
    ['24 words', `${'abandon '.repeat(23)}art`],
    ['a word of no list', `${'abandon '.repeat(11)}valise`],
    ['nothing', ''],
  ])('DEV-5: %s is no phrase', (_title, phrase) => {
    expect(parseRecoveryPhrase(phrase)).toBeUndefined()
  })

  test('DEV-5: no text makes the parser throw', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(parseRecoveryPhrase(text)).toBeUndefined()
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
})
