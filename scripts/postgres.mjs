// A PostgreSQL server for tests and benchmarks: the one given, or a private one that lives as long as this process.
// Durable settings stay as in production (fsync, synchronous_commit): the tests are about what a commit promises.
import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { capture, foldersOnPathWith, isExecutable } from './command.mjs'
import {
  answers,
  findFreePort,
  installDebianPackage,
  isRoot,
  makeFolder,
  startContainer,
  startSupervised,
} from './provision.mjs'
import { onSmallDisk } from './small-disk.mjs'
import { moveWalToSmallDisk, smallWalSettings } from './small-wal.mjs'

const oldestVersion = 15
const debianFolder = '/usr/lib/postgresql'
const settings = { fsync: 'on', synchronous_commit: 'on', max_connections: '300', max_wal_size: '4GB' }

/** Resolves to { url, socketUrl, close }, `socketUrl` where there is one; rejects with everything that was tried. */
export async function providePostgres(givenUrl) {
  if (givenUrl) return useGiven(givenUrl)
  const tried = []
  const local = await startFromMachine(tried)
  if (local) return local

  const reason = installDebianPackage('postgresql')
  if (reason) tried.push(`apt-get: ${reason}`)
  const installed = reason ? undefined : await startFromMachine(tried)
  if (installed) return installed

  const container = await startPostgresContainer()
  if (container.url) return container
  tried.push(`Docker: ${container.reason}`)
  throw new Error(
    `no PostgreSQL ${oldestVersion} or newer for the tests. Tried:\n${tried.map((line) => `  ${line}`).join('\n')}\n` +
      'Set VALISE_TEST_DATABASE_URL to a server whose user may create databases, or install PostgreSQL.',
  )
}

/**
 * Always a private server, of this machine's programs: { url, close, smallFolder }, where `smallFolder` is a disk of so
 * many bytes for a tablespace, seen by the server alone. The rest of its data lies on the disk of everybody.
 */
export const providePostgresWithSmallDisk = (bytes) => provideWithSmallDisk({ bytes })

/**
 * As above, but the small disk holds the write-ahead log, in segments of 1 MiB. { url, close, smallFolder, makeRoom }:
 * PostgreSQL ends when it finds no room for its log, and stays away until `makeRoom` removes `ballast` from the disk and
 * starts it again, as an operator would.
 */
export const providePostgresWithSmallWalDisk = (bytes) => provideWithSmallDisk({ bytes, isForWal: true })

async function provideWithSmallDisk(smallDisk) {
  const tried = []
  const started = await startFromMachine(tried, smallDisk)
  if (started) return started
  throw new Error(`no PostgreSQL with a small disk. Tried:\n${tried.map((line) => `  ${line}`).join('\n')}`)
}

async function useGiven(url) {
  const { hostname, port, username } = new URL(url)
  if (hostname && !(await acceptsConnections({ host: hostname, port: Number(port || 5432), user: username }))) {
    throw new Error(`VALISE_TEST_DATABASE_URL is set, but no PostgreSQL answers at ${hostname}:${port || 5432}`)
  }
  return { url, close: async () => {} }
}

async function startFromMachine(tried, smallDisk) {
  const folder = binaryFolders().find((candidate) => versionOf(candidate) >= oldestVersion)
  if (!folder) {
    tried.push(
      `this machine: no initdb and postgres ≥ ${oldestVersion} on PATH, in ${debianFolder}/*/bin or by pg_config`,
    )
    return undefined
  }
  try {
    return await startFrom(folder, smallDisk)
  } catch (error) {
    tried.push(`this machine, ${folder}: ${error.message}`)
    return undefined
  }
}

export function binaryFolders() {
  const packaged = existsSync(debianFolder)
    ? readdirSync(debianFolder).map((version) => join(debianFolder, version, 'bin'))
    : []
  const told = capture('pg_config', ['--bindir']).output.trim()
  const newestFirst = packaged.sort((a, b) => versionOf(b) - versionOf(a))
  return [...foldersOnPathWith('initdb'), ...newestFirst, told].filter(
    (folder) => isExecutable(join(folder, 'initdb')) && isExecutable(join(folder, 'postgres')),
  )
}

