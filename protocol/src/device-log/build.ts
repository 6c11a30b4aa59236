// Builds and signs entries of the device log (PROTOCOL C). What it builds is what `applyEntry` accepts, when the parts
// obey the rules; the boxes and EPOCH come from the client's sealing code, proofs of possession from their device.

import type { Crypto, Signer } from '../crypto.ts'
import { type DeviceId, noUserId, type UserId } from '../ids.ts'
import { signWithContext } from '../kdf.ts'
import { type DeviceRecord, type DeviceRole, deviceIdOf } from './device-record.ts'
import { devicePopMessage } from './effects.ts'
import { type EntryHeader, encodeEntry, encodeEntryBody } from './entry.ts'
import {
  type EpochStart,
  encodeOperation,
  encodeOperationType,
  type Operation,
  type RevokedDevice,
} from './operation.ts'
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
  signWithContext(signer, 'device-pop', devicePopMessage(userId, record))

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

/** The recovery device that was active before is void after this entry; EPOCH lists the new one in its place. */
export const buildRecovery = (
  state: DeviceLogState,
  author: EntryAuthor,
  parts: { readonly record: DeviceRecord; readonly epoch: EpochStart; readonly proof: Uint8Array },
): Promise<Uint8Array> => {
  const { record, epoch, proof } = parts
  return signNext(state, author, { type: 'recovery', record, epoch }, proof)
}

export const buildRole = (
  state: DeviceLogState,
  author: EntryAuthor,
  parts: { readonly deviceId: DeviceId; readonly role: DeviceRole },
): Promise<Uint8Array> => signNext(state, author, { type: 'role', ...parts })

export const buildClose = (state: DeviceLogState, author: EntryAuthor): Promise<Uint8Array> =>
  signNext(state, author, { type: 'close' })
