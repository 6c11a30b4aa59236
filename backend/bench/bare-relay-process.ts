// The process of bare-relay.ts: for what it reads of one socket it stores something, durable, then writes it to the other
// and answers. Arguments: `insert` (one plain row) or `append` (one event, as the server stores it). Its database is
// DATABASE_URL; it tells its port to the process that forked it, and ends with it.

import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import pg from 'pg'
import { runMigrations } from '../src/db/migrate.ts'
import { openPostgres } from '../src/db/postgres.ts'
import { appendRuns } from '../src/db/queries/events.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { addDevice, makeBatch } from './append-batches.ts'
import { PLAIN_INSERT } from './baseline.ts'

const ANSWER = Buffer.alloc(60)

const url = process.env['DATABASE_URL'] ?? ''
const store = process.argv[2] === 'append' ? await openAppend() : await openInsert()
let receiver: Socket | undefined

async function openInsert(): Promise<(frame: Buffer) => Promise<unknown>> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  let lastId = 0
  return (frame) => client.query({ ...PLAIN_INSERT, values: [++lastId, frame] })
}

async function openAppend(): Promise<() => Promise<unknown>> {
  const parts = { log: createLog({ level: 'warn' }), metrics: createMetrics().database, slowQueryMs: 1000 }
  const db = await openPostgres({ ...parts, url, poolSize: 1 })
  await runMigrations(db)
  const device = await addDevice(db)
  return async () => {
    const [verdict] = await appendRuns(db, makeBatch([device], 1, 0))
    if (verdict?.status !== 'stored') throw new Error(`an event was not stored: ${verdict?.status}`)
  }
}

async function relay(sender: Socket, frame: Buffer): Promise<void> {
  await store(frame)
  receiver?.write(frame)
  sender.write(ANSWER)
}

// Who connects first receives; who connects after sends.
const server = createServer({ noDelay: true }, (socket) => {
  if (receiver === undefined) receiver = socket
  else socket.on('data', (frame) => void relay(socket, frame))
  socket.on('error', () => socket.destroy())
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
process.once('disconnect', () => process.exit())
process.send?.((server.address() as AddressInfo).port)
