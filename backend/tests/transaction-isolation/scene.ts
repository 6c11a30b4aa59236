// Two transactions stepped by hand on a real PostgreSQL, and the same database with a lock or a constraint taken away.
// Nothing sleeps: a step is over when its statement answers or the server says that it waits for a lock.

import pg from 'pg'
import type { Database, Queryable, Statement } from '../../src/db/postgres.ts'
import { PARSERS } from '../../src/db/values.ts'
import { type OpenedDatabase, openDatabase, waitFor } from '../support/open-database.ts'

/** One connection, with the settings of the server rather than the product's. */
export interface Stepped extends Queryable {
  readonly pid: number
  run<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>
  close(): Promise<void>
}

export interface Scene {
  readonly db: Database
  readonly opened: OpenedDatabase
  readonly left: Stepped
  readonly right: Stepped
  /** On a third connection, outside both transactions. */
  run<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>
  /** Resolves when the connection waits for a lock, or when its work has settled. */
  reach(connection: Stepped, work: Promise<unknown>): Promise<'waits' | 'done'>
  close(): Promise<void>
}

export async function openStepped(url: string): Promise<Stepped> {
  const client = new pg.Client({
    connectionString: url,
    types: { getTypeParser: (oid: number) => PARSERS[oid] ?? String },
  })
  // A connection that the server ends is what some tests are about.
  client.on('error', () => undefined)
  await client.connect()
  const run = async <Row extends object>(text: string, values: readonly unknown[] = []): Promise<Row[]> =>
    (await client.query<Row>(text, [...values])).rows
  const [backend] = await run<{ pid: number }>('select pg_backend_pid() as pid')
  return {
    pid: backend!.pid,
    run,
    query: <Row extends object>({ text }: Statement, values: readonly unknown[]) => run<Row>(text, values),
    close: () => client.end(),
  }
}

/** A database of its own, with each change of the schema made. */
export async function openScene(changes: readonly SchemaChange[] = []): Promise<Scene> {
  const opened = await openDatabase('postgres')
  const [left, right, third] = await Promise.all([1, 2, 3].map(() => openStepped(opened.url)))
  for (const change of changes) await change(third!)
  const blockersOf = async (pid: number): Promise<number> => {
    const [row] = await third!.run<{ count: number }>('select cardinality(pg_blocking_pids($1)) as count', [pid])
    return row!.count
  }
  return {
    db: opened.db,
    opened,
    left: left!,
    right: right!,
    run: third!.run,
    reach: async (connection, work) => {
      let isDone = false
      const settle = (): void => {
        isDone = true
      }
      work.then(settle, settle)
      const read = async () => (isDone ? 'done' : (await blockersOf(connection.pid)) > 0 ? 'waits' : 'runs')
      const reached = await waitFor('the statement to wait or to answer', read, (state) => state !== 'runs')
      return reached === 'waits' ? 'waits' : 'done'
    },
    close: async () => {
      await Promise.all([left!.close(), right!.close(), third!.close()])
      await opened.close()
    },
  }
}

export async function inScene<T>(changes: readonly SchemaChange[], act: (scene: Scene) => Promise<T>): Promise<T> {
  const scene = await openScene(changes)
  try {
    return await act(scene)
  } finally {
    await scene.close()
  }
}

export type SchemaChange = (connection: Stepped) => Promise<unknown>

export const withoutConstraint =
  (table: string, constraint: string): SchemaChange =>
  (connection) =>
    connection.run(`alter table ${table} drop constraint ${constraint} cascade`)

export const statement =
  (text: string): SchemaChange =>
  (connection) =>
    connection.run(text)

/** Makes a function anew with one place of its text replaced. */
export const withFunction =
  (name: string) =>
  (from: string, to: string): SchemaChange =>
  async (connection) => {
    const [row] = await connection.run<{ text: string }>(`select pg_get_functiondef('${name}'::regproc) as text`)
    await connection.run(replaceOnce(row!.text, from, to))
  }

/** The connection, but one statement of the product has one place of its text replaced. */
export function rewriting(connection: Queryable, name: string, from: string, to: string): Queryable {
  return {
    query: (asked, values) =>
      connection.query(asked.name === name ? { name: '', text: replaceOnce(asked.text, from, to) } : asked, values),
  }
}

function replaceOnce(text: string, from: string, to: string): string {
  if (text.split(from).length !== 2) throw new Error(`"${from}" does not stand there once`)
  return text.replace(from, () => to)
}

/** The connection, but each run of the named statement is left to `instead`. */
export function replacing(
  connection: Queryable,
  name: string,
  instead: (asked: Statement, values: readonly unknown[]) => Promise<object[]>,
): Queryable {
  return {
    query: async <Row extends object>(asked: Statement, values: readonly unknown[]) =>
      asked.name === name ? ((await instead(asked, values)) as Row[]) : connection.query<Row>(asked, values),
  }
}

/** A connection as the product gets it in a test: as it is, or with one of its statements changed. */
export type Wrap = (tx: Queryable) => Queryable
export const asItIs: Wrap = (tx) => tx

/** For queries that open their transaction themselves: the one that the test steps. */
export const inTransactionOf = (tx: Queryable): Pick<Database, 'transaction'> => ({
  transaction: (_options, work) => work(tx),
})

export const countEvents = async (scene: Scene, userId: Uint8Array): Promise<number> =>
  (await scene.run('select 1 from events where user_id = $1', [userId])).length

export interface Refused {
  readonly refused: string
  readonly constraint?: string
}

export interface Interleaving<First, Second> {
  readonly first: (left: Stepped) => Promise<First>
  readonly second: (right: Stepped) => Promise<Second>
  /** How the first ends; default: commit. */
  readonly end?: 'commit' | 'rollback'
  /** Of the second; default: read committed. */
  readonly level?: string
  /** Called when the second has committed and the first has not, or after the first alone. */
  readonly between?: () => Promise<void>
}

export interface Interleaved<First, Second> {
  readonly first: First
  /** Its answer, or the SQLSTATE (and constraint) with which PostgreSQL refused it. */
  readonly second: Second | Refused
  /** What the second did while the first was open. */
  readonly met: 'waits' | 'done'
}

/**
 * The first runs and stays open; the second runs until it waits or is through. Through, it commits before the first;
 * waiting, after it.
 */
export async function interleave<First, Second>(
  scene: Scene,
  { first, second, end = 'commit', level = 'read committed', between }: Interleaving<First, Second>,
): Promise<Interleaved<First, Second>> {
  const { left, right } = scene
  await left.run('begin isolation level read committed')
  await right.run(`begin isolation level ${level}`)
  const ofFirst = await first(left)
  const answering = second(right).catch(toRefused)
  const met = await scene.reach(right, answering)
  if (met === 'done') {
    await answering
    await right.run('commit')
    await between?.()
    await left.run(end)
  } else {
    await left.run(end)
    await between?.()
    await answering
    await right.run('commit')
  }
  return { first: ofFirst, second: await answering, met }
}

export function toRefused(error: unknown): Refused {
  if (!(error instanceof pg.DatabaseError) || error.code === undefined) throw error
  return { refused: error.code, ...(error.constraint === undefined ? {} : { constraint: error.constraint }) }
}
