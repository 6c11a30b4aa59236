// Starts the server under test and stops it; between, asks it what it has used.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fromBase64Url } from '@valise/protocol'
import type { ServerAddress } from './peer.ts'
import type { ServerQuestion, ServerReport, Usage } from './server.ts'

export interface ServerProcess {
  readonly address: ServerAddress
  readonly adminUrl: string
  /** CPU time and memory so far; memory after a full garbage collection when asked. */
  readUsage(options?: { readonly isCollected: boolean }): Promise<Usage>
  /** Summed over its labels; undefined when there is no sample of that name. */
  readMetric(name: string): Promise<number | undefined>
  /** Transactions that stored events, so far; undefined when the metric has gone. */
  readCommits(): Promise<number | undefined>
  /** Finishes as on SIGTERM, and removes the data folder. */
  close(): Promise<void>
}

/** One machine plays all devices and addresses, as fast as it can. */
const WITHOUT_LIMITS = {
  VALISE_DEVICE_EVENTS_PER_S: '0',
  VALISE_USER_EVENTS_PER_S: '0',
  VALISE_DEVICE_BYTES_PER_S: '0',
  VALISE_USER_BYTES_PER_S: '0',
  VALISE_DEVICE_APPENDS_PER_MIN: '0',
  VALISE_USER_APPENDS_PER_MIN: '0',
  VALISE_REGISTRATIONS_PER_HOUR: '0',
  VALISE_NODE_REGISTRATIONS_PER_MIN: '0',
  VALISE_STORAGE_LOW_BYTES: '0',
  VALISE_STORAGE_CRITICAL_BYTES: '0',
  VALISE_HANDSHAKES_PER_MIN: '0',
  VALISE_MAX_CONNECTIONS_PER_ADDRESS: '0',
  VALISE_MAX_HTTP_CONNECTIONS_PER_ADDRESS: '0',
  VALISE_SESSION_WORK_PERCENT: '0',
  VALISE_USER_WORK_PERCENT: '0',
  VALISE_ADDRESS_WORK_PERCENT: '0',
  VALISE_NODE_WORK_PERCENT: '0',
}

/**
 * Without `databaseUrl` with the embedded database. `profileDir` gets a CPU profile at the end. `environment` has any
 * other variable of the configuration; ports are free ones unless it says so.
 */
export async function startServer(options: {
  readonly databaseUrl: string | undefined
  readonly profileDir?: string | undefined
  readonly environment?: Readonly<Record<string, string>>
  /** As the product has them; else there are none. */
  readonly hasDefaultLimits?: boolean
}): Promise<ServerProcess> {
  const dataDir = mkdtempSync(join(tmpdir(), 'valise-bench-'))
  const outputFile = join(dataDir, 'output')
  const output = openSync(outputFile, 'w')
  const { DATABASE_URL: _database, REDIS_URL: _redis, ...inherited } = process.env
  const child = fork(fileURLToPath(new URL('./server.js', import.meta.url)), {
    env: {
      ...inherited,
      NODE_ENV: 'production',
      ...(options.hasDefaultLimits === true ? {} : WITHOUT_LIMITS),
      VALISE_DATA_DIR: dataDir,
      PORT: '0',
      ADMIN_PORT: '0',
      ...(options.databaseUrl === undefined ? {} : { DATABASE_URL: options.databaseUrl }),
      ...options.environment,
    },
    execArgv: options.profileDir === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${options.profileDir}`],
    stdio: ['ignore', output, output, 'ipc'],
  })
  closeSync(output)
  const ended = once(child, 'exit')

  const nextReport = async (question?: ServerQuestion): Promise<ServerReport> => {
    const answered = new Promise<ServerReport>((resolve) =>
      child.once('message', (message) => resolve(message as ServerReport)),
    )
    if (question !== undefined) child.send(question)
    const report = await Promise.race([answered, ended.then(() => undefined)])
    if (report === undefined) throw new Error(`the server ended:\n${readFileSync(outputFile, 'utf8').slice(-2000)}`)
    return report
  }

  const close = async (): Promise<void> => {
    child.kill('SIGTERM')
    await ended
    rmSync(dataDir, { recursive: true, force: true })
  }

  const started = await nextReport()
  const fingerprint = started.type === 'listening' ? fromBase64Url(started.fingerprint) : undefined
  if (started.type !== 'listening' || fingerprint === undefined) {
    await close()
    throw new Error(started.type === 'failed' ? started.reason : 'the server did not say where it listens')
  }
  const readMetric = async (name: string): Promise<number | undefined> => {
    const metrics = await (await fetch(`${started.adminUrl}/metrics`)).text()
    const samples = [...metrics.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+-]+)$`, 'gm'))]
    return samples.length === 0 ? undefined : samples.reduce((sum, [, value]) => sum + Number(value), 0)
  }
  return {
    address: { url: started.url, fingerprint },
    adminUrl: started.adminUrl,
    readUsage: async ({ isCollected } = { isCollected: false }) => {
      const usage = await nextReport(isCollected ? 'usage_after_collection' : 'usage')
      if (usage.type !== 'usage') throw new Error('the server answered something else')
      return usage
    },
    readMetric,
    readCommits: () => readMetric('valise_batch_events_count'),
    close,
  }
}
