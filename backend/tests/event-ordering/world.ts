// Where devices are put under chance: the nodes of one server, the bus between them, and the database below.

import pg from 'pg'
import { createFaultBus, type FaultBus, passAll, randomPlan } from '../support/fault-bus.ts'
import type { SeededRandom } from '../support/seeded-random.ts'
import { startTestServer, type TestServer, testRedisUrl } from '../support/server.ts'

export interface World {
  /** Two on PostgreSQL and Redis; one on the embedded database, which hears its own announcements. */
  readonly nodes: readonly TestServer[]
  breakBus(random: SeededRandom): void
  mendBus(): void
  /** Hands on the announcements that are held back, the newest first. */
  releaseBus(): void
  /** PostgreSQL only: ends every connection of the nodes to the database. */
  readonly killConnections: (() => Promise<void>) | undefined
  close(): Promise<void>
}

/** Small, so that readers fall behind and keys change all the time. */
export const HARSH_FLAGS = { VALISE_SEND_BUFFER_BYTES: '16384', VALISE_SESSION_ROTATE_AFTER_EVENTS: '200' }

const createWorld = (
  nodes: readonly TestServer[],
  bus: FaultBus,
  others: Pick<World, 'killConnections' | 'close'>,
): World => ({
  nodes,
  breakBus: (random) => bus.setPlan(randomPlan(random), { isEchoing: true }),
  mendBus: () => bus.setPlan(passAll),
  releaseBus: bus.release,
  ...others,
})

/** The server there is, alone. It stays its owner's to close. */
export const worldOfOne = (server: TestServer, bus: FaultBus): World =>
  createWorld([server], bus, { killConnections: undefined, close: async () => {} })

/** Two further nodes on the database of a server, whose heads are compared with the log as they are in production. */
export async function startWorldOfTwo({ databaseUrl = '', identityFile }: TestServer): Promise<World> {
  const bus = createFaultBus()
  const redisUrl = testRedisUrl()
  const node = { database: 'postgres' as const, databaseUrl, identityFile, redisUrl, bus: bus.wrap, flags: HARSH_FLAGS }
  const first = await startTestServer(node)
  const second = await startTestServer(node)
  return createWorld([first, second], bus, {
    killConnections: () => killConnections(databaseUrl),
    close: async () => {
      await second.close()
      await first.close()
    },
  })
}

async function killConnections(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`,
    )
  } finally {
    await client.end()
  }
}

/** Turns of the event loop, in which sockets, bus and database get on. */
export async function letPass(turns: number): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
}
