// Runs one server process and ends it as soon as its own standard input closes, so that a server never outlives
// whoever asked for it, not even one ended by SIGKILL. Removes the server's folder at the end.
// Called by provision.mjs with one JSON argument: command, args, env, folder, stopSignal, and uid and gid when root.
import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'

const { command, args, env, folder, stopSignal, ...identity } = JSON.parse(process.argv[2] ?? '{}')

const server = spawn(command, args, { cwd: folder, env, stdio: ['ignore', 'inherit', 'inherit'], ...identity })

function stop() {
  server.kill(stopSignal)
}

function finish(exitCode) {
  rmSync(folder, { recursive: true, force: true })
  process.exit(exitCode)
}

process.stdin.on('end', stop).on('error', stop).resume()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop)
process.stdout.on('error', stop)
process.stderr.on('error', stop)
server.on('error', (error) => {
  console.error(error.message)
  finish(127)
})
server.on('exit', (code) => finish(code ?? 1))
