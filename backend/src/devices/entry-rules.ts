// The server's own rules for an entry that the verifier admits (DEV-15): its bounds, its clock, and its rows. Those that
// need neither clock nor rows are pure.

import {
  type Crypto,
  chainStart,
  type DeviceLogState,
  type DeviceState,
  equalBytes,
  type Operation,
  parseOperation,
  parseSignedEntry,
  type RevokedDevice,
  type UserId,
} from '@valise/protocol'
import type { CountedEntry } from '../db/queries/device-log-facts.ts'

/** An entry that the verifier has admitted. */
export interface AdmittedEntry {
  readonly operation: Operation
  readonly signer: DeviceState
  readonly after: DeviceLogState
}

/**
 * A thief who fills the log may then suspend and revoke up to 50 devices, one entry each, and cancel the recovery device
 * and the close that wait; who owns the account must be able to do the same.
 */
const RESERVED_TO_SAVE = 110
/** Beyond them, and out of a thief's reach. */
const RESERVED_FOR_PHRASE = 50

/** Entries of one device, and of all of a user's devices, in `COUNTED_MS`. */
export const ENTRIES_OF_DEVICE = 100
export const ENTRIES_OF_USER = 200
export const COUNTED_MS = 24 * 60 * 60 * 1000

/** The phrase was typed for it: by the recovery device, or by its proof, which the verifier has checked. */
export const isByPhrase = ({ operation, signer }: Pick<AdmittedEntry, 'operation' | 'signer'>): boolean =>
  signer.record.role === 'recovery' || (operation.type === 'recovery' && operation.heirProof.length > 0)

/** It takes power away from a device, or from what a device asked for. */
const isSaving = ({ type }: Operation): boolean => type === 'revoke' || type === 'suspend' || type === 'cancel'

/**
 * By what an entry says of itself, before anything is verified: it revokes, suspends, cancels, recovers or leaves. Rates and
 * a full disk must not stop it, and an entry that lies here is refused later, at the cost of the device that sent it.
 */
export function claimsToSave(entry: Uint8Array): boolean {
  const signed = parseSignedEntry(entry)
  const parsed = signed === undefined ? undefined : parseOperation(signed.header.opCode, signed.payload)
  if (parsed?.ok !== true) return false
  const { operation } = parsed
  if (operation.type === 'recovery') return operation.heirProof.length > 0
  return isSaving(operation) || operation.type === 'settle' || operation.type === 'close'
}

/** How many entries a log may have, this one among them. */
export function maxEntriesFor(entry: AdmittedEntry, maxEntries: number): number {
  if (entry.after.isClosed) return Number.POSITIVE_INFINITY
  if (isByPhrase(entry)) return maxEntries + RESERVED_TO_SAVE + RESERVED_FOR_PHRASE
  return isSaving(entry.operation) ? maxEntries + RESERVED_TO_SAVE : maxEntries
}

/** Counted against the limits of 24 hours. */
export const isCounted = (entry: AdmittedEntry): boolean =>
  !entry.after.isClosed && !isByPhrase(entry) && !isSaving(entry.operation)

/** Until one more may come; `undefined` when it may now. `counted` is the newest first. */
export function msUntilAllowed(counted: readonly CountedEntry[]): number | undefined {
  const own = counted.filter(({ isOwn }) => isOwn)[ENTRIES_OF_DEVICE - 1]?.leftMs ?? 0
  const all = counted[ENTRIES_OF_USER - 1]?.leftMs ?? 0
  const leftMs = Math.ceil(Math.max(own, all))
  return leftMs > 0 ? leftMs : undefined
}

/** The cuts that an entry names. */
export function cutsOf(operation: Operation): readonly RevokedDevice[] {
  if (operation.type === 'suspend') return [operation.device]
  return operation.type === 'revoke' ? operation.devices : []
}

/** `chain` is the device's at `lastSeq`, as the rows have it; chain_0 at 0 is no row's. */
export function isTrueCut(
  crypto: Crypto,
  userId: UserId,
  cut: RevokedDevice,
  chain: Uint8Array | 'gone' | undefined,
): boolean {
  if (cut.lastSeq === 0) return equalBytes(cut.chain, chainStart(crypto, userId, cut.deviceId))
  if (chain === undefined) return false
  // Nothing is left to compare with, and a stolen device must not stay because its events were pruned.
  return chain === 'gone' || equalBytes(cut.chain, chain)
}