export function versionOf(folder) {
  const { output } = capture(join(folder, 'postgres'), ['--version'])
  return Number(/\) (\d+)/.exec(output)?.[1] ?? 0)
}

async function startFrom(binaries, smallDisk) {
  const identity = isRoot ? unprivilegedIdentity() : undefined
  const folder = makeFolder('postgres', identity)
  try {
    return await startIn(folder, { binaries, identity, smallDisk })
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
}

async function startIn(folder, { binaries, identity, smallDisk }) {
  const data = join(folder, 'data')
  const passwordFile = join(folder, 'password')
  const password = randomBytes(12).toString('hex')
  writeFileSync(passwordFile, password)
  const env = { PATH: process.env['PATH'], HOME: folder, LC_ALL: 'C', TZ: 'UTC' }

  // The cluster's first files need no sync: losing them loses nothing. The server's own commits do sync.
  const initFlags = ['-U', 'valise', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`, '-E', 'UTF8', '--no-sync']
  if (smallDisk?.isForWal) initFlags.push('--wal-segsize=1')
  const init = capture(join(binaries, 'initdb'), ['-D', data, ...initFlags], { cwd: folder, env, ...identity })
  if (init.exitCode !== 0) throw new Error(`initdb failed: ${init.output.trim()}`)

  const port = await findFreePort()
  // With the socket's own name the path has at most 103 bytes, or the server does not start.
  const socketFolder = folder.length <= 80 ? folder : ''
  const options = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: socketFolder,
    ...settings,
    ...(smallDisk?.isForWal ? smallWalSettings : {}),
  }
  const program = {
    command: join(binaries, 'postgres'),
    args: ['-D', data, ...Object.entries(options).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
  }
  const smallFolder = smallDisk === undefined ? undefined : makeInside(folder, 'small', identity)
  const wal = smallDisk?.isForWal ? moveWalToSmallDisk({ ...program, data, folder, smallFolder }) : undefined
  const started = wal?.program ?? program
  const server = await startSupervised({
    ...(smallFolder === undefined
      ? { ...started, ...identity }
      : onSmallDisk({ ...started, folder: smallFolder, bytes: smallDisk.bytes, identity })),
    env,
    folder,
    stopSignal: 'SIGQUIT', // at once: the data goes with it
    isReady: () => acceptsConnections({ port, user: 'valise' }),
  })
  const url = `postgres://valise:${password}@127.0.0.1:${port}/postgres`
  const socketUrl = socketFolder && `${url}?host=${encodeURIComponent(socketFolder)}`
  return { url, socketUrl, close: server.close, smallFolder, makeRoom: wal?.makeRoom }
}

function makeInside(folder, name, identity) {
  const made = join(folder, name)
  mkdirSync(made)
  if (identity) chownSync(made, identity.uid, identity.gid)
  return made
}

/** PostgreSQL refuses to run as root. */
export function unprivilegedIdentity() {
  for (const user of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((flag) => capture('id', [flag, user]))
    if (uid?.exitCode === 0 && gid?.exitCode === 0) return { uid: Number(uid.output), gid: Number(gid.output) }
  }
  throw new Error('PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody')
}

async function startPostgresContainer() {
  const password = randomBytes(12).toString('hex')
  const container = await startContainer({
    image: 'postgres:17',
    containerPort: 5432,
    env: { POSTGRES_USER: 'valise', POSTGRES_PASSWORD: password },
    isReady: (port) => acceptsConnections({ port, user: 'valise' }),
  })
  if (container.reason) return container
  return { url: `postgres://valise:${password}@127.0.0.1:${container.port}/postgres`, close: container.close }
}

/** Says hello as a client does: a server that is up asks for authentication (R), one still starting sends an error. */
export function acceptsConnections({ host, port, user }) {
  const body = Buffer.from(`user\0${decodeURIComponent(user || 'postgres')}\0database\0postgres\0\0`)
  const request = Buffer.alloc(8 + body.length)
  request.writeUInt32BE(request.length, 0)
  request.writeUInt32BE(196_608, 4) // protocol 3.0
  body.copy(request, 8)
  return answers({ host, port, request, accepts: (answer) => answer[0] === 'R'.charCodeAt(0) })
}
