// `npm test [-- filters and vitest flags]`, from the root or a workspace folder: installs, builds, provides PostgreSQL
// and Redis, runs the tests. The last line is `N passed, N failed`; the exit code is 0 only when nothing failed.
// From a workspace folder only its own tests run. A filter is a part of a test file's path.
import { existsSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { programs, root, runAttached } from './command.mjs'
import { endWithNpm } from './parent.mjs'
import { build, install } from './prepare.mjs'
import { openRunFolder } from './run-folder.mjs'
import { provideServices } from './services.mjs'

const workspaces = ['protocol', 'backend', 'client', 'cli']
const killAfterMs = 5_000

process.exitCode = await main(process.argv.slice(2))

async function main(args) {
  const interruption = watchForSignals()
  endWithNpm()
  let count
  try {
    count = await runAll(args, interruption)
  } catch (error) {
    console.error(error.message)
    count = { passed: 0, failed: 1 }
  }
  if (interruption.signal) count = { passed: count.passed, failed: Math.max(1, count.failed) }
  console.log(`${count.passed} passed, ${count.failed} failed`)
  return count.failed > 0 ? 1 : 0
}

async function runAll(args, interruption) {
  install()
  // A build that fails is one failure more, not the end: the tests run from source and may show the cause.
  const built = build()
  if (built.exitCode !== 0) console.error(built.output)
  const workspace = workspaces.find((name) => relative(join(root, name), process.cwd()).split('/')[0] !== '..')
  const run = openRunFolder()
  try {
    const count = await runWithServices(vitestArguments(args, workspace), run.folder, interruption)
    return built.exitCode === 0 ? count : { passed: count.passed, failed: count.failed + 1 }
  } finally {
    run.close()
  }
}

async function runWithServices(args, folder, interruption) {
  const services = await provideServices()
  try {
    return await runVitest(args, { ...services.env, VALISE_TEST_FOLDER: folder }, interruption)
  } finally {
    await services.close()
  }
}

function vitestArguments(args, workspace) {
  // A path that exists from where the command was typed means that file; all else vitest takes as it stands.
  const filters = args.map((arg) => (existsSync(arg) ? relative(root, resolve(arg)) : arg))
  return workspace ? ['--dir', join(root, workspace), ...filters] : filters
}

async function runVitest(args, env, interruption) {
  if (interruption.signal) return { passed: 0, failed: 1 }
  const resultFile = join(env.VALISE_TEST_FOLDER, 'results.json')
  const flags = ['run', '--root', root, '--reporter=default', '--reporter=json', `--outputFile.json=${resultFile}`]
  const { child, ended } = runAttached(process.execPath, [programs.vitest, ...flags, ...args], {
    env: { ...process.env, ...env },
  })
  interruption.onSignal = () => {
    child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGKILL'), killAfterMs).unref()
  }
  const exitCode = await ended
  return countResults(resultFile, exitCode)
}

/** A file that could not load, or whose hooks failed, counts as one failure although none of its tests did. */
function countResults(resultFile, exitCode) {
  if (!existsSync(resultFile)) return { passed: 0, failed: 1 }
  const { testResults } = JSON.parse(readFileSync(resultFile, 'utf8'))
  let passed = 0
  let failed = 0
  for (const file of testResults) {
    const failedHere = file.assertionResults.filter((test) => test.status === 'failed').length
    passed += file.assertionResults.filter((test) => test.status === 'passed').length
    failed += file.status === 'failed' ? Math.max(1, failedHere) : failedHere
  }
  return { passed, failed: exitCode === 0 ? failed : Math.max(1, failed) }
}

/** Signals end the tests first; the servers follow by the ordinary way out. */
function watchForSignals() {
  const interruption = { signal: undefined, onSignal: () => {} }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      interruption.signal = signal
      interruption.onSignal()
    })
  }
  return interruption
}
