// `valise pair`: lets a new device into the account, or makes this one a device of an account, by a QR or a code that
// either of the two shows and four digits that a person types on the device which lets in.

import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Account, NodeDevice, PairingScreen, PairingStep } from '@valise/client/node'
import { formatUuid, toHex } from '@valise/protocol'
import { describeAccount } from '../account-fields.ts'
import { EXIT, MisuseError } from '../failure.ts'
import { withNewHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { showNewDevice } from '../new-device.ts'
import type { Output } from '../output.ts'
import { renderQr } from '../qr.ts'
import { readSecret, seenByOthers } from '../secret-input.ts'
import { printable } from '../visible.ts'

interface PairOptions {
  readonly server?: string
  readonly name?: string
  readonly fingerprint?: string
  readonly new?: true
  readonly check?: string
  readonly codeFile?: string
  readonly fresh?: true
}

const MAX_NAME_LENGTH = 64
const CHECK = /^\d{4}$/

export const addPair: AddCommand = (program, run) => {
  program
    .command('pair')
    .description('pair two devices: one shows a QR and a code, the other is given one of them')
    .argument(
      '[code]',
      `the code, or the address in the QR, that the other device shows; without it this one shows them (${seenByOthers('--code-file')})`,
    )
    .option('--code-file <file>', 'read the code or the address from this file (-: standard input)')
    .option('--server <url>', 'on a new device: address of the server (in a QR it is contained)')
    .option('--name <name>', 'on a new device: its name, sealed to your devices (default: the name of this machine)')
    .option('--fingerprint <text>', "on a new device: the server's fingerprint as it prints it")
    .option('--new', 'this is the new device, and it shows the code')
    .option('--check <digits>', 'on the device that lets in: the four digits that the new one shows')
    .option('--fresh', 'begin anew, even when a pairing is under way here')
    .action(
      run(async (invocation, given: string | undefined, options: PairOptions) => {
        const { homeDir, output, prompt } = invocation
        checkOptions(options)
        const signal = watchInterruption(output)
        const source = { given, file: options.codeFile, option: '--code-file', what: 'the code' }
        const offer = await readSecret(prompt, source, signal)
        if (!existsSync(homeDir) && offer === undefined && options.new === undefined) {
          throw new MisuseError(
            'not_set_up',
            `${homeDir} holds no device yet. On a new device use \`valise pair CODE --server …\` with the code of the other, or \`valise pair --new --server …\` to show one here.`,
          )
        }
        return withNewHome(homeDir, (device) => {
          const account = device.account()
          return account === undefined
            ? pairNew(invocation, device, offer, options, signal)
            : pairExisting(invocation, device, account, offer, options, signal)
        })
      }),
    )
}

function checkOptions({ check }: PairOptions): void {
  if (check !== undefined && !CHECK.test(check)) {
    throw new MisuseError('bad_check', 'Expected --check with the four digits that the new device shows.')
  }
}

async function pairExisting(
  { output, prompt }: Invocation,
  device: NodeDevice,
  account: Account,
  offer: string | undefined,
  options: PairOptions,
  signal: AbortSignal,
): Promise<number> {
  if (options.new === true || options.server !== undefined) {
    throw new MisuseError(
      'already_set_up',
      'This home belongs to an account already, so it lets others in: --new and --server are for a new device. Choose another folder with --home for one.',
    )
  }
  let { check } = options
  const paired = await device.pairExisting({
    offer,
    isFresh: options.fresh === true,
    signal,
    screen: createScreen(output, 'existing', (code) => `pair ${code} --server ${account.serverUrl}`),
    decide: async (newDevice, deadline) => {
      showNewDevice(output, newDevice)
      // Given once, it counts once: digits are for the device that shows them.
      const given = check
      check = undefined
      if (given !== undefined) return given
      return askDigits(prompt, AbortSignal.any([signal, deadline]))
    },
  })
  if (paired === undefined) {
    output.failure('declined', 'Declined. The other device was not let in, and is told so.')
    return EXIT.failure
  }
  const { deviceId, name, platform, deviceFingerprint, logSeq } = paired
  output.result(`Paired: "${printable(name)}" is one of your devices now. Your other devices are told.`, {
    type: 'paired',
    device_id: formatUuid(deviceId),
    name,
    platform,
    device_fingerprint: deviceFingerprint,
    log_seq: logSeq,
  })
  return EXIT.success
}

async function pairNew(
  { output, homeDir }: Invocation,
  device: NodeDevice,
  offer: string | undefined,
  { server, name, fingerprint, fresh, check, new: isNew }: PairOptions,
  signal: AbortSignal,
): Promise<number> {
  if (check !== undefined) {
    throw new MisuseError('bad_check', '--check is for the device that lets in; this one shows the digits.')
  }
  const isUnderWay = (await device.pairingPart()) === 'new'
  if (offer === undefined && !isUnderWay && (isNew === undefined || server === undefined)) {
    throw new MisuseError(
      'not_set_up',
      'This home holds no device yet. Expected a code of the other device, or --new and --server to show one here.',
    )
  }
  const account = await device.pairNew({
    offer,
    serverUrl: server,
    fingerprint,
    name: name ?? hostname().slice(0, MAX_NAME_LENGTH),
    isFresh: fresh === true,
    signal,
    screen: createScreen(output, 'new', (code) => `pair ${code}`),
  })
  if (account === undefined) {
    output.failure('declined', 'The other device declined. This one was not let in.')
    return EXIT.failure
  }
  output.result(`Paired. This device, "${printable(account.name)}", now belongs to user ${toHex(account.userId)}.`, {
    type: 'paired',
    ...describeAccount(account, homeDir),
  })
  return EXIT.success
}

/** Nobody's `--yes` stands for the digits. */
async function askDigits(prompt: Invocation['prompt'], signal: AbortSignal): Promise<string | undefined> {
  if (!prompt.canAsk) {
    throw new MisuseError(
      'nobody_to_ask',
      'The four digits that the other device shows are to be typed, and standard input is not a terminal. Run `valise pair --check DIGITS` with them now, to go on.',
    )
  }
  for (;;) {
    const answer = await prompt.ask('Type the four digits that it shows, or no to decline: ', signal)
    const text = answer.replace(/\s+/g, '')
    if (text === '' || /^no?$/i.test(text)) return undefined
    if (CHECK.test(text)) return text
  }
}

const STEPS: Readonly<Record<'existing' | 'new', Partial<Record<PairingStep['type'], string>>>> = {
  existing: {
    opened: 'Joined. Waiting for the other device …',
    answered: 'A device has joined. Finding out whether it knows the code …',
    awaiting_introduction: 'Both devices know the code. Waiting for the new one to say who it is …',
    adding: 'The digits are right. Letting it in …',
  },
  new: {
    opened: 'Joined. Waiting for the other device …',
    answered: 'A device has joined. Finding out whether it knows the code …',
    awaiting_done: 'Waiting for the approval …',
  },
}

/** `command`: what to type on the other device besides the code. */
function createScreen(output: Output, part: 'existing' | 'new', command: (code: string) => string): PairingScreen {
  let shownCheck: string | undefined
  return {
    onShown: ({ url, code, isResumed }) => {
      const text = [
        part === 'existing' ? 'On the new device, scan this:' : 'On a device that you already have, scan this:',
        '',
        renderQr(url, output.isTerminal),
        '',
        `or type there:  npx valise ${command(code)}`,
        '',
        `The QR is good for two minutes, the code for five${isResumed ? ', from when they were first shown' : ''}.`,
        'Waiting for the other device …',
      ]
      output.drawing(text.join('\n'), { type: 'offer', url, code, is_resumed: isResumed })
    },
    onResumed: () =>
      output.notice('resumed', 'Going on with the pairing that was interrupted; --fresh begins a new one.'),
    onRenewed: ({ reason, text, left }) => {
      const more = left === 0 ? 'It is the last one.' : `${left} more may follow it.`
      output.result(`${text}\nThe code above is not good any more. Here is a new one. ${more}`, {
        type: 'renewed',
        reason,
        left,
      })
    },
    onStep: ({ type, check }) => {
      if (check !== undefined && check !== shownCheck) {
        shownCheck = check
        const text = `Both devices know the code. Type these four digits on the other one:  ${check}`
        output.result(text, { type: 'check', digits: check })
      }
      const text = STEPS[part][type]
      if (text !== undefined) output.result(text, { type: 'step', step: type })
      else if (output.isJson) output.result('', { type: 'step', step: type })
    },
  }
}
