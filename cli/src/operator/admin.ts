// `valise admin`: what an operator does to the database of a server, running or not. The flags and the environment of
// `serve` say which.

import { formatTime } from '@valise/client/node'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { parseDurationMs } from '../duration.ts'
import { EXIT, MisuseError } from '../failure.ts'
import type { AddCommand, Run } from '../invocation.ts'
import { addAudit } from './audit.ts'
import { addDatabaseOptions, type DatabaseOptions, readConfig } from './database-options.ts'
import { addRestored } from './restored.ts'
import { addRotateKey } from './rotate-key.ts'
import { addRotateNodeSecret } from './rotate-node-secret.ts'

export const addAdmin: AddCommand = (program, run) => {
  const admin = program
    .command('admin')
    .description(
      "work on a server's database: invitations, audit log, backups put back, the server's key, the node secret",
    )
  addInvite(admin, run)
  addAudit(admin, run)
  addRestored(admin, run)
  addRotateNodeSecret(admin, run)
  addRotateKey(admin, run)
}

interface InviteOptions extends DatabaseOptions {
  readonly count: number
  readonly expires: number
}

const DAY_MS = 86_400_000

function addInvite(admin: Command, run: Run): void {
  const command = admin
    .command('invite')
    .description('make invitations, each of which lets one new user in, once (VALISE_REGISTRATION=invite)')
    .option('--count <number>', 'how many', parseCount, 1)
    .addOption(
      new Option('--expires <time>', 'how long they last: 30m, 12h, 7d …')
        .argParser(parseDuration)
        .default(7 * DAY_MS, '7d'),
    )
  addDatabaseOptions(command).action(
    run(async ({ output }, { count, expires, ...database }: InviteOptions) => {
      const backend = await import('@valise/backend')
      const { MAX_INVITATION_MS, MAX_INVITATIONS, MIN_INVITATION_MS } = backend
      if (count > MAX_INVITATIONS) {
        throw new MisuseError('bad_count', `Expected --count of at most ${MAX_INVITATIONS} at a time.`)
      }
      if (expires < MIN_INVITATION_MS || expires > MAX_INVITATION_MS) {
        throw new MisuseError('bad_expiry', 'Expected --expires of 1m to 365d.')
      }
      const config = await readConfig(database)
      const { invitations, expiresAtMs } = await backend.operate(config, backend.inviteCommand, {
        count,
        lifetimeMs: expires,
      })
      for (const invitation of invitations) {
        output.result(invitation, { invitation, expires_at: formatTime(expiresAtMs) })
      }
      output.notice(
        'invited',
        `Each lets one user in until ${formatTime(expiresAtMs)}: valise init --server URL --invite-file FILE, with the code in FILE. They are shown this once.`,
        { count, expires_at: formatTime(expiresAtMs) },
      )
      return EXIT.success
    }),
  )
}

function parseCount(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (count < 1) throw new InvalidArgumentError('Expected a whole number of at least 1.')
  return count
}

function parseDuration(text: string): number {
  const durationMs = parseDurationMs(text)
  if (durationMs === undefined) throw new InvalidArgumentError('Expected a number and m, h or d: 30m, 12h, 7d.')
  return durationMs
}
