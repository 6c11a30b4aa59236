// An HAProxy with one address in front of several TCP servers, for tests: it leads new connections to the one chosen.
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { foldersOnPathWith, isExecutable } from './command.mjs'
import { findFreePort, installDebianPackage, makeFolder, startSupervised } from './provision.mjs'

/** `ports` by name; the first leads at the beginning. Resolves to { port, choose, close }. */
export async function provideHaproxy(ports) {
  const binaries = findBinaries()
  const folder = makeFolder('haproxy')
  const port = await findFreePort()
  const socket = join(folder, 'admin')
  const names = Object.keys(ports)
  const configuration = join(folder, 'haproxy.cfg')
  writeFileSync(
    configuration,
    [
      'global',
      `  stats socket ${socket} level admin`,
      'defaults',
      '  mode tcp',
      '  timeout connect 2s',
      '  timeout client 1h',
      '  timeout server 1h',
      'listen database',
      `  bind 127.0.0.1:${port}`,
      ...names.map((name, index) => `  server ${name} 127.0.0.1:${ports[name]}${index === 0 ? '' : ' disabled'}`),
      '',
    ].join('\n'),
  )
  const { close } = await startSupervised({
    command: join(binaries, 'haproxy'),
    args: ['-f', configuration],
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    folder,
    stopSignal: 'SIGKILL',
    isReady: () => tell(socket, 'show info').then(Boolean, () => false),
  })
  /** Connections that stand stay where they are. */
  const choose = async (chosen) => {
    await tell(socket, `enable server database/${chosen}`)
    for (const name of names) if (name !== chosen) await tell(socket, `disable server database/${name}`)
  }
  return { port, choose, close }
}

function tell(socket, command) {
  return new Promise((resolve, reject) => {
    const connection = connect(socket, () => connection.end(`${command}\n`))
    let answer = ''
    connection.setEncoding('utf8')
    connection.on('data', (text) => {
      answer += text
    })
    connection.on('error', reject)
    connection.on('close', () => resolve(answer))
  })
}

function findBinaries() {
  const find = () => [...foldersOnPathWith('haproxy'), '/usr/sbin'].find((path) => isExecutable(join(path, 'haproxy')))
  const found = find()
  if (found) return found
  const reason = installDebianPackage('haproxy')
  const installed = reason ? undefined : find()
  if (installed) return installed
  throw new Error(`no HAProxy for the tests: it is not on PATH; apt-get: ${reason}. Install haproxy.`)
}
