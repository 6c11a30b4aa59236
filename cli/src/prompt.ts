// Questions that only a person can answer. Asked on standard error, so that standard output holds results alone.

import type { Writable } from 'node:stream'
import { MisuseError } from './failure.ts'
import { createTypedLines, type TypedInput } from './typed-lines.ts'
import { visibleLines } from './visible.ts'

export interface Prompt {
  /** A person is at the terminal, and is to be asked. */
  readonly isPersonThere: boolean
  /** Throws a MisuseError when nobody is there to answer: call it before anything is done. */
  requireSomeone(): void
  /** True for y or yes, false for n or no; anything else is the default, which is no. */
  confirm(question: string, signal: AbortSignal, byDefault?: 'yes' | 'no'): Promise<boolean>
  /** True when somebody is there to type an answer, which `--yes` is not. */
  readonly canAsk: boolean
  /** The line that is typed, without spaces around it; empty for none. Ask `canAsk` first. */
  ask(question: string, signal: AbortSignal): Promise<string>
  /** What is typed without an echo, or the next line of a pipe; undefined when there is none. */
  readSecret(question: string, signal: AbortSignal): Promise<string | undefined>
  /** Shows a text that leaves nothing on the screen once Enter was pressed. False when it was not. */
  showOnce(text: string, signal: AbortSignal): Promise<boolean>
}

export interface PromptParts {
  readonly stdin: TypedInput
  readonly stderr: Writable
  /** `--yes`: every answer is yes. */
  readonly answersYes: boolean
  /** Ctrl-C while the terminal does not make a signal of it. */
  readonly onInterrupt?: () => void
}

/** The terminal's second screen, which keeps no history. */
const SECOND_SCREEN = '\u001b[?1049h\u001b[2J\u001b[H'
const FIRST_SCREEN = '\u001b[2J\u001b[?1049l'

export function createPrompt({ stdin, stderr, answersYes, onInterrupt = () => {} }: PromptParts): Prompt {
  const lines = createTypedLines(stdin, onInterrupt)
  const isTerminal = stdin.isTTY === true
  const requireSomeone = (): void => {
    if (!answersYes && !isTerminal) {
      throw new MisuseError(
        'nobody_to_ask',
        'This asks a question, and standard input is not a terminal. Run it in a terminal, or give --yes to answer yes.',
      )
    }
  }
  return {
    isPersonThere: isTerminal && !answersYes,
    requireSomeone,
    confirm: async (question, signal, byDefault = 'no') => {
      if (answersYes) return true
      requireSomeone()
      const choice = byDefault === 'yes' ? '[Y/n]' : '[y/N]'
      const line = await lines.next({
        isHidden: false,
        signal,
        ask: () => void stderr.write(visibleLines(`${question} ${choice} `)),
      })
      // No answer is no, whatever the default.
      if (line === undefined) {
        stderr.write('\n')
        return false
      }
      if (byDefault === 'yes') return !/^\s*no?\s*$/i.test(line)
      return /^\s*y(es)?\s*$/i.test(line)
    },
    readSecret: async (question, signal) => {
      const line = await lines.next({
        isHidden: true,
        signal,
        ask: () => void (isTerminal && stderr.write(visibleLines(`${question} `))),
      })
      if (isTerminal) stderr.write('\n')
      return line
    },
    showOnce: async (text, signal) => {
      const ask = (): void => void stderr.write(`${SECOND_SCREEN}${visibleLines(text)}\n`)
      try {
        return (await lines.next({ isHidden: true, signal, ask })) !== undefined
      } finally {
        stderr.write(FIRST_SCREEN)
      }
    },
    canAsk: isTerminal,
    ask: async (question, signal) => {
      const line = await lines.next({ isHidden: false, signal, ask: () => void stderr.write(visibleLines(question)) })
      if (line === undefined) stderr.write('\n')
      return line?.trim() ?? ''
    },
  }
}
