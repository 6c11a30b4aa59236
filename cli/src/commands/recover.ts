// `valise recover`: gets an account back with its phrase, on a machine that has nothing else. Run again after an
// interruption, it goes on where it stood.

import {
  type DeviceSummary,
  formatTime,
  type NodeDevice,
  type RecoverableAccount,
  type RecoverySheet,
} from '@valise/client/node'
import { formatUuid, toHex } from '@valise/protocol'
import { describeAccount } from '../account-fields.ts'
import { createConfirmServer } from '../confirm-server.ts'
import { nameOf } from '../device-text.ts'
import { EXIT } from '../failure.ts'
import { withNewHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { presentSheet, readPhrase } from '../recovery-phrase.ts'
import { addServerOptions, type ServerOptions, toServerOptions } from '../server-options.ts'
import { printable } from '../visible.ts'

interface RecoverOptions extends ServerOptions {
  readonly phraseFile?: string
  readonly keep: readonly string[]
}

const RENEWED = 'The new phrase that this device has shown is stored: it is good, and no other.'

export const addRecover: AddCommand = (program, run) => {
  const command = program.command('recover').description('get your account back with its recovery phrase')
  addServerOptions(command)
    .option('--phrase-file <file>', 'read the phrase from this file (-: standard input) instead of the terminal')
    .option('--keep <device...>', 'devices that are not lost, by name, id or beginning of the fingerprint', [])
    .action(
      run(async (invocation, options: RecoverOptions) => {
        invocation.prompt.requireSomeone()
        const signal = watchInterruption(invocation.output)
        return withNewHome(invocation.homeDir, (device) => recover(invocation, device, options, signal))
      }),
    )
}

async function recover(
  invocation: Invocation,
  device: NodeDevice,
  options: RecoverOptions,
  signal: AbortSignal,
): Promise<number> {
  const { output, homeDir } = invocation
  const hasBegun = device.account() !== undefined && (await device.recoveryStage()) !== undefined
  let phrase: string | undefined
  if (hasBegun) output.notice('recovery_resumed', 'This device has the account already; going on with the rest.')
  else {
    phrase = await readPhrase(invocation.prompt, options.phraseFile, signal)
    if (!(await enter(invocation, device, options, phrase, signal))) {
      output.failure('declined', 'Declined. Nothing was changed.')
      return EXIT.failure
    }
  }
  if ((await device.recoveryStage()) === 'revoke') await changeKeys(invocation, device, options.keep, signal)
  if ((await device.recoveryStage()) === 'phrase') {
    if (await device.hasRenewedPhrase(signal)) output.notice('phrase_renewed', RENEWED)
    else await offerPhrase(invocation, device, phrase, options.phraseFile, signal)
  }
  await device.endRecovery()
  const account = device.account()
  if (account === undefined) return EXIT.failure
  output.result(
    `Recovered. This device, "${printable(account.name)}", is a manager of user ${toHex(account.userId)}.`,
    {
      type: 'recovered',
      ...describeAccount(account, homeDir),
    },
  )
  return EXIT.success
}

/** True when this device was signed in. */
async function enter(
  invocation: Invocation,
  device: NodeDevice,
  options: RecoverOptions,
  phrase: string,
  signal: AbortSignal,
): Promise<boolean> {
  const { output, prompt } = invocation
  const entered = await device.recover({
    ...toServerOptions(options),
    phrase,
    confirmServer: createConfirmServer(invocation, signal),
    confirm: (account) => {
      output.result(describeRecoverable(account), {
        type: 'recoverable',
        user_id: toHex(account.userId),
        created_at: formatTime(account.createdAtMs),
        devices: account.devices.map(({ deviceId, role, addedAtMs }) => ({
          device_id: formatUuid(deviceId),
          role,
          added_at: formatTime(addedAtMs),
        })),
      })
      return prompt.confirm('Is this your account, and shall this machine become a manager of it?', signal)
    },
    signal,
  })
  return entered !== undefined
}

function describeRecoverable({ userIdStart, createdAtMs, devices }: RecoverableAccount): string {
  const lines = devices.map(({ deviceFingerprint, role, addedAtMs }) => {
    return `  ${deviceFingerprint}  ${role}  added ${formatTime(addedAtMs)}`
  })
  return [
    `The phrase opens the account ${userIdStart}…, made ${formatTime(createdAtMs)}, with these devices:`,
    '',
    ...lines,
    '',
  ].join('\n')
}

/** Revokes what is lost; what is not gets new keys. */
async function changeKeys(
  { output, prompt }: Invocation,
  device: NodeDevice,
  keep: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const devices = await device.currentDevices(signal)
  const others = devices.filter(({ isThisDevice }) => !isThisDevice)
  const kept = new Set(keep.map((text) => device.pickDevice(others, text)))
  const lost: DeviceSummary[] = []
  for (const each of others) {
    if (each.role === 'recovery' || each.status === 'revoked' || kept.has(each)) continue
    const question = `Is "${nameOf(each)}" lost (${each.deviceFingerprint}, added ${formatTime(each.addedAtMs)})?`
    if (await prompt.confirm(question, signal, 'yes')) lost.push(each)
    signal.throwIfAborted()
  }
  const isChangedNow = await device.recoverKeys(lost, signal)
  output.result(describeChange(lost, isChangedNow), {
    type: 'keys_changed',
    revoked: lost.map(({ deviceId }) => formatUuid(deviceId)),
  })
}

function describeChange(lost: readonly DeviceSummary[], isChangedNow: boolean): string {
  if (!isChangedNow) return 'No other device is lost. The keys were changed already.'
  if (lost.length === 0) return 'No device is lost. The keys were changed.'
  return `Revoked: ${lost.map((each) => `"${nameOf(each)}"`).join(', ')}. The keys were changed.`
}

/** `phrase` is the one that was used; a recovery that was resumed asks for it once more, for the new one needs it. */
async function offerPhrase(
  { output, prompt }: Invocation,
  device: NodeDevice,
  phrase: string | undefined,
  phraseFile: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const wants = await prompt.confirm('The phrase has been used. Make a new one in its place?', signal, 'yes')
  signal.throwIfAborted()
  const confirm = (shown: RecoverySheet): Promise<boolean> => presentSheet({ output, prompt }, shown, signal)
  const oldPhrase = async (): Promise<string> => phrase ?? (await readPhrase(prompt, phraseFile, signal))
  const outcome = wants ? await device.renewRecovery({ oldPhrase, confirm }, signal) : undefined
  signal.throwIfAborted()
  if (outcome === undefined)
    output.notice('phrase_kept', 'The phrase you used stays good; `valise recovery new` replaces it.')
}
