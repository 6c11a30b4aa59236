// Brings a clone to the state the sources ask for: packages as locked, TypeScript built. Says one line for each step
// it had to take, and nothing when there was nothing to do.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { capture, programs, root } from './command.mjs'

/** Installs and builds. Throws with the output of the step that failed. */
export function prepare() {
  install()
  const { exitCode, output } = build()
  if (exitCode !== 0) throw new Error(`The build failed.\n${output}`)
}

/** Installs the locked packages unless they are there. */
export function install() {
  if (isInstalled()) return
  console.log('Installing packages (npm ci).')
  // No package of ours needs its install script; without them nothing foreign runs at install time.
  const args = [
    'ci',
    '--ignore-scripts',
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ]
  const npm = process.env['npm_execpath']
  const { exitCode, output } = npm ? capture(process.execPath, [npm, ...args]) : capture('npm', args)
  if (exitCode !== 0) throw new Error(`npm ci failed.\n${output}`)
}

/** Builds what changed since the last build: { exitCode, output }. */
export function build() {
  if (!existsSync(join(root, 'cli/dist'))) console.log('Building (tsc).')
  return capture(process.execPath, [programs.tsc, '-b'])
}

/** npm notes in node_modules what it put there; compared by content, since a checkout renews the lock file's time. */
function isInstalled() {
  const noteFile = join(root, 'node_modules/.package-lock.json')
  if (!existsSync(noteFile)) return false
  const installed = readPackages(noteFile)
  const locked = Object.entries(readPackages(join(root, 'package-lock.json')))
  return locked.every(
    ([path, { version, link, optional }]) =>
      !path.startsWith('node_modules/') ||
      optional ||
      (link ? path in installed : installed[path]?.version === version),
  )
}

function readPackages(file) {
  return JSON.parse(readFileSync(file, 'utf8')).packages
}
