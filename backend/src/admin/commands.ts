// What an operator can ask of a server's database, by name: the one list for the command line, which works on the
// database itself, and for the admin port of a server that holds an embedded one. Input is parsed here, once.

import { randomBytes } from 'node:crypto'
import { INVITATION_BYTES, toHex } from '@valise/protocol'
import { z } from 'zod'
import type { Database } from '../db/database.ts'
import { insertInvitations } from '../db/queries/invitations.ts'
import { invitationHash } from '../devices/registration.ts'
import { auditCommand, auditVerifyCommand } from './audit-commands.ts'
import type { AdminCommand } from './command.ts'
import { keyChangeCommand } from './key-change-command.ts'
import { restoredCommand } from './restored-command.ts'
import { rotateSecretCommand } from './rotate-secret-command.ts'

export const MAX_INVITATIONS = 1000
const DAY_MS = 86_400_000
export const MIN_INVITATION_MS = 60_000
export const MAX_INVITATION_MS = 365 * DAY_MS

const invite = z.strictObject({
  count: z.int().min(1).max(MAX_INVITATIONS),
  lifetimeMs: z.int().min(MIN_INVITATION_MS).max(MAX_INVITATION_MS),
})

const invited = z.strictObject({
  /** Each as eight groups of four hexadecimal digits. Shown here and kept nowhere. */
  invitations: z.array(z.string()),
  /** Unix milliseconds, by the database's clock. */
  expiresAtMs: z.number(),
})

export const inviteCommand: AdminCommand<z.infer<typeof invite>, z.infer<typeof invited>> = {
  name: 'invite',
  input: invite,
  output: invited,
  run: async (db, { count, lifetimeMs }) => {
    const secrets = Array.from({ length: count }, () => new Uint8Array(randomBytes(INVITATION_BYTES)))
    const expiresAtMs = await insertInvitations(db, secrets.map(invitationHash), lifetimeMs)
    return { invitations: secrets.map(formatInvitation), expiresAtMs }
  },
}

export type AdminOutcome =
  | { readonly ok: true; readonly output: unknown }
  /** `field` is the path of the first field that does not fit. */
  | { readonly ok: false; readonly field: string }

export type AnswerAdminCommand = (db: Database, input: unknown) => Promise<AdminOutcome>

const answering =
  <Input, Output>({ input: schema, run }: AdminCommand<Input, Output>): AnswerAdminCommand =>
  async (db, input) => {
    const parsed = schema.safeParse(input)
    if (!parsed.success) return { ok: false, field: parsed.error.issues[0]?.path.join('.') || 'body' }
    return { ok: true, output: await run(db, parsed.data) }
  }

/** Every command, on input from outside. Rejects as the database does. */
export const ADMIN_COMMANDS: ReadonlyMap<string, AnswerAdminCommand> = new Map([
  [inviteCommand.name, answering(inviteCommand)],
  [auditCommand.name, answering(auditCommand)],
  [auditVerifyCommand.name, answering(auditVerifyCommand)],
  [restoredCommand.name, answering(restoredCommand)],
  [rotateSecretCommand.name, answering(rotateSecretCommand)],
  [keyChangeCommand.name, answering(keyChangeCommand)],
])

const formatInvitation = (secret: Uint8Array): string => toHex(secret).replace(/(....)(?=.)/g, '$1-')
