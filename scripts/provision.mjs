// The rungs of the ladder by which a test server is had: a program on this machine, a Debian package, a container.
// Whatever is started here is gone when the process that asked ends.
import { spawn } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, statSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { capture, foldersOnPathWith } from './command.mjs'

const supervisor = fileURLToPath(new URL('./supervise.mjs', import.meta.url))
const startDeadlineMs = 30_000
const containerDeadlineMs = 120_000
const keptOutputLength = 4_000

export const isRoot = process.getuid?.() === 0

/** A new private folder, owned by `identity` when one is given (root asks on behalf of another user). */
export function makeFolder(name, identity) {
  const parent = identity && !isOpenToAll(tmpdir()) ? '/tmp' : tmpdir()
  const folder = mkdtempSync(join(parent, `valise-${name}-`))
  if (identity) chownSync(folder, identity.uid, identity.gid)
  return folder
}

/** Another user gets to a folder in it. */
function isOpenToAll(folder) {
  const isOpen = (statSync(folder).mode & 0o001) !== 0
  return isOpen && (dirname(folder) === folder || isOpenToAll(dirname(folder)))
}

/** A port of the loopback address that was free a moment ago. */
export function findFreePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

/** Sends `request` to a TCP port and says whether the first bytes of the answer satisfy `accepts`. Never rejects. */
export function answers({ host = '127.0.0.1', port, request, accepts }) {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const settle = (isAccepted) => {
      socket.destroy()
      resolve(isAccepted)
    }
    socket.setTimeout(2_000, () => settle(false))
    socket.on('error', () => settle(false))
    socket.on('close', () => settle(false))
    socket.on('connect', () => socket.write(request))
    socket.on('data', (answer) => settle(accepts(answer)))
  })
}

/** Starts a server under the supervisor, and waits until `isReady` says yes. Rejects with what the server printed. */
export async function startSupervised({ isReady, ...task }) {
  const child = spawn(process.execPath, [supervisor, JSON.stringify(task)], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true, // its own process group: Ctrl-C reaches the tests first, and the server after them
  })
  let output = ''
  const keep = (text) => {
    output = (output + text).slice(-keptOutputLength)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const ended = new Promise((resolve) => child.on('exit', resolve))
  const close = async () => {
    child.stdin.end()
    await ended
  }
  try {
    await waitUntil(isReady, { deadlineMs: startDeadlineMs, hasFailed: () => child.exitCode !== null })
  } catch {
    await close()
    throw new Error(`${task.command} did not start:\n${output.trim()}`)
  }
  return { close }
}

async function waitUntil(isReady, { deadlineMs, hasFailed }) {
  const deadline = Date.now() + deadlineMs
  while (!(await isReady())) {
    if (hasFailed() || Date.now() > deadline) throw new Error('not ready')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Undefined when the package is installed now, otherwise why it is not. */
export function installDebianPackage(name) {
  if (!existsSync('/etc/debian_version') || foldersOnPathWith('apt-get').length === 0) return 'not a Debian system'
  if (!isRoot) return 'needs root'
  console.log(`Installing ${name} with apt-get.`)
  // RUNLEVEL=1 asks the package's own scripts not to start a service of theirs.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
  capture('apt-get', ['update', '-qq'], { env })
  const { exitCode, output } = capture('apt-get', ['install', '-y', '-qq', '--no-install-recommends', name], { env })
  return exitCode === 0 ? undefined : `apt-get install ${name} failed: ${lastLine(output)}`
}

/** Runs a container with one port open on the loopback address, or says why not: { port, close } or { reason }. */
export async function startContainer({ image, containerPort, env = {}, isReady }) {
  if (foldersOnPathWith('docker').length === 0) return { reason: 'docker is not on PATH' }
  if (capture('docker', ['info'], { timeout: 10_000 }).exitCode !== 0) return { reason: 'no Docker daemon answers' }
  console.log(`Starting a container of ${image}.`)
  const port = await findFreePort()
  const variables = Object.entries(env).flatMap(([name, value]) => ['-e', `${name}=${value}`])
  const name = `valise-test-${process.pid}-${port}`
  const run = capture('docker', [
    'run',
    '-d',
    '--rm',
    '--name',
    name,
    '-p',
    `127.0.0.1:${port}:${containerPort}`,
    ...variables,
    image,
  ])
  const close = async () => {
    capture('docker', ['rm', '-f', name])
  }
  if (run.exitCode !== 0) {
    await close()
    return { reason: `docker run ${image} failed: ${lastLine(run.output)}` }
  }
  try {
    await waitUntil(() => isReady(port), { deadlineMs: containerDeadlineMs, hasFailed: () => false })
  } catch {
    await close()
    return { reason: `the container of ${image} did not become ready` }
  }
  return { port, close }
}

function lastLine(text) {
  return text.trim().split('\n').at(-1) ?? ''
}
