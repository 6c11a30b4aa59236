// What waits in a device log: a new recovery device, or the end of the account, that a manager asked for without the phrase.
// It takes effect only if nothing ends it. The verifier knows no time: the seven days are the server's to keep.

import { equalBytes } from '../bytes.ts'
import { type DeviceState, isActive } from './device-table.ts'
import type { EntryHeader } from './entry.ts'
import { type DeviceLogState, findDevice, type PendingClose } from './state.ts'

/** An entry that is being applied. */
export interface EntryPlace {
  readonly header: EntryHeader
  /** Its hash, by which a later entry settles or cancels what it asks for. */
  readonly hash: Uint8Array
}

export type Pending = Pick<DeviceLogState, 'pendingRecovery' | 'pendingClose'>

export const NOTHING_PENDING: Pending = { pendingRecovery: undefined, pendingClose: undefined }

/** What an entry asks for stands under the entry's own hash. */
export const askedBy = ({ header, hash }: EntryPlace): PendingClose => ({
  hash,
  atSeq: header.seq,
  signer: header.signer,
})

/** Without what has this hash; `undefined` when nothing has. */
export function withoutPending({ pendingRecovery, pendingClose }: Pending, hash: Uint8Array): Pending | undefined {
  if (pendingRecovery !== undefined && equalBytes(pendingRecovery.hash, hash)) {
    return { pendingRecovery: undefined, pendingClose }
  }
  if (pendingClose !== undefined && equalBytes(pendingClose.hash, hash)) {
    return { pendingRecovery, pendingClose: undefined }
  }
  return undefined
}

/** Only an active manager's word waits: it falls when its signer is revoked, suspended or made a member. */
const hasSay = (after: Pick<DeviceLogState, 'devices'>, { signer }: PendingClose): boolean => {
  const device = findDevice(after, signer)
  return device !== undefined && isActive(device) && device.record.role === 'manager'
}

/** What still waits after an entry: nothing after one of the recovery device, whatever that entry was for. */
export function stillPending(after: Pending & Pick<DeviceLogState, 'devices'>, signer: DeviceState): Pending {
  if (signer.record.role === 'recovery') return NOTHING_PENDING
  const { pendingRecovery, pendingClose } = after
  return {
    pendingRecovery: pendingRecovery !== undefined && hasSay(after, pendingRecovery) ? pendingRecovery : undefined,
    pendingClose: pendingClose !== undefined && hasSay(after, pendingClose) ? pendingClose : undefined,
  }
}
