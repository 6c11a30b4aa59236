// What an operator says to replace the secret that the nodes of a server share. Nothing has to be restarted: nodes read
// the new one while the old one is in use, and change over together.

import { z } from 'zod'
import { addNodeSecret } from '../db/queries/node-secrets.ts'
import { newNodeSecret, SECRET_CHANGE_MS } from '../node-secret.ts'
import type { AdminCommand } from './command.ts'

const rotated = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('rotated'),
    number: z.int().positive(),
    /** From then on the secret before is not valid any more. */
    oldEndsInMs: z.int().positive(),
  }),
  /** Another change is not over yet. */
  z.strictObject({ type: z.literal('too_soon'), retryAfterMs: z.int().positive() }),
])

export const rotateSecretCommand: AdminCommand<Record<string, never>, z.infer<typeof rotated>> = {
  name: 'rotate-node-secret',
  input: z.strictObject({}),
  output: rotated,
  run: async (db) => {
    const added = await addNodeSecret(db, newNodeSecret(), SECRET_CHANGE_MS)
    if (added.type === 'added') return { type: 'rotated', number: added.number, oldEndsInMs: SECRET_CHANGE_MS }
    return { type: 'too_soon', retryAfterMs: Math.max(1, Math.ceil(SECRET_CHANGE_MS - added.ageMs)) }
  },
}
