// The command line inside the test's own process: many misuses in the time that one process takes to start. Exit codes
// and signals of the system, and what a process prints without being asked, are seen in real ones only (valise.ts).
import { PassThrough, Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { runProgram } from '../../src/program.ts'
import type { Ended } from './valise.ts'

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

export interface Person {
  /** What somebody types at the terminal, line by line. */
  readonly types: string
  /** Presses Ctrl-C when this is on the screen. */
  readonly interruptsAt?: string
}

/** Runs to the end, with an empty standard input, or with a person at a terminal. */
export async function runInProcess(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  person?: Person,
  homeFolder?: () => string,
): Promise<Ended> {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const printed = Promise.all([buffer(stdout), text(stderr)])
  const listeners = SIGNALS.map((signal) => process.listeners(signal))
  if (person?.interruptsAt !== undefined) {
    let screen = ''
    stderr.on('data', (chunk: Buffer) => {
      screen += chunk
      if (!screen.includes(person.interruptsAt!)) return
      const added = process.listeners('SIGINT').filter((listener) => !listeners[0]!.includes(listener))
      for (const listener of added) listener('SIGINT')
    })
  }
  const stdin = person === undefined ? Readable.from([]) : Object.assign(new PassThrough(), { isTTY: true })
  if (stdin instanceof PassThrough) stdin.write(person!.types)
  const exitCode = await runProgram(args, {
    stdin,
    stdout,
    stderr,
    environment,
    ...(homeFolder === undefined ? {} : { homeFolder }),
  })
  stdout.end()
  stderr.end()
  // A command listens for them until its process ends.
  for (const [i, signal] of SIGNALS.entries()) {
    for (const listener of process.listeners(signal)) {
      if (!listeners[i]!.includes(listener)) process.off(signal, listener)
    }
  }
  const [out, err] = await printed
  return { exitCode, stdout: out, stderr: err }
}
