// A PgBouncer in front of a PostgreSQL server, for tests: a program of this machine or Debian's package. It lives as long
// as this process.
import { chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { foldersOnPathWith, isExecutable } from './command.mjs'
import { acceptsConnections, unprivilegedIdentity } from './postgres.mjs'
import { findFreePort, installDebianPackage, isRoot, makeFolder, startSupervised } from './provision.mjs'

/** `poolMode` is session, transaction or statement. Resolves to { urlOf, close }; `urlOf` leads a database's URL through it. */
export async function providePgbouncer(databaseUrl, poolMode) {
  const binaries = findBinaries()
  const { hostname, port: databasePort, username, password } = new URL(databaseUrl)
  const identity = isRoot ? unprivilegedIdentity() : undefined
  const folder = makeFolder('pgbouncer', identity)
  const write = (name, lines) => {
    const path = join(folder, name)
    writeFileSync(path, `${lines.join('\n')}\n`)
    if (identity) chownSync(path, identity.uid, identity.gid)
    return path
  }
  const port = await findFreePort()
  const users = write('users.txt', [`"${username}" "${decodeURIComponent(password)}"`])
  const configuration = write('pgbouncer.ini', [
    '[databases]',
    `* = host=${hostname} port=${databasePort || 5432}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = plain',
    `auth_file = ${users}`,
    `pool_mode = ${poolMode}`,
  ])
  const { close } = await startSupervised({
    command: join(binaries, 'pgbouncer'),
    args: [configuration],
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    folder,
    stopSignal: 'SIGKILL',
    ...identity,
    isReady: () => acceptsConnections({ port, user: username }),
  })
  const urlOf = (url) => {
    const through = new URL(url)
    through.host = `127.0.0.1:${port}`
    through.searchParams.delete('host')
    return through.href
  }
  return { urlOf, close }
}

function findBinaries() {
  const find = () =>
    [...foldersOnPathWith('pgbouncer'), '/usr/sbin'].find((folder) => isExecutable(join(folder, 'pgbouncer')))
  const found = find()
  if (found) return found
  const reason = installDebianPackage('pgbouncer')
  const installed = reason ? undefined : find()
  if (installed) return installed
  throw new Error(`no PgBouncer for the tests: it is not on PATH; apt-get: ${reason}. Install pgbouncer.`)
}
