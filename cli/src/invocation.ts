// What a command is given: where it speaks, whom it asks, which home it works in.

import type { Readable } from 'node:stream'
import type { Command } from 'commander'
import type { Output } from './output.ts'
import type { Prompt } from './prompt.ts'

export interface Invocation {
  readonly output: Output
  readonly prompt: Prompt
  readonly stdin: Readable & { readonly isTTY?: boolean }
  readonly homeDir: string
}

/** Makes a commander action, which is called with the command as `this`, of work that resolves to the exit code. */
export type Run = <Args extends readonly unknown[]>(
  work: (invocation: Invocation, ...args: Args) => Promise<number>,
) => (this: Command, ...args: Args) => Promise<void>

/** Each file in commands/ exports one: it adds the command with its arguments and options. */
export type AddCommand = (program: Command, run: Run) => void
