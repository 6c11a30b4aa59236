// The command line inside the test's own process: many misuses in the time that one process takes to start. Exit codes
// and signals of the system, and what a process prints without being asked, are seen in real ones only (valise.ts).
import { PassThrough, Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { runProgram } from '../../src/program.ts'
import type { Ended } from './valise.ts'

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

/** Runs to the end, with an empty standard input. */
export async function runInProcess(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<Ended> {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const printed = Promise.all([buffer(stdout), text(stderr)])
  const listeners = SIGNALS.map((signal) => process.listeners(signal))
  const exitCode = await runProgram(args, { stdin: Readable.from([]), stdout, stderr, environment })
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
