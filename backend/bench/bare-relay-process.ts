// The process of bare-relay.ts: what it reads of one socket it inserts as one row, durable, then writes to the other and
// answers. Its database is DATABASE_URL; it tells its port to the process that forked it, and ends with it.

import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import pg from 'pg'
import { PLAIN_INSERT } from './baseline.ts'

const ANSWER = Buffer.alloc(60)

const database = new pg.Client({ connectionString: process.env['DATABASE_URL'] })
await database.connect()
let lastId = 0
let receiver: Socket | undefined

async function relay(sender: Socket, frame: Buffer): Promise<void> {
  await database.query({ ...PLAIN_INSERT, values: [++lastId, frame] })
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
