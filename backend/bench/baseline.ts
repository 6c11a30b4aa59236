// What the same PostgreSQL gives without any of our code: plain inserts of rows as large as a stored event, each a
// durable transaction of its own, through `pg`.

import { randomBytes } from 'node:crypto'
import pg from 'pg'

export interface BaselineResult {
  readonly name: string
  readonly insertsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export const PLAIN_ROW_BYTES = 540
export const PLAIN_INSERT = { name: 'plain_insert', text: 'insert into plain_insert (id, wire) values ($1, $2)' }

/** An empty table for them. */
export async function preparePlainInserts(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query('create table if not exists plain_insert (id bigint primary key, wire bytea not null)')
    await client.query('truncate plain_insert')
  } finally {
    await client.end()
  }
}

export function toBaselineResult(name: string, latenciesMs: readonly number[], durationMs: number): BaselineResult {
  const sorted = [...latenciesMs].sort((a, b) => a - b)
  const percentile = (share: number): number => sorted[Math.floor(share * sorted.length)] ?? Number.NaN
  return {
    name,
    insertsPerSecond: sorted.length / (durationMs / 1000),
    p50Ms: percentile(0.5),
    p99Ms: percentile(0.99),
  }
}

export async function measureBaseline(
  databaseUrl: string,
  connections: number,
  measureMs: number,
): Promise<BaselineResult> {
  await preparePlainInserts(databaseUrl)
  const clients = Array.from({ length: connections }, () => new pg.Client({ connectionString: databaseUrl }))
  await Promise.all(clients.map((client) => client.connect()))
  try {
    const wire = randomBytes(PLAIN_ROW_BYTES)
    const latenciesMs: number[] = []
    let lastId = 0
    const insertFor = async (client: pg.Client, durationMs: number): Promise<void> => {
      const endAtMs = performance.now() + durationMs
      for (let startedAtMs = performance.now(); startedAtMs < endAtMs; startedAtMs = performance.now()) {
        await client.query({ ...PLAIN_INSERT, values: [++lastId, wire] })
        latenciesMs.push(performance.now() - startedAtMs)
      }
    }
    await Promise.all(clients.map((client) => insertFor(client, measureMs / 4)))
    latenciesMs.length = 0
    const startedAtMs = performance.now()
    await Promise.all(clients.map((client) => insertFor(client, measureMs)))
    const durationMs = performance.now() - startedAtMs
    return toBaselineResult(
      `plain inserts, ${connections === 1 ? 'one connection' : `${connections} connections`}`,
      latenciesMs,
      durationMs,
    )
  } finally {
    await Promise.all(clients.map((client) => client.end()))
  }
}
