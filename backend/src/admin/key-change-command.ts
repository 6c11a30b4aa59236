// Publishes a change of the server's key: signed bytes, which the operator's command line has made from the key files.

import { fromBase64Url } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { z } from 'zod'
import { IdentityError } from '../keys/identity-file.ts'
import { publishKeyChange } from '../keys/key-changes.ts'
import type { AdminCommand } from './command.ts'

const publish = z.strictObject({
  /** base64url. */
  change: z.string().max(400),
})

const published = z.strictObject({
  /** Why it was refused; null when it is published. */
  refusal: z.string().nullable(),
})

export const keyChangeCommand: AdminCommand<z.infer<typeof publish>, z.infer<typeof published>> = {
  name: 'key-change',
  input: publish,
  output: published,
  run: async (db, { change }) => {
    try {
      await publishKeyChange(nodeCrypto, db, fromBase64Url(change) ?? new Uint8Array())
      return { refusal: null }
    } catch (error) {
      if (error instanceof IdentityError) return { refusal: error.message }
      throw error
    }
  },
}
