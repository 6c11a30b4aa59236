// What an operator says after a backup was put back: the log is another one now. Devices then stop and ask their users,
// instead of finding out by what is missing. The node secret is another one too, at once: what nodes said about the
// log that is gone must not be taken for word about this one.

import { toHex } from '@valise/protocol'
import { z } from 'zod'
import { replaceNodeSecrets } from '../db/queries/node-secrets.ts'
import { changeLogEpoch } from '../db/queries/server-state.ts'
import { newNodeSecret } from '../node-secret.ts'
import type { AdminCommand } from './command.ts'

const restored = z.strictObject({
  /** 32 hexadecimal digits. */
  logEpoch: z.string(),
})

export const restoredCommand: AdminCommand<Record<string, never>, z.infer<typeof restored>> = {
  name: 'restored',
  input: z.strictObject({}),
  output: restored,
  run: (db) =>
    db.transaction({ name: 'restored' }, async (tx) => {
      await replaceNodeSecrets(tx, newNodeSecret())
      return { logEpoch: toHex(await changeLogEpoch(tx)) }
    }),
}
