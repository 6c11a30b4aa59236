// The process of the command line: arguments in, exit code out.

import { runProgram } from './program.ts'

// Homes, exports and their parts are for their owner alone, also where a library makes the file.
process.umask(0o077)
const exitCode = await runProgram(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  environment: process.env,
})
// Everything is closed and written by now. What may still hold the event loop, such as an open standard input or a
// server that was told twice to stop, must not hold the process.
process.exit(exitCode)
