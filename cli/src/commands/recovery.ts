// `valise recovery`: checks a written phrase without using it, puts a new one in its place, and looks after one that waits.

import { describeVerdict, type NodeDevice, type RecoveryOutcome, type RecoverySheet } from '@valise/client/node'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { presentSheet, readPhrase } from '../recovery-phrase.ts'

interface NewOptions {
  readonly phraseFile?: string
  /** Commander's form of `--without-old-phrase`. */
  readonly withoutOldPhrase?: boolean
}

const OUTCOMES: Readonly<Record<RecoveryOutcome, string>> = {
  final: 'The new phrase is good, and no other.',
  made_before: 'The new phrase was stored before.',
  pending: [
    'The new phrase was asked for. The old one stays good for seven days, and every device shows the request meanwhile; any of',
    'your managers can cancel it (`valise recovery cancel`). This device then puts the new phrase in its place by itself: start',
    'it after that time, or run `valise recovery settle`.',
  ].join('\n'),
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
          if (verdict === 'valid')
            output.result('Good: this phrase recovers the account.', { type: 'recovery_test', verdict })
          else output.failure(`phrase_${verdict}`, describeVerdict(verdict))
          return verdict === 'valid' ? EXIT.success : EXIT.failure
        })
      }),
    )
  command
    .command('new')
    .description('make a new phrase; with the old one it is good at once, and the old one void')
    .option('--phrase-file <file>', 'read the old phrase from this file (-: standard input) instead of the terminal')
    .option('--without-old-phrase', 'ask for a new phrase that takes effect after seven days')
    .action(
      run((invocation, options: NewOptions) =>
        withHome(invocation.homeDir, (device) => renew(invocation, device, options)),
      ),
    )
  command
    .command('settle')
    .description('put the new phrase that was asked for in the place of the old one, once seven days have passed')
    .action(
      run(({ output, homeDir }) => {
        const signal = watchInterruption(output)
        return withHome(homeDir, async (device) => {
          await device.settleRecovery(signal)
          output.result(OUTCOMES.final, { type: 'recovery_settled' })
          return EXIT.success
        })
      }),
    )
  command
    .command('cancel')
    .description('cancel the new phrase that was asked for; the old one stays good')
    .action(
      run(({ output, homeDir }) => {
        const signal = watchInterruption(output)
        return withHome(homeDir, async (device) => {
          const isCancelled = await device.cancelPending('recovery', signal)
          const text = isCancelled
            ? 'Cancelled. The old phrase stays good.'
            : 'No new phrase waits; nothing was changed.'
          output.result(text, { type: 'recovery_cancelled', was_pending: isCancelled })
          return EXIT.success
        })
      }),
    )
}

async function renew(
  { output, prompt }: Invocation,
  device: NodeDevice,
  { phraseFile, withoutOldPhrase = false }: NewOptions,
): Promise<number> {
  prompt.requireSomeone()
  const signal = watchInterruption(output)
  const readOld = (): Promise<string> => {
    if (prompt.isPersonThere) output.notice('old_phrase', 'Type the phrase that is good now, to replace it at once.')
    return readPhrase(prompt, phraseFile, signal)
  }
  const oldPhrase = withoutOldPhrase ? undefined : readOld
  const confirm = (shown: RecoverySheet): Promise<boolean> => presentSheet({ output, prompt }, shown, signal)
  const outcome = await device.renewRecovery({ oldPhrase, confirm }, signal)
  if (outcome === undefined) {
    output.failure(
      'phrase_unconfirmed',
      'The new phrase was not typed back, or nobody read it. The one before stays good.',
    )
    return EXIT.failure
  }
  output.result(OUTCOMES[outcome], { type: outcome === 'pending' ? 'recovery_pending' : 'recovery_renewed' })
  return EXIT.success
}
