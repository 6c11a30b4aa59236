// A new recovery phrase in place of the old one (PROTOCOL C, op 5, 8 and 9): at once with a proof by the old phrase or where
// there is none, else asked for, settled after seven days, or cancelled.

import {
  buildCancel,
  buildRecovery,
  buildSettle,
  type DeviceLogState,
  equalBytes,
  findDevice,
  findRecovery,
  keyHolders,
  type PendingRecovery,
  signDevicePop,
  signRecoveryHeir,
  type UserId,
} from '@valise/protocol'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import { AccountError } from './account-error.ts'
import { type AppendParts, appendEntry } from './append-entry.ts'
import { authorOf, drafted, startEpoch } from './manage-devices.ts'
import type { Ask } from './sync.ts'

/** Keys made of a new phrase, with what the old phrase signed for them. */
export interface NewRecovery {
  readonly keys: DeviceKeys
  /** See `proveHeir`; undefined when nobody has typed the old phrase. */
  readonly heirProof: Uint8Array | undefined
}

/** `pending`: the old phrase stays good for seven days, and every device shows it. `made_before`: another attempt made it. */
export type RecoveryOutcome = 'final' | 'pending' | 'made_before'

/**
 * Made while the old phrase is typed. With it any manager can install the new phrase at any later head of the log, so
 * erase it when the new phrase is given up.
 */
export const proveHeir = (old: DeviceKeys, userId: UserId, { record }: DeviceKeys): Promise<Uint8Array> =>
  signRecoveryHeir(old.signer, userId, record)

const isPendingFor = (pending: PendingRecovery | undefined, { record }: DeviceKeys): boolean =>
  pending !== undefined && equalBytes(pending.record.edPub, record.edPub)

export async function replaceRecovery(
  parts: AppendParts,
  ask: Ask,
  { keys, heirProof }: NewRecovery,
): Promise<RecoveryOutcome> {
  const isMade = await appendEntry(parts, ask, async (log) => {
    if (findDevice(log, keys.deviceId) !== undefined) return undefined
    const isFinal = heirProof !== undefined || findRecovery(log) === undefined
    if (!isFinal && isPendingFor(log.pendingRecovery, keys)) return undefined
    const proof = await signDevicePop(keys.signer, log.userId, keys.record)
    const author = authorOf(parts)
    const { record } = keys
    if (!isFinal) return { entry: await buildRecovery(log, author, { record, epoch: undefined, proof }), boxes: [] }
    const epoch = await startEpoch(parts, log, membersWith(log, keys))
    // Where no phrase is good any more there is nothing that the proof could be of.
    const heir = heirProof === undefined || findRecovery(log) === undefined ? {} : { heirProof }
    return drafted(await buildRecovery(log, author, { record, epoch: epoch.start, proof, ...heir }), epoch)
  })
  if (!isMade) return 'made_before'
  return isPendingFor(parts.book.require().pendingRecovery, keys) ? 'pending' : 'final'
}

/** Those that hold keys once a new recovery device is in the place of the old one. */
const membersWith = (log: DeviceLogState, next: Pick<PendingRecovery, 'record'>) => [
  ...keyHolders(log).filter(({ record }) => record.role !== 'recovery'),
  next,
]

/** Puts the phrase that waits in the place of the old one. Rejects with `settle_too_early` before the seven days are over. */
export function settleRecovery(parts: AppendParts, ask: Ask, hash: Uint8Array): Promise<boolean> {
  return appendEntry(parts, ask, async (log) => {
    const pending = log.pendingRecovery
    if (pending === undefined || !equalBytes(pending.hash, hash)) throw nothingPending()
    const epoch = await startEpoch(parts, log, membersWith(log, pending))
    return drafted(await buildSettle(log, authorOf(parts), { hash, epoch: epoch.start }), epoch)
  })
}

/** Drops the new phrase or the deletion that waits. False when it waits no longer. */
export function cancelPending(parts: AppendParts, ask: Ask, hash: Uint8Array): Promise<boolean> {
  return appendEntry(parts, ask, async (log) => {
    const isThere = [log.pendingRecovery, log.pendingClose].some((each) => each && equalBytes(each.hash, hash))
    if (!isThere) return undefined
    return { entry: await buildCancel(log, authorOf(parts), hash), boxes: [] }
  })
}

export const nothingPending = (): AccountError =>
  new AccountError('nothing_pending', 'Nothing waits, or something else does: look at `valise status`.')
