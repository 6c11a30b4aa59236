// Questions that only a person can answer. Asked on standard error, so that standard output holds results alone.

import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { MisuseError } from './failure.ts'

export interface Prompt {
  /** Throws a MisuseError when nobody is there to answer: call it before anything is done. */
  requireSomeone(): void
  /** True for y or yes; anything else is no. */
  confirm(question: string, signal: AbortSignal): Promise<boolean>
  /** True when somebody is there to type an answer, which `--yes` is not. */
  readonly canAsk: boolean
  /** The line that is typed, without spaces around it; empty for none. Ask `canAsk` first. */
  ask(question: string, signal: AbortSignal): Promise<string>
}

export interface PromptParts {
  readonly stdin: Readable & { readonly isTTY?: boolean }
  readonly stderr: Writable
  /** `--yes`: every answer is yes. */
  readonly answersYes: boolean
}

export function createPrompt({ stdin, stderr, answersYes }: PromptParts): Prompt {
  const requireSomeone = (): void => {
    if (!answersYes && stdin.isTTY !== true) {
      throw new MisuseError(
        'nobody_to_ask',
        'This asks a question, and standard input is not a terminal. Run it in a terminal, or give --yes to answer yes.',
      )
    }
  }
  const ask = async (question: string, signal: AbortSignal): Promise<string> => {
    stderr.write(question)
    // Without `terminal` Ctrl-C stays a signal. Ctrl-D, or the signal, ends the lines: no answer.
    for await (const line of createInterface({ input: stdin, terminal: false, signal })) return line.trim()
    return ''
  }
  return {
    requireSomeone,
    confirm: async (question, signal) => {
      if (answersYes) return true
      requireSomeone()
      return /^y(es)?$/i.test(await ask(`${question} [y/N] `, signal))
    },
    canAsk: stdin.isTTY === true,
    ask,
  }
}
