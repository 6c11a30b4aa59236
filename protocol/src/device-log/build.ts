// Builds and signs entries of the device log (PROTOCOL C). What it builds is what `applyEntry` accepts, when the parts
// obey the rules; the boxes and EPOCH come from the client's sealing code, proofs of possession from their device.

import type { Crypto, Signer } from '../crypto.ts'
import { type DeviceId, noUserId, type UserId } from '../ids.ts'
import { signWithContext } from '../kdf.ts'
import { type DeviceRecord, type DeviceRole, deviceIdOf } from './device-record.ts'
import { type EntryHeader, encodeEntry, encodeEntryBody } from './entry.ts'
import {
  type EpochStart,
  encodeOperation,
  encodeOperationType,
  type Operation,
  type RevokedDevice,
} from './operation.ts'
import { closeMessage, recordMessage } from './phrase-proofs.ts'
import type { DeviceLogState } from './state.ts'

/** Who signs an entry, and when by his clock (Unix milliseconds). */
export interface EntryAuthor {
  readonly signer: Signer
  readonly deviceId: DeviceId
  readonly timeMs: number
}

const NO_PROOF = new Uint8Array(0)

async function signEntry(
  author: EntryAuthor,
  place: Pick<EntryHeader, 'userId' | 'seq' | 'prev'>,
  operation: Operation,
  prove: (body: Uint8Array) => Uint8Array | Promise<Uint8Array>,
): Promise<Uint8Array> {
  const { userId, seq, prev } = place
  const { timeMs, deviceId } = author
  const opCode = encodeOperationType(operation.type)
  const header = { userId, seq, prev, timeMs, signer: deviceId, opCode }
  const body = encodeEntryBody(header, encodeOperation(operation))
  const signature = await signWithContext(author.signer, 'device-log', body)
  return encodeEntry(body, signature, await prove(body))
}

const signNext = (
  state: DeviceLogState,
  author: EntryAuthor,
  operation: Operation,
  proof: Uint8Array = NO_PROOF,
): Promise<Uint8Array> => {
  const place = { userId: state.userId, seq: state.seq + 1, prev: state.head }
  return signEntry(author, place, operation, () => proof)
}

/** What a device that joins signs, so that nobody can add a key he does not hold: sig("device-pop", user_id | DR). */
export const signDevicePop = (signer: Signer, userId: UserId, record: DeviceRecord): Promise<Uint8Array> =>
  signWithContext(signer, 'device-pop', recordMessage(userId, record))

/** `nonce` is 32 random bytes; `signer` holds the manager's key. */
export function buildGenesis(
  crypto: Crypto,
  parts: {
    readonly signer: Signer
    readonly timeMs: number
    readonly nonce: Uint8Array
    readonly manager: DeviceRecord
    readonly recovery: { readonly record: DeviceRecord; readonly signer: Signer } | undefined
    readonly epoch: EpochStart
  },
): Promise<Uint8Array> {
  const { signer, timeMs, nonce, manager, recovery, epoch } = parts
  const author = { signer, timeMs, deviceId: deviceIdOf(crypto, manager) }
  const place = { userId: noUserId(), seq: 0, prev: new Uint8Array(32) }
  const operation: Operation = { type: 'genesis', nonce, manager, recovery: recovery?.record, epoch }
  return signEntry(author, place, operation, (body) =>
    recovery === undefined ? NO_PROOF : signWithContext(recovery.signer, 'genesis-pop', body),
  )
}

/** `boxHash` is that of the current epoch's box for the new device; `proof` is its `signDevicePop`. */
export const buildAdd = (
  state: DeviceLogState,
  author: EntryAuthor,
  parts: { readonly record: DeviceRecord; readonly boxHash: Uint8Array; readonly proof: Uint8Array },
): Promise<Uint8Array> => {
  const { record, boxHash, proof } = parts
  return signNext(state, author, { type: 'add', record, epochN: state.epoch.n, boxHash }, proof)
}

export const buildRevoke = (
  state: DeviceLogState,
  author: EntryAuthor,
  parts: { readonly devices: readonly RevokedDevice[]; readonly reason: number; readonly epoch: EpochStart },
): Promise<Uint8Array> => signNext(state, author, { type: 'revoke', ...parts })

export const buildRotate = (state: DeviceLogState, author: EntryAuthor, epoch: EpochStart): Promise<Uint8Array> =>
  signNext(state, author, { type: 'rotate', epoch })

/**
 * What the recovery device that is replaced signs, while its phrase is typed, for the new one: sig("recovery-heir",
 * user_id | DR). With it the new one is final at once, at any later head of the log.
 */
export const signRecoveryHeir = (signer: Signer, userId: UserId, record: DeviceRecord): Promise<Uint8Array> =>
  signWithContext(signer, 'recovery-heir', recordMessage(userId, record))

/**
 * With `epoch` the new recovery device takes the place of the old one at once, and EPOCH lists it: so it must be where
 * the recovery device signs, where `heirProof` is given, or where no recovery device is active. Without, it is pending.
 */
export const buildRecovery = (
  state: DeviceLogState,
  author: EntryAuthor,
  parts: {
    readonly record: DeviceRecord
    readonly epoch: EpochStart | undefined
    readonly proof: Uint8Array
    readonly heirProof?: Uint8Array
  },
): Promise<Uint8Array> => {
  const { record, epoch, proof, heirProof = NO_PROOF } = parts
  return signNext(state, author, { type: 'recovery', record, heirProof, epoch }, proof)
}

/** EPOCH lists the pending recovery device in place of the active one. */
export const buildSettle = (
  state: DeviceLogState,
  author: EntryAuthor,
  parts: { readonly hash: Uint8Array; readonly epoch: EpochStart },
): Promise<Uint8Array> => signNext(state, author, { type: 'settle', ...parts })

/** `hash` is that of the pending recovery device's or the pending close's entry. */
export const buildCancel = (state: DeviceLogState, author: EntryAuthor, hash: Uint8Array): Promise<Uint8Array> =>
  signNext(state, author, { type: 'cancel', hash })

export const buildSuspend = (state: DeviceLogState, author: EntryAuthor, device: RevokedDevice): Promise<Uint8Array> =>
  signNext(state, author, { type: 'suspend', device })

export const buildRole = (
  state: DeviceLogState,
  author: EntryAuthor,
  parts: { readonly deviceId: DeviceId; readonly role: DeviceRole },
): Promise<Uint8Array> => signNext(state, author, { type: 'role', ...parts })

/** What the recovery device signs, while its phrase is typed, for the very next entry: sig("close", user_id | prev). */
export const signClose = (signer: Signer, state: DeviceLogState): Promise<Uint8Array> =>
  signWithContext(signer, 'close', closeMessage(state))

/** At once with `phraseProof`, by the recovery device, or where none is active; else the account is to end in seven days. */
export const buildClose = (
  state: DeviceLogState,
  author: EntryAuthor,
  phraseProof: Uint8Array = NO_PROOF,
): Promise<Uint8Array> => signNext(state, author, { type: 'close', phraseProof })
