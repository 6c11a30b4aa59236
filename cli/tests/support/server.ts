// A server as a process of its own, on its embedded database: can be stopped, killed, and started again where it was.
import { join } from 'node:path'
import { provideEmptyCluster } from '../../../backend/tests/support/empty-cluster.ts'
import { type Running, startValise } from './valise.ts'

export interface TestServer {
  readonly url: string
  readonly fingerprint: string
  readonly adminUrl: string
  /** By Ctrl-C; resolves when it has ended, with its exit code. */
  stop(): Promise<number | null>
  /** By SIGKILL. */
  kill(): Promise<void>
  /** On the same port and folder as before. */
  startAgain(): Promise<void>
}

export interface ServerOptions {
  /** Variables of the configuration. */
  readonly environment?: Readonly<Record<string, string>>
  /** It makes its database itself, as on a new user's machine. */
  readonly isNew?: boolean
}

/** One address stands for all users, and the disk is as full as it is. */
const ONE_MACHINE = {
  VALISE_LOG_LEVEL: 'silent',
  VALISE_REGISTRATIONS_PER_HOUR: '0',
  VALISE_NODE_REGISTRATIONS_PER_MIN: '0',
  VALISE_STORAGE_LOW_BYTES: '0',
  VALISE_STORAGE_CRITICAL_BYTES: '0',
}

export async function startServer(
  folder: string,
  { environment = {}, isNew = false }: ServerOptions = {},
): Promise<TestServer> {
  const isEmbedded = environment['DATABASE_URL'] === undefined
  if (isEmbedded && !isNew) await provideEmptyCluster(join(folder, 'server'))
  let port = '0'
  let process: Running
  let greeting: Record<string, unknown> = {}

  const start = async (): Promise<void> => {
    const args = ['serve', '--json', '--port', port, '--admin-port', '0', '--data', join(folder, 'server')]
    process = startValise(args, { environment: { ...ONE_MACHINE, ...environment } })
    await process.until('the server to listen', ({ stdout }) => stdout.includes('\n'))
    greeting = JSON.parse(process.stdout.toString().split('\n')[0]!)
    port = new URL(String(greeting['url'])).port
  }
  await start()
  return {
    url: String(greeting['url']),
    fingerprint: String(greeting['fingerprint']),
    adminUrl: String(greeting['admin_url']),
    stop: async () => {
      process.interrupt()
      return (await process.ended()).exitCode
    },
    kill: async () => {
      process.signal('SIGKILL')
      await process.ended()
    },
    startAgain: start,
  }
}
