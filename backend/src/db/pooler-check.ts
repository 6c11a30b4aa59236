// Finds a pooler between the node and PostgreSQL that gives each transaction another backend (PgBouncer's transaction
// mode). Settings of a connection and prepared statements would be lost there, so the start is refused.

import type { Queryable } from './database.ts'
import { DatabaseRefusedError } from './startup-checks.ts'
import type { Statement } from './statement.ts'

const readPid: Statement = { name: '', text: 'select pg_backend_pid() as pid' }
const begin: Statement = { name: '', text: 'begin' }
const rollback: Statement = { name: '', text: 'rollback' }

const ROUNDS = 3

const pidOf = async (connection: Queryable): Promise<number | undefined> =>
  (await connection.query<{ pid: number }>(readPid, []))[0]?.pid

const refusal = (cause?: unknown): DatabaseRefusedError =>
  new DatabaseRefusedError(
    'a pooler gives each transaction another backend of PostgreSQL (pool_mode = transaction or statement), ' +
      'so settings and prepared statements of a connection are lost. Set pool_mode = session for this database.',
    { cause },
  )

/** In statement mode PgBouncer refuses a transaction as a fault of the protocol. */
async function beginOn(connection: Queryable): Promise<void> {
  try {
    await connection.query(begin, [])
  } catch (error) {
    throw error instanceof Error && 'code' in error && error.code === '08P01' ? refusal(error) : error
  }
}

/**
 * While `other` holds a backend in a transaction, `one` must still have its own. A pooler in transaction mode gives
 * `other` the backend that `one` used last, and `one` a new one.
 */
export async function refuseSharedBackends(one: Queryable, other: Queryable): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    const pid = await pidOf(one)
    await beginOn(other)
    try {
      const otherPid = await pidOf(other)
      if (otherPid === pid || (await pidOf(one)) !== pid) throw refusal()
    } finally {
      await other.query(rollback, [])
    }
  }
}
