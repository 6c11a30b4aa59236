// The one door to a transaction: READ COMMITTED, rolled back on any error, run again only after a deadlock or a
// serialization failure, at most three times. What runs inside touches the database alone, so a second run is safe.

import type { Queryable, TransactionOptions } from './database.ts'
import { isRetryable } from './sql-state.ts'
import type { Statement } from './statement.ts'

const MAX_ATTEMPTS = 3

export const begin: Statement = { name: '', text: 'begin isolation level read committed' }
const commit: Statement = { name: '', text: 'commit' }
const rollback: Statement = { name: '', text: 'rollback' }
const setTimeoutOfTransaction: Statement = {
  name: 'set_transaction_timeout',
  text: `select set_config('statement_timeout', $1, true)`,
}

/** Lends one connection to `use`, and to nobody else until it settles. */
export type LendConnection = <T>(use: (connection: Queryable) => Promise<T>) => Promise<T>

export async function runTransaction<T>(
  lend: LendConnection,
  options: TransactionOptions,
  work: (tx: Queryable) => Promise<T>,
  onRetry: (error: unknown, attempt: number) => void,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await lend((connection) => attemptTransaction(connection, options, work))
    } catch (error) {
      if (attempt === MAX_ATTEMPTS || !isRetryable(error)) throw error
      onRetry(error, attempt)
    }
  }
}

async function attemptTransaction<T>(
  connection: Queryable,
  { timeoutMs }: TransactionOptions,
  work: (tx: Queryable) => Promise<T>,
): Promise<T> {
  /** After a failed statement PostgreSQL answers COMMIT with a rollback and no error, so a swallowed failure is thrown here. */
  let failure: { readonly error: unknown } | undefined
  const tx: Queryable = {
    query: async <Row extends object>(statement: Statement, values: readonly unknown[]) => {
      try {
        return await connection.query<Row>(statement, values)
      } catch (error) {
        failure ??= { error }
        throw error
      }
    },
  }
  await connection.query(begin, [])
  try {
    if (timeoutMs !== undefined) await connection.query(setTimeoutOfTransaction, [String(timeoutMs)])
    const result = await work(tx)
    if (failure !== undefined) throw failure.error
    await connection.query(commit, [])
    return result
  } catch (error) {
    // A rollback that fails means a lost connection, and the server rolls back by itself.
    await connection.query(rollback, []).catch(() => undefined)
    throw error
  }
}
