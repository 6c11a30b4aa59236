// Prometheus and its tool for tests: the programs on this machine, or Debian's package.
import { join } from 'node:path'
import { capture, foldersOnPathWith } from './command.mjs'
import { installDebianPackage } from './provision.mjs'

const timeoutMs = 60_000

/** The folder of both programs; throws with what was tried. */
function findPrograms() {
  const found = () => foldersOnPathWith('promtool').find((folder) => foldersOnPathWith('prometheus').includes(folder))
  if (found()) return found()
  const reason = installDebianPackage('prometheus')
  const folder = found()
  if (folder) return folder
  throw new Error(
    'no Prometheus for the tests. Tried:\n  this machine: no prometheus and promtool on PATH\n' +
      `  apt-get: ${reason ?? 'installed, but still not on PATH'}\nPut both programs on your PATH.`,
  )
}

/** Runs `promtool` to its end: { exitCode, output }. */
export function runPromtool(args, { input, cwd } = {}) {
  return capture(join(findPrograms(), 'promtool'), args, { timeout: timeoutMs, input, ...(cwd ? { cwd } : {}) })
}
