// Prometheus and its tool for tests: the programs on this machine, or Debian's package. A server started here listens on
// the loopback address only and is gone when the process that asked ends.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { capture, foldersOnPathWith } from './command.mjs'
import { answers, findFreePort, installDebianPackage, makeFolder, startSupervised } from './provision.mjs'

const timeoutMs = 180_000

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

/** Scrapes what `config` (the text of a prometheus.yml) names, from its start on. Resolves to { url, close }. */
export async function startPrometheus(config) {
  const programs = findPrograms()
  const folder = makeFolder('prometheus')
  const configFile = join(folder, 'prometheus.yml')
  writeFileSync(configFile, config)
  const port = await findFreePort()
  const options = {
    'config.file': configFile,
    'storage.tsdb.path': join(folder, 'data'),
    'web.listen-address': `127.0.0.1:${port}`,
    'log.level': 'warn',
  }
  const server = await startSupervised({
    command: join(programs, 'prometheus'),
    args: Object.entries(options).map(([name, value]) => `--${name}=${value}`),
    env: { PATH: process.env['PATH'], HOME: folder, TZ: 'UTC' },
    folder,
    stopSignal: 'SIGKILL', // nothing to save
    isReady: () =>
      answers({
        port,
        request: 'GET /-/ready HTTP/1.0\r\n\r\n',
        accepts: (answer) => / 200 /.test(String(answer).split('\r\n', 1)[0]),
      }),
  })
  return { url: `http://127.0.0.1:${port}`, close: server.close }
}
