// Signs the end of the account into its device log (op 7). With the phrase, or where there is none, it ends at once: from
// the commit on the server holds nothing of it but the mark that it is gone. Else it waits seven days.

import { buildClose, type DeviceLogState, findRecovery, isSameId, signClose } from '@valise/protocol'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import { type AppendParts, appendEntry } from './append-entry.ts'
import { authorOf } from './manage-devices.ts'
import type { Ask } from './sync.ts'

/** `pending`: the server deletes the account in seven days, unless a device cancels it. */
export type CloseOutcome = 'closed' | 'pending'

/**
 * `phrase` are the keys made of the recovery phrase. Rejects as `appendEntry` does: when its answer is lost, the server says
 * at the next session that the account is gone.
 */
export async function closeAccount(
  parts: AppendParts,
  ask: Ask,
  phrase: Pick<DeviceKeys, 'signer'> | undefined,
): Promise<CloseOutcome> {
  const isOwn = ({ pendingClose }: DeviceLogState): boolean =>
    pendingClose !== undefined && isSameId(pendingClose.signer, parts.identity.deviceId)
  await appendEntry(parts, ask, async (log) => {
    if (log.isClosed || (phrase === undefined && isOwn(log))) return undefined
    // Where no phrase is good there is nothing that it could prove.
    const proof = phrase && findRecovery(log) && (await signClose(phrase.signer, log))
    return { entry: await buildClose(log, authorOf(parts), proof), boxes: [] }
  })
  return parts.book.require().isClosed ? 'closed' : 'pending'
}
