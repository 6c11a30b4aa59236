// `valise recovery`: checks a written phrase without using it, or puts a new one in its place.

import type { PhraseVerdict } from '@valise/client/node'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'
import { presentSheet, readPhrase } from '../recovery-phrase.ts'

const VERDICTS: Readonly<Record<PhraseVerdict, string>> = {
  valid: 'Good: this phrase recovers the account.',
  replaced: 'This phrase was replaced by a newer one. It recovers nothing any more.',
  foreign: 'This is a recovery phrase, but not that of this account.',
}

export const addRecovery: AddCommand = (program, run) => {
  const command = program.command('recovery').description('look after the recovery phrase')
  command
    .command('test')
    .description('check a written phrase, offline, without using it')
    .option('--phrase-file <file>', 'read it from this file (-: standard input) instead of the terminal')
    .action(
      run(({ output, prompt, homeDir }, { phraseFile }: { phraseFile?: string }) => {
        const signal = watchInterruption(output)
        return withHome(homeDir, async (device) => {
          const verdict = await device.testRecovery(await readPhrase(prompt, phraseFile, signal))
          if (verdict === 'valid') output.result(VERDICTS.valid, { type: 'recovery_test', verdict })
          else output.failure(`phrase_${verdict}`, VERDICTS[verdict])
          return verdict === 'valid' ? EXIT.success : EXIT.failure
        })
      }),
    )
  command
    .command('new')
    .description('make a new phrase; the one before is void from then on')
    .action(
      run(({ output, prompt, homeDir }) => {
        prompt.requireSomeone()
        const signal = watchInterruption(output)
        return withHome(homeDir, async (device) => {
          const sheet = await device.renewRecovery((shown) => presentSheet({ output, prompt }, shown, signal), signal)
          if (sheet === undefined) {
            output.failure(
              'phrase_unconfirmed',
              'The new phrase was not typed back, or nobody read it. The one before stays good.',
            )
            return EXIT.failure
          }
          output.result('The new phrase is good, and no other.', { type: 'recovery_renewed' })
          return EXIT.success
        })
      }),
    )
}
