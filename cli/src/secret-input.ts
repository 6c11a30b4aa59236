// Secrets that a command needs: from a file, from standard input or, for those that soon expire, from the command line,
// where every user of the machine can read them (`ps`).

import { open } from 'node:fs/promises'
import { judgePrivate } from '@valise/protocol'
import { MisuseError } from './failure.ts'
import type { Prompt } from './prompt.ts'

export interface SecretSource {
  /** From the command line. */
  readonly given: string | undefined
  readonly file: string | undefined
  /** The option that names the file. */
  readonly option: string
  /** As in "the invitation". */
  readonly what: string
}

/** For the help of an option that puts a secret on the command line. */
export const seenByOthers = (option: string): string =>
  `other users of this machine can see it there; ${option} is safer`

/** Some KiB, whatever stands around the secret. */
const MAX_FILE_BYTES = 4096

/** Undefined when it is given nowhere. Throws a MisuseError. */
export async function readSecret(
  prompt: Prompt,
  { given, file, option, what }: SecretSource,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (file === undefined) return given
  if (given !== undefined) {
    throw new MisuseError('bad_command_line', `Expected ${what} on the command line or in ${option}, not both.`)
  }
  if (file !== '-') return (await readSecretFile(file, option)).trim()
  const line = await prompt.readSecret(`Type ${what} (it is not shown):`, signal)
  if (line !== undefined && line.trim() !== '') return line.trim()
  signal.throwIfAborted()
  throw new MisuseError('no_input', `Standard input is empty. Expected ${what} there, because of ${option} -.`)
}

/** A regular file must be private; a pipe, as of `<(…)`, is. Throws a MisuseError. */
export async function readSecretFile(path: string, option: string): Promise<string> {
  const unreadable = (cause: unknown): never => {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
    throw new MisuseError('bad_file', `${path} cannot be read (${reason}). Expected ${option} with a readable file.`, {
      cause,
    })
  }
  const file = await open(path, 'r').catch(unreadable)
  try {
    const facts = await file.stat()
    const fault = facts.isFile() ? judgePrivate(path, 'file', facts, process.getuid?.()) : undefined
    if (fault !== undefined) throw new MisuseError('unsafe_permissions', `${fault.problem}. Mend it: ${fault.remedy}`)
    const bytes = await file.readFile().catch(unreadable)
    if (bytes.length <= MAX_FILE_BYTES) return bytes.toString('utf8')
    throw new MisuseError('bad_file', `${path} is too large. Expected ${option} with the secret, and no more.`)
  } finally {
    await file.close()
  }
}
