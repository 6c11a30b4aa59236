// `valise admin rotate-key`: the server gets its next key, and clients follow the change because both keys sign it.

import { toBase64Url } from '@valise/protocol'
import type { Command } from 'commander'
import { EXIT } from '../failure.ts'
import type { Run } from '../invocation.ts'
import { addDatabaseOptions, type DatabaseOptions, readConfig } from './database-options.ts'

interface RotateKeyOptions extends DatabaseOptions {
  readonly next?: string
}

export function addRotateKey(admin: Command, run: Run): void {
  const command = admin
    .command('rotate-key')
    .description("change the server's key to the next one, and make the one after it; devices follow by themselves")
    .option('--next <file>', 'where you keep the next key (default: identity-next.key beside the identity key)')
  addDatabaseOptions(command).action(
    run(async ({ output }, { next, ...database }: RotateKeyOptions) => {
      const backend = await import('@valise/backend')
      const config = await readConfig(database)
      const rotated = await backend.rotateServerKey(config, next)
      const [fingerprint, nextFingerprint] = [rotated.fingerprint, rotated.nextFingerprint].map(toBase64Url)
      const from = rotated.from === undefined ? null : toBase64Url(rotated.from)
      if (rotated.unpublished !== undefined) {
        output.notice(
          'not_published',
          `The key files are changed, and the database does not know it yet: ${rotated.unpublished}. The server publishes the change itself when it reads the file.`,
          { reason: rotated.unpublished },
        )
      }
      const text = [
        rotated.from === undefined ? 'An interrupted change of the key is finished.' : 'The server has a new key.',
        '',
        ...(from === null ? [] : [`  before       ${from}`]),
        `  now          ${fingerprint}`,
        `  next key     ${nextFingerprint}`,
        '',
        `Move ${rotated.nextFile} to a safe place on another machine. A server that runs takes the new key by itself.`,
        `Nodes with an identity file of their own need a copy of ${config.identityFile}.`,
        ...(next === undefined ? [] : [`Remove ${next}: that key is in use now.`]),
      ]
      output.result(text.join('\n'), {
        type: 'key_rotated',
        from,
        fingerprint: fingerprint ?? null,
        next_fingerprint: nextFingerprint ?? null,
        next_file: rotated.nextFile,
        published: rotated.unpublished === undefined,
      })
      return EXIT.success
    }),
  )
}
