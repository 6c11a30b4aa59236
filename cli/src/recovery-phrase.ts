// The recovery phrase at the terminal: shown once, typed back, and read from a person, a file or a pipe. It never stands
// among the arguments, which every process of the machine can read.

import { isSamePhrase, type RecoverySheet } from '@valise/client/node'
import { encodeUtf8 } from '@valise/protocol'
import { MisuseError } from './failure.ts'
import type { JsonFields, Output } from './output.ts'
import type { Prompt } from './prompt.ts'
import { readSecretFile } from './secret-input.ts'

export const describeSheet = (sheet: RecoverySheet): string =>
  [
    'Recovery phrase. Write all of this down and keep it away from this device. It is shown this once and stored nowhere.',
    'Whoever has the words can read everything; without them, losing all devices loses everything.',
    '',
    `  ${sheet.phrase}`,
    '',
    ...sheetFacts(sheet),
  ].join('\n')

const sheetFacts = ({ host, serverFingerprint, userIdStart }: RecoverySheet): string[] => [
  `  server       ${host}`,
  `  its key      ${serverFingerprint}`,
  `  user         ${userIdStart}…`,
]

export const sheetFields = ({ phrase, host, serverFingerprint, userIdStart }: RecoverySheet): JsonFields => ({
  recovery_phrase: phrase,
  recovery_sheet: { host, server_fingerprint: serverFingerprint, user_id_start: userIdStart },
})

const TRIES = 3

/** Shows the sheet until its phrase was typed back. False when it was not, in so many tries. */
export async function confirmSheet(
  { output, prompt }: { readonly output: Output; readonly prompt: Prompt },
  sheet: RecoverySheet,
  signal: AbortSignal,
): Promise<boolean> {
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    const text = `${describeSheet(sheet)}\n\nWritten down? Press Enter: the screen is cleared, and you type the words back.`
    if (!(await prompt.showOnce(text, signal))) return false
    const typed = await prompt.readSecret('Type the twelve words back (they are not shown):', signal)
    if (typed === undefined) return false
    if (isSamePhrase(typed, sheet.phrase)) return true
    if (attempt < TRIES) output.notice('phrase_differs', 'That is not what was shown; here it is again.')
  }
  return false
}

/**
 * Shows a new phrase, and is true when somebody has it: a person at the terminal typed it back, or whoever reads standard
 * output took it.
 */
export async function presentSheet(
  { output, prompt }: { readonly output: Output; readonly prompt: Prompt },
  sheet: RecoverySheet,
  signal: AbortSignal,
): Promise<boolean> {
  if (prompt.isPersonThere && !output.isJson) return confirmSheet({ output, prompt }, sheet, signal)
  const text = output.isJson ? JSON.stringify({ type: 'recovery_phrase', ...sheetFields(sheet) }) : describeSheet(sheet)
  return output.write(encodeUtf8(`${text}\n`))
}

/** From the file (`-`: standard input), from the terminal, or from the first line of a pipe. */
export async function readPhrase(prompt: Prompt, file: string | undefined, signal: AbortSignal): Promise<string> {
  if (file !== undefined && file !== '-') return readSecretFile(file, '--phrase-file')
  const phrase = await prompt.readSecret('Recovery phrase (it is not shown):', signal)
  if (phrase !== undefined) return phrase
  signal.throwIfAborted()
  throw new MisuseError(
    'no_phrase',
    'No recovery phrase was given. Expected it at the terminal, in a file with --phrase-file, or on standard input.',
  )
}
