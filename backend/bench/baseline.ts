// What the same PostgreSQL gives without any of our code: plain inserts of rows as large as a stored event, each a
// durable transaction of its own, through `pg`.

import { randomBytes } from 'node:crypto'
import pg from 'pg'

export interface BaselineResult {
  readonly connections: number
  readonly insertsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const ROW_BYTES = 540
const insert = { name: 'plain_insert', text: 'insert into plain_insert (id, wire) values ($1, $2)' }

export async function measureBaseline(
  databaseUrl: string,
  connections: number,
  measureMs: number,
): Promise<BaselineResult> {
  const clients = Array.from({ length: connections }, () => new pg.Client({ connectionString: databaseUrl }))
  await Promise.all(clients.map((client) => client.connect()))
  try {
    await clients[0]?.query('create table if not exists plain_insert (id bigint primary key, wire bytea not null)')
    await clients[0]?.query('truncate plain_insert')
    const wire = randomBytes(ROW_BYTES)
    const latenciesMs: number[] = []
    let lastId = 0
    const insertFor = async (client: pg.Client, durationMs: number): Promise<void> => {
      const endAtMs = performance.now() + durationMs
      for (let startedAtMs = performance.now(); startedAtMs < endAtMs; startedAtMs = performance.now()) {
        await client.query({ ...insert, values: [++lastId, wire] })
        latenciesMs.push(performance.now() - startedAtMs)
      }
    }
    await Promise.all(clients.map((client) => insertFor(client, measureMs / 4)))
    latenciesMs.length = 0
    const startedAtMs = performance.now()
    await Promise.all(clients.map((client) => insertFor(client, measureMs)))
    const seconds = (performance.now() - startedAtMs) / 1000
    const sorted = latenciesMs.sort((a, b) => a - b)
    const percentile = (share: number): number => sorted[Math.floor(share * sorted.length)] ?? Number.NaN
    return {
      connections,
      insertsPerSecond: sorted.length / seconds,
      p50Ms: percentile(0.5),
      p99Ms: percentile(0.99),
    }
  } finally {
    await Promise.all(clients.map((client) => client.end()))
  }
}
