// `npm start [-- flags of valise serve]`: packages and build up to date, then the server, in this very process: signals
// and the exit code are the server's own, and nothing is left behind when this process is killed.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './command.mjs'
import { endWithNpm } from './parent.mjs'
import { prepare } from './prepare.mjs'

const program = join(root, 'cli/bin/valise.js')

try {
  endWithNpm()
  prepare()
  process.argv = [process.execPath, program, 'serve', ...process.argv.slice(2)]
  await import(pathToFileURL(program).href)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
