// A Redis server for tests: the one given, or a private one in memory that lives as long as this process.
import { join } from 'node:path'
import { foldersOnPathWith } from './command.mjs'
import {
  answers,
  findFreePort,
  installDebianPackage,
  makeFolder,
  startContainer,
  startSupervised,
} from './provision.mjs'

/** Resolves to { url, close }; rejects with everything that was tried. */
export async function provideRedis(givenUrl) {
  if (givenUrl) return useGiven(givenUrl)
  const tried = []
  const local = await startFromMachine(tried)
  if (local) return local

  const reason = installDebianPackage('redis-server')
  if (reason) tried.push(`apt-get: ${reason}`)
  const installed = reason ? undefined : await startFromMachine(tried)
  if (installed) return installed

  const container = await startContainer({ image: 'redis:7', containerPort: 6379, isReady: (port) => isUp({ port }) })
  if (!container.reason) return { url: urlOf(container.port), close: container.close }
  tried.push(`Docker: ${container.reason}`)
  throw new Error(
    `no Redis for the tests. Tried:\n${tried.map((line) => `  ${line}`).join('\n')}\n` +
      'Set VALISE_TEST_REDIS_URL to a server, or install redis-server.',
  )
}

async function useGiven(url) {
  const { protocol, hostname, port } = new URL(url)
  // A server behind TLS is left to the tests themselves.
  if (protocol === 'redis:' && !(await isUp({ host: hostname, port: Number(port || 6379) }))) {
    throw new Error(`VALISE_TEST_REDIS_URL is set, but no Redis answers at ${hostname}:${port || 6379}`)
  }
  return { url, close: async () => {} }
}

async function startFromMachine(tried) {
  const [binaries] = foldersOnPathWith('redis-server')
  if (!binaries) {
    tried.push('this machine: no redis-server on PATH')
    return undefined
  }
  try {
    return await startFrom(binaries)
  } catch (error) {
    tried.push(`this machine, ${binaries}: ${error.message}`)
    return undefined
  }
}

async function startFrom(binaries) {
  const port = await findFreePort()
  const folder = makeFolder('redis')
  const server = await startSupervised({
    command: join(binaries, 'redis-server'),
    args: ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no', '--dir', folder],
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    folder,
    stopSignal: 'SIGKILL', // nothing to save
    isReady: () => isUp({ port }),
  })
  return { url: urlOf(port), close: server.close }
}

function urlOf(port) {
  return `redis://127.0.0.1:${port}`
}

/** A server that wants a password first (-NOAUTH) is up too. */
function isUp({ host, port }) {
  return answers({ host, port, request: 'PING\r\n', accepts: (answer) => /^(\+PONG|-NOAUTH)/.test(String(answer)) })
}
