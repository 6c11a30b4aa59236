// `npm run verify`: everything that can be proved about this repository, one line a step. Stops at the first failure
// and shows what it said. `npm run verify -- --static` leaves the tests out.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { findWrongArrows } from './arrows.mjs'
import { capture, programs, root, runAttached } from './command.mjs'
import { checkDocExamples } from './doc-examples.mjs'
import { findLockFileFaults } from './lock-file.mjs'
import { findLogEventFaults } from './log-events.mjs'
import { build, install } from './prepare.mjs'

/** Each step gives undefined when all is well, otherwise what is wrong. */
const steps = {
  'types of the packages': () => complaintOf(build()),
  'types of tests and benchmarks': () => complaintOf(runProgram(programs.tsc, '-p', 'tsconfig.tests.json')),
  'types of the status page': () => complaintOf(runProgram(programs.tsc, '-p', 'backend/status-page')),
  'lint and format': () => complaintOf(runProgram(programs.biome, 'ci', '--error-on-warnings', '--colors=off')),
  'arrows and cycles': () => listOf(findWrongArrows().map(({ rule, from, to }) => `${rule}: ${from} → ${to}`)),
  'dead code': () => complaintOf(runProgram(programs.knip)),
  'examples in the documents': () => complaintOf(checkDocExamples()),
  'tables of codes': () => complaintOf(runProgram(join(root, 'scripts/code-tables.mjs'), '--check')),
  'events of the log': () => listOf(findLogEventFaults()),
  'no registry is named': () => findRegistryNames(),
  'lock file': () => listOf(findLockFileFaults(readFileSync(join(root, 'package-lock.json'), 'utf8'))),
}

process.exitCode = await main()

async function main() {
  install()
  for (const [name, findFault] of Object.entries(steps)) {
    const startedAt = performance.now()
    const fault = findFault()
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
    console.log(`${fault ? 'failed' : 'ok    '} ${name} (${seconds} s)`)
    if (fault) {
      console.error(fault)
      return 1
    }
  }
  if (process.argv.includes('--static')) return 0
  return runAttached(process.execPath, [join(root, 'scripts/test.mjs')]).ended
}

/** Where packages come from is the affair of whoever installs them. */
function findRegistryNames() {
  const { exitCode, output } = capture('git', [
    'grep',
    '-nIE',
    '--untracked',
    'registry\\.[a-z]+\\.(org|com|net|io|dev)',
  ])
  return exitCode === 0 ? output.trim() : undefined
}

function runProgram(program, ...args) {
  return capture(process.execPath, [program, ...args])
}

function complaintOf({ exitCode, output }) {
  return exitCode === 0 ? undefined : output.trim() || `ended with ${exitCode}`
}

function listOf(faults) {
  return faults.length === 0 ? undefined : faults.join('\n')
}
