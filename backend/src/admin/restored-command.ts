// What an operator says after a backup was put back: the log is another one now. Devices then stop and ask their users,
// instead of finding out by what is missing.

import { toHex } from '@valise/protocol'
import { z } from 'zod'
import { changeLogEpoch } from '../db/queries/server-state.ts'
import type { AdminCommand } from './command.ts'

const restored = z.strictObject({
  /** 32 hexadecimal digits. */
  logEpoch: z.string(),
})

export const restoredCommand: AdminCommand<Record<string, never>, z.infer<typeof restored>> = {
  name: 'restored',
  input: z.strictObject({}),
  output: restored,
  run: async (db) => ({ logEpoch: toHex(await changeLogEpoch(db)) }),
}
