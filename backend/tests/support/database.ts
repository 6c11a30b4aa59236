// A database of its own for each test: made on the server that `npm test` provides, dropped at the end.
import { randomBytes } from 'node:crypto'
import pg from 'pg'

export interface TestDatabase {
  readonly url: string
  /** Ends every connection to the database and removes it. May be called twice. */
  drop(): Promise<void>
}

/** An empty database on the server at VALISE_TEST_DATABASE_URL, under a name nobody else has. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const serverUrl = process.env['VALISE_TEST_DATABASE_URL']
  if (!serverUrl) {
    throw new Error('VALISE_TEST_DATABASE_URL is not set: run the tests with `npm test`, which provides PostgreSQL')
  }
  const name = `valise_test_${randomBytes(8).toString('hex')}`
  // template0 has no connections ever, so any number of tests can copy it at once.
  await runSql(serverUrl, `create database ${name} template template0`)
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return {
    url: url.href,
    drop: async () => void (await runSql(serverUrl, `drop database if exists ${name} with (force)`)),
  }
}

/** On a connection of its own. */
export async function runSql<Row extends object>(url: string, statement: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Row>(statement)).rows
  } finally {
    await client.end()
  }
}
