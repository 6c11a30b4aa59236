// The recovery phrase as people meet it: what stands on the sheet beside it, what is wrong with one that was typed, and
// whether it is the one that recovers an account.

import { type Crypto, type DeviceLogState, findDevice, toHex, type UserId } from '@valise/protocol'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import { createRecoveryKeys, type PhraseReading, readRecoveryPhrase } from '../sealing/recovery.ts'
import { formatFingerprint } from './fingerprint.ts'
import type { ServerPin } from './identity.ts'
import { SetupError } from './setup-error.ts'

/** What is written down: the words, and what they are good for. */
export interface RecoverySheet {
  readonly phrase: string
  readonly host: string
  /** The server's key, and after a dot the next one, as `--fingerprint` takes them. */
  readonly serverFingerprint: string
  /** The first ten characters of the user id. */
  readonly userIdStart: string
}

const USER_ID_CHARACTERS = 10

export const userIdStart = (userId: UserId): string => toHex(userId).slice(0, USER_ID_CHARACTERS)

export const createRecoverySheet = (phrase: string, server: ServerPin, userId: UserId): RecoverySheet => ({
  phrase,
  host: new URL(server.url).host,
  serverFingerprint: formatFingerprint(server),
  userIdStart: userIdStart(userId),
})

function describeReading(reading: Exclude<PhraseReading, { ok: true }>): string {
  switch (reading.problem) {
    case 'word_count':
      return `A recovery phrase has 12 words; these were ${reading.count}.`
    case 'unknown_words': {
      const { positions } = reading
      return positions.length === 1
        ? `Word ${positions[0]} is not in the list that recovery phrases are made of.`
        : `Words ${positions.join(', ')} are not in the list that recovery phrases are made of.`
    }
    case 'checksum':
      return 'Each word is in the list, but together they are no recovery phrase: one of them is another, or two are swapped.'
  }
}

/** The keys that a written phrase makes. Throws a `SetupError` that says what is wrong, by the place of the word only. */
export async function toRecoveryKeys(crypto: Crypto, phrase: string): Promise<DeviceKeys> {
  const reading = readRecoveryPhrase(phrase)
  if (!reading.ok) throw new SetupError('bad_phrase', describeReading(reading))
  const keys = await createRecoveryKeys(crypto, reading.entropy)
  reading.entropy.fill(0)
  return keys
}

/** Whether two texts are one phrase, whatever their case and spacing. */
export function isSamePhrase(a: string, b: string): boolean {
  const [first, second] = [readRecoveryPhrase(a), readRecoveryPhrase(b)]
  return first.ok && second.ok && toHex(first.entropy) === toHex(second.entropy)
}

/** What a phrase is to an account, by its verified device log. */
export type PhraseVerdict = 'valid' | 'replaced' | 'foreign'

export function judgePhrase(log: DeviceLogState, keys: DeviceKeys): PhraseVerdict {
  const device = findDevice(log, keys.deviceId)
  if (device?.record.role !== 'recovery') return 'foreign'
  return device.status.type === 'active' ? 'valid' : 'replaced'
}

/** Why a phrase that was typed does nothing. */
export const describeVerdict = (verdict: Exclude<PhraseVerdict, 'valid'>): string =>
  verdict === 'replaced'
    ? 'This phrase was replaced by a newer one. It recovers nothing any more.'
    : 'This is a recovery phrase, but not that of this account.'
