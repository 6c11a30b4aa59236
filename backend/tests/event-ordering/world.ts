// Where devices are put under chance: the nodes of one server, the bus between them, and the database below.

import pg from 'pg'
import { createFaultBus, type FaultBus } from '../support/fault-bus.ts'
import { startTestServer, type TestServer, testRedisUrl } from '../support/server.ts'

export interface World {
  /** Two on PostgreSQL and Redis; one on the embedded database, which hears its own announcements. */
  readonly nodes: readonly TestServer[]
  readonly bus: FaultBus
  /** PostgreSQL only: ends every connection of the nodes to the database. */
  readonly killConnections: (() => Promise<void>) | undefined
  close(): Promise<void>
}

/** Small, so that readers fall behind and keys change all the time. */
const FLAGS = { VALISE_SEND_BUFFER_BYTES: '16384', VALISE_SESSION_ROTATE_AFTER_EVENTS: '150' }

export async function startWorld(database: 'postgres' | 'pglite'): Promise<World> {
  const bus = createFaultBus({ isEchoing: true })
  const common = { database, bus: bus.wrap, flags: FLAGS }
  if (database === 'pglite') {
    const node = await startTestServer(common)
    return { nodes: [node], bus, killConnections: undefined, close: node.close }
  }
  const redisUrl = testRedisUrl()
  const first = await startTestServer({ ...common, redisUrl })
  const { databaseUrl = '', identityFile } = first
  const second = await startTestServer({ ...common, redisUrl, databaseUrl, identityFile })
  return {
    nodes: [first, second],
    bus,
    killConnections: () => killConnections(databaseUrl),
    close: async () => {
      await second.close()
      await first.close()
    },
  }
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
