// The recovery phrase (PROTOCOL G): 16 bytes of entropy as 12 BIP39 words, and the keys of the recovery device made of
// them. The phrase is shown once and typed back; nothing here keeps it.

import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { type Crypto, encodeUtf8, hkdfExtract, KEM_X_WING, kdf } from '@valise/protocol'
import { type DeviceKeys, restoreDeviceKeys } from './device-keys.ts'

export const RECOVERY_ENTROPY_BYTES = 16
const WORD_COUNT = 12
const SALT = encodeUtf8('valise recovery')
const NO_CONTEXT = new Uint8Array(0)

export const createRecoveryEntropy = (crypto: Crypto): Uint8Array => crypto.randomBytes(RECOVERY_ENTROPY_BYTES)

/** 12 words with single spaces between them. */
export const formatRecoveryPhrase = (entropy: Uint8Array): string => entropyToMnemonic(entropy, wordlist)

export type PhraseReading =
  | { readonly ok: true; readonly entropy: Uint8Array }
  | { readonly ok: false; readonly problem: 'word_count'; readonly count: number }
  /** Positions count from 1. */
  | { readonly ok: false; readonly problem: 'unknown_words'; readonly positions: readonly number[] }
  | { readonly ok: false; readonly problem: 'checksum' }

const KNOWN_WORDS: ReadonlySet<string> = new Set(wordlist)

/** Forgives case and spacing. What is wrong is told by its place: the words themselves are never repeated. */
export function readRecoveryPhrase(text: string): PhraseReading {
  const words = text.normalize('NFKD').toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length !== WORD_COUNT) return { ok: false, problem: 'word_count', count: words.length }
  const positions = words.flatMap((word, index) => (KNOWN_WORDS.has(word) ? [] : [index + 1]))
  if (positions.length > 0) return { ok: false, problem: 'unknown_words', positions }
  try {
    return { ok: true, entropy: mnemonicToEntropy(words.join(' '), wordlist) }
  } catch {
    return { ok: false, problem: 'checksum' }
  }
}

export function createRecoveryKeys(crypto: Crypto, entropy: Uint8Array): Promise<DeviceKeys> {
  const secret = hkdfExtract(crypto, SALT, entropy)
  const signSeed = kdf(crypto, secret, 'sign', NO_CONTEXT)
  const kemPrivateKey = kdf(crypto, secret, 'kem', NO_CONTEXT)
  secret.fill(0)
  return restoreDeviceKeys(crypto, { signSeed, kemId: KEM_X_WING, kemPrivateKey }, 'recovery')
}
