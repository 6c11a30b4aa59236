// What the recovery device signs beside the log, while its phrase is typed into another device: that a new recovery device
// may take its place at once, or that the account ends at once.

import { concatBytes } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import type { UserId } from '../ids.ts'
import { type SignatureContext, verifyWithContext } from '../kdf.ts'
import { type DeviceRecord, encodeDeviceRecord } from './device-record.ts'
import { type DeviceLogState, findRecovery } from './state.ts'

/** user_id | DR: under sig(old recovery,"recovery-heir", …), as under sig(new,"device-pop", …). */
export const recordMessage = (userId: UserId, record: DeviceRecord): Uint8Array =>
  concatBytes(userId, encodeDeviceRecord(record))

/** user_id | prev: for the one entry that follows this head. */
export const closeMessage = ({ userId, head }: Pick<DeviceLogState, 'userId' | 'head'>): Uint8Array =>
  concatBytes(userId, head)

export type PhraseProof = 'none' | 'holds' | 'broken'

/** Of an optional proof: without an active recovery device none can hold. */
export function judgePhraseProof(
  crypto: Crypto,
  state: DeviceLogState,
  context: Extract<SignatureContext, 'recovery-heir' | 'close'>,
  message: Uint8Array,
  proof: Uint8Array,
): PhraseProof {
  if (proof.length === 0) return 'none'
  const recovery = findRecovery(state)
  if (recovery === undefined) return 'broken'
  return verifyWithContext(crypto, recovery.record.edPub, context, message, proof) ? 'holds' : 'broken'
}
