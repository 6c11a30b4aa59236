// Signs the end of the account into its device log (op 7): from its commit on the server holds nothing of it but the mark
// that it is gone.

import { buildClose } from '@valise/protocol'
import { type AppendParts, appendEntry } from './append-entry.ts'
import type { Ask } from './sync.ts'

/** Rejects as `appendEntry` does: when its answer is lost, the server says at the next session that the account is gone. */
export async function closeAccount(parts: AppendParts, ask: Ask): Promise<void> {
  const { identity, clock } = parts
  await appendEntry(parts, ask, async (log) => {
    if (log.isClosed) return undefined
    const author = { signer: identity.signer, deviceId: identity.deviceId, timeMs: clock.now() }
    return { entry: await buildClose(log, author), boxes: [] }
  })
}
