// `valise account delete`: the end of the account, for all its devices. Asked twice: yes, and the account's short id typed,
// for what it removes comes back from nowhere.

import type { NodeDevice } from '@valise/client/node'
import { toHex } from '@valise/protocol'
import { EXIT, MisuseError } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { readPhrase } from '../recovery-phrase.ts'

/** Hexadecimal digits of the user id that are typed. */
const SHORT_ID_LENGTH = 10

interface DeleteOptions {
  readonly confirm?: string
  readonly phraseFile?: string
  readonly withoutPhrase?: boolean
}

export const addAccount: AddCommand = (program, run) => {
  const account = program.command('account').description('what concerns the account as a whole')
  account
    .command('delete')
    .description('delete the account: on the server, for all devices and for good, and on this device')
    .option('--phrase-file <file>', 'read the recovery phrase from this file (-: standard input)')
    .option('--without-phrase', 'delete it in seven days, unless one of your devices cancels that')
    .option('--confirm <id>', `the first ${SHORT_ID_LENGTH} characters of the user id, instead of typing them`)
    .action(
      run((invocation, options: DeleteOptions) =>
        withHome(invocation.homeDir, (device) => deleteAccount(invocation, device, options)),
      ),
    )
  account
    .command('keep')
    .description('cancel the deletion that was asked for')
    .action(
      run(({ output, homeDir }) => {
        const signal = watchInterruption(output)
        return withHome(homeDir, async (device) => {
          const isCancelled = await device.cancelPending('close', signal)
          const text = isCancelled ? 'Cancelled. The account stays.' : 'No deletion waits; nothing was changed.'
          output.result(text, { type: 'account_kept', was_pending: isCancelled })
          return EXIT.success
        })
      }),
    )
}

async function deleteAccount(
  { output, prompt, homeDir }: Invocation,
  device: NodeDevice,
  { confirm, phraseFile, withoutPhrase = false }: DeleteOptions,
): Promise<number> {
  const shortId = toHex(device.account()?.userId ?? new Uint8Array(0)).slice(0, SHORT_ID_LENGTH)
  if (confirm !== undefined && confirm !== shortId) throw wrongId()
  prompt.requireSomeone()
  if (confirm === undefined && !prompt.canAsk) {
    throw new MisuseError(
      'nobody_to_ask',
      `Nobody is here to type the account's id. Give it with --confirm ${shortId}.`,
    )
  }
  const signal = watchInterruption(output)
  const { heldEvents, outboxEvents } = await device.status()
  const others = (await device.devices()).filter(
    ({ isThisDevice, role, status }) => !isThisDevice && role !== 'recovery' && status === 'active',
  )
  const isLater = withoutPhrase && device.hasPhrase()
  output.notice(
    'to_be_deleted',
    [
      `This deletes the account from its server, ${isLater ? 'in seven days' : 'at once'} and for good: every event, the devices, the keys. Neither a`,
      'device nor the recovery phrase brings it back.',
      ...(isLater
        ? ['Until then each of your devices shows it, and any manager can cancel it: valise account keep.']
        : []),
      `This device erases its keys and the ${heldEvents} events it holds, and ${outboxEvents} that were not sent yet.`,
      `${others.length} other devices are told. What they hold stays there.`,
      'To keep a copy: valise export FILE, before.',
    ].join('\n'),
    { held_events: heldEvents, outbox_events: outboxEvents, other_devices: others.length },
  )
  if (!(await prompt.confirm('Delete the account?', signal))) return keep()
  if (confirm === undefined) {
    const typed = await prompt.ask(`Type its short id, ${shortId}: `, signal)
    if (typed === '') return keep()
    if (typed.toLowerCase() !== shortId) throw wrongId()
  }
  const phrase = withoutPhrase ? undefined : (): Promise<string> => readPhrase(prompt, phraseFile, signal)
  output.notice('deleting', 'Deleting; Ctrl-C gives up while the server has not answered.')
  if ((await device.deleteAccount(phrase, signal)) === 'pending') {
    output.result(
      'The account will be deleted in seven days. This device works until then, and erases itself when it is done.',
      { type: 'deletion_pending', user: shortId },
    )
    return EXIT.success
  }
  output.result(
    `The account is deleted. The server holds nothing of it any more, and ${homeDir} no keys and no events.`,
    {
      type: 'account_deleted',
      user: shortId,
      home: homeDir,
    },
  )
  return EXIT.success

  function keep(): number {
    output.notice('kept', 'Nothing was deleted.')
    return signal.aborted ? EXIT.interrupted : EXIT.failure
  }
}

const wrongId = (): MisuseError =>
  new MisuseError(
    'wrong_account',
    `That is not this account's short id, and nothing was deleted. Expected the first ${SHORT_ID_LENGTH} characters of the user id in \`valise status\`.`,
  )
