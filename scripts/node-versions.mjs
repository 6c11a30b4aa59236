// Runs the built program under every Node.js that it promises to run on, besides the one that runs this:
//   npm run node-versions [-- MAJOR…]      default: 22 24
// For each: a server on a database of its own, a user with one device, an event sent and stored, and a clean stop. The
// binaries come from the npm package `node`.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { capture, root } from './command.mjs'

const program = join(root, 'cli/bin/valise.js')
const majors = process.argv.length > 2 ? process.argv.slice(2) : ['22', '24']
const deadlineMs = 120_000
const quiet = ['--no-save', '--no-audit', '--no-fund', '--silent']

for (const major of majors) {
  const folder = mkdtempSync(join(tmpdir(), 'valise-node-'))
  try {
    const binary = fetchNode(major, folder)
    await runRoundTrip(binary, folder)
    console.log(`Node.js ${version(binary)}: a server starts, stores an event and stops.`)
  } catch (error) {
    console.error(`Node.js ${major}: ${error instanceof Error ? error.message : error}`)
    process.exitCode = 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function fetchNode(major, folder) {
  const { exitCode, output } = capture('npm', ['install', '--prefix', folder, ...quiet, `node@${major}`])
  if (exitCode !== 0) throw new Error(`npm could not install node@${major}: ${output.trim()}`)
  const binary = join(folder, 'node_modules/node/bin/node')
  if (!version(binary).startsWith(`v${major}.`)) throw new Error(`node@${major} is ${version(binary)}`)
  return binary
}

function version(binary) {
  return spawnSync(binary, ['--version'], { encoding: 'utf8' }).stdout.trim()
}

async function runRoundTrip(binary, folder) {
  const home = ['--home', join(folder, 'home')]
  const server = await startServer(binary, join(folder, 'server'))
  let isDone = false
  try {
    run(binary, ['init', '--server', server.url, '--name', 'laptop', '--json', ...home])
    const receipts = run(binary, ['send', 'notes', '--json', ...home], 'hello\n')
    if (!receipts.includes('"user_seq"')) throw new Error(`no receipt came: ${receipts}`)
    run(binary, ['verify', ...home])
    isDone = true
  } finally {
    if (!isDone) await server.stop()
  }
  const exitCode = await server.stop()
  if (exitCode !== 0) throw new Error(`the server ended with ${exitCode}`)
}

function run(binary, args, input = '') {
  const { status, stdout, stderr } = spawnSync(binary, [program, ...args], {
    input,
    encoding: 'utf8',
    timeout: deadlineMs,
  })
  if (status !== 0) throw new Error(`valise ${args[0]} ended with ${status}: ${stderr}`)
  return stdout
}

/** Resolves when it listens. */
function startServer(binary, data) {
  const args = ['serve', '--json', '--port', '0', '--admin-port', '0', '--data', data]
  const env = { ...process.env, VALISE_LOG_LEVEL: 'warn' }
  const child = spawn(binary, [program, ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => child.on('exit', resolve))
  const stop = () => {
    child.kill('SIGINT')
    return ended
  }
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error('the server did not listen in time'))
    }, deadlineMs)
    let printed = ''
    child.stdout.on('data', (chunk) => {
      printed += chunk
      if (!printed.includes('\n')) return
      clearTimeout(timer)
      resolve({ url: JSON.parse(printed.split('\n')[0]).url, stop })
    })
    void ended.then((exitCode) => {
      clearTimeout(timer)
      reject(new Error(`the server ended with ${exitCode} before it listened`))
    })
  })
}
