// The database as the rest of the server sees it, whichever it is: statements, and the one door to a transaction.

import type { Statement } from './statement.ts'

export interface Queryable {
  query<Row extends object>(statement: Statement, values: readonly unknown[]): Promise<Row[]>
}

export interface TransactionOptions {
  /** For the log. */
  readonly name: string
  /** Of each statement inside; default: the connection's. */
  readonly timeoutMs?: number
}

export interface Database extends Queryable {
  readonly kind: 'postgres' | 'pglite'
  /** READ COMMITTED. `work` may run again after a deadlock: it touches the database alone. */
  transaction<T>(options: TransactionOptions, work: (tx: Queryable) => Promise<T>): Promise<T>
  /** Waits for what is under way. */
  close(): Promise<void>
}
