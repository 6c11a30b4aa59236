// A server inside the test's own process, on free ports, with a folder that goes away with it. It can stop and start
// again on the same port and database, as a node that is deployed anew.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type App, startApp } from '../../src/app.ts'
import type { Bus } from '../../src/bus/bus.ts'
import { parseConfig, type RawConfig } from '../../src/config.ts'
import type { Log } from '../../src/telemetry/log.ts'
import { createTestDatabase } from './database.ts'
import { provideEmptyCluster } from './empty-cluster.ts'

export interface TestServerOptions {
  readonly database: 'postgres' | 'pglite'
  /** An existing PostgreSQL database, which stays; without it one is made and dropped. */
  readonly databaseUrl?: string
  readonly redisUrl?: string
  /** Nodes of one server share it; without it the server makes its own. */
  readonly identityFile?: string
  /** Any other variable of the configuration. */
  readonly flags?: RawConfig
  /** Wraps the bus that the configuration makes, at each start. */
  readonly bus?: (built: Bus) => Bus
  readonly now?: () => number
  readonly log?: Log
}

export interface TestServer {
  /** The running app; after `restart()` the new one. */
  readonly app: App
  /** `ws://…`, the same after a restart. */
  readonly url: string
  readonly fingerprint: Uint8Array
  /** What a second node of this server is started with. */
  readonly databaseUrl: string | undefined
  readonly identityFile: string
  stop(): Promise<void>
  start(): Promise<void>
  restart(): Promise<void>
  /** Stops, and removes folder and database. May be called twice. */
  close(): Promise<void>
}

/** The Redis that `npm test` provides. */
export function testRedisUrl(): string {
  const url = process.env['VALISE_TEST_REDIS_URL']
  if (!url) throw new Error('VALISE_TEST_REDIS_URL is not set: run the tests with `npm test`, which provides Redis')
  return url
}

export async function startTestServer(options: TestServerOptions): Promise<TestServer> {
  const dataDir = await mkdtemp(join(tmpdir(), 'valise-server-'))
  const identityFile = options.identityFile ?? join(dataDir, 'identity.key')
  const ownDatabase =
    options.database === 'postgres' && options.databaseUrl === undefined ? await createTestDatabase() : undefined
  const databaseUrl = options.databaseUrl ?? ownDatabase?.url
  if (databaseUrl === undefined) await provideEmptyCluster(dataDir)
  let port = '0'
  let app: App | undefined

  const start = async (): Promise<App> => {
    const flags: RawConfig = {
      VALISE_LOG_LEVEL: 'silent',
      VALISE_HEAD_POLL_MS: '100',
      VALISE_DRAIN_MS: '0',
      // Tests are faster than people; those of the limits set their own.
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
      VALISE_MAILBOX_REQUESTS_PER_MIN: '0',
      ...options.flags,
      PORT: port,
      ADMIN_PORT: '0',
      VALISE_DATA_DIR: dataDir,
      VALISE_IDENTITY_FILE: identityFile,
      ...(databaseUrl === undefined ? {} : { DATABASE_URL: databaseUrl }),
      ...(options.redisUrl === undefined ? {} : { REDIS_URL: options.redisUrl }),
    }
    const { bus, now, log } = options
    const started = await startApp(parseConfig(flags, {}), {
      ...(bus === undefined ? {} : { bus }),
      ...(now === undefined ? {} : { now }),
      ...(log === undefined ? {} : { log }),
    })
    port = new URL(started.publicUrl).port
    return started
  }

  const running = (): App => {
    if (app === undefined) throw new Error('the test server is stopped')
    return app
  }

  const stop = async (): Promise<void> => {
    const stopping = app
    app = undefined
    await stopping?.close()
  }

  const close = async (): Promise<void> => {
    await stop()
    await ownDatabase?.drop()
    await rm(dataDir, { recursive: true, force: true })
  }

  try {
    app = await start()
  } catch (error) {
    await close()
    throw error
  }
  const { publicUrl: url, fingerprint } = app
  return {
    get app() {
      return running()
    },
    url,
    fingerprint,
    databaseUrl,
    identityFile,
    stop,
    start: async () => {
      app ??= await start()
    },
    restart: async () => {
      await stop()
      app = await start()
    },
    close,
  }
}
