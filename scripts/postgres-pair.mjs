// A PostgreSQL primary and its synchronous standby, for tests of a failover. Both live as long as this process.
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { capture } from './command.mjs'
import { acceptsConnections, binaryFolders, unprivilegedIdentity, versionOf } from './postgres.mjs'
import { findFreePort, isRoot, makeFolder, startSupervised } from './provision.mjs'

const OLDEST_VERSION = 15
const COMMON = ['fsync=on', 'max_connections=100', 'listen_addresses=127.0.0.1', 'unix_socket_directories=']

/**
 * Resolves to { primary, standby, close }, each of the two { port, url, close }, and the standby with `promote`. `url` is of
 * the database `postgres`. What the primary commits is on the standby too, as long as `isSynchronous` is left true.
 */
export async function providePostgresPair({ isSynchronous = true } = {}) {
  const binaries = binaryFolders().find(
    (folder) =>
      versionOf(folder) >= OLDEST_VERSION && capture(join(folder, 'pg_basebackup'), ['--version']).exitCode === 0,
  )
  if (!binaries) throw new Error(`no PostgreSQL ${OLDEST_VERSION} or newer with pg_basebackup on this machine`)
  const identity = isRoot ? unprivilegedIdentity() : undefined
  const password = randomBytes(12).toString('hex')
  const env = { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC', PGPASSWORD: password }
  const run = (program, args, cwd) => {
    const { exitCode, output } = capture(join(binaries, program), args, { cwd, env, ...identity })
    if (exitCode !== 0) throw new Error(`${program} failed: ${output.trim()}`)
  }
  const start = async (folder, data, settings) => {
    const port = await findFreePort()
    const all = [...COMMON, `port=${port}`, ...settings]
    const server = await startSupervised({
      command: join(binaries, 'postgres'),
      args: ['-D', data, ...all.flatMap((setting) => ['-c', setting])],
      env,
      folder,
      stopSignal: 'SIGQUIT',
      ...identity,
      isReady: () => acceptsConnections({ port, user: 'valise' }),
    })
    return { port, url: `postgres://valise:${password}@127.0.0.1:${port}/postgres`, close: server.close }
  }

  const primaryFolder = makeFolder('primary', identity)
  const standbyFolder = makeFolder('standby', identity)
  const started = []
  try {
    const passwordFile = join(primaryFolder, 'password')
    writeFileSync(passwordFile, password)
    const data = join(primaryFolder, 'data')
    const init = [
      '-D',
      data,
      '-U',
      'valise',
      '-A',
      'scram-sha-256',
      `--pwfile=${passwordFile}`,
      '-E',
      'UTF8',
      '--no-sync',
    ]
    run('initdb', init, primaryFolder)
    // A commit waits for the standby once it is there.
    const synchronous = isSynchronous ? ['synchronous_standby_names=*'] : []
    const primary = await start(primaryFolder, data, synchronous)
    started.push(primary)
    const copy = join(standbyFolder, 'data')
    const source = ['-h', '127.0.0.1', '-p', String(primary.port), '-U', 'valise']
    run('pg_basebackup', [...source, '-D', copy, '-R', '--checkpoint=fast', '--no-sync'], standbyFolder)
    const standby = await start(standbyFolder, copy, [])
    started.push(standby)
    const promote = () => run('pg_ctl', ['-D', copy, '-w', 'promote'], standbyFolder)
    return { primary, standby: { ...standby, promote }, close: () => closeAll(started) }
  } catch (error) {
    await closeAll(started)
    for (const folder of [primaryFolder, standbyFolder]) rmSync(folder, { recursive: true, force: true })
    throw error
  }
}

const closeAll = async (started) => {
  for (const { close } of started.splice(0).reverse()) await close()
}
