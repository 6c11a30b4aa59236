// The way of an event of 1 × 1 with nothing on it but its hops and its commit: a process that reads from one socket, stores
// one plain row or one event, and then writes to another socket, over TCP; nothing sealed, opened, limited or fanned out.
// What a relay that waits for its commit cannot do without on this machine.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { type BaselineResult, PLAIN_ROW_BYTES, preparePlainInserts, toBaselineResult } from './baseline.ts'

/** A frame in full: TCP may cut it. */
async function receive(socket: Socket, bytes: number): Promise<void> {
  for (let left = bytes; left > 0; ) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    left -= chunk.length
  }
}

async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  return socket
}

export async function measureBareRelay(
  databaseUrl: string,
  stored: 'insert' | 'append',
  measureMs: number,
): Promise<BaselineResult> {
  await preparePlainInserts(databaseUrl)
  const child = fork(fileURLToPath(new URL('./bare-relay-process.js', import.meta.url)), [stored], {
    env: { ...process.env, DATABASE_URL: databaseUrl },
  })
  const ended = once(child, 'exit')
  const sockets: Socket[] = []
  try {
    const started = await Promise.race([once(child, 'message'), ended.then(() => undefined)])
    if (started === undefined) throw new Error('the bare relay did not start')
    const port = Number(started[0])
    const receiver = await open(port)
    const sender = await open(port)
    sockets.push(receiver, sender)
    const frame = Buffer.alloc(PLAIN_ROW_BYTES, 1)
    const relayFor = async (durationMs: number): Promise<number[]> => {
      const latenciesMs: number[] = []
      const endAtMs = performance.now() + durationMs
      for (let startedAtMs = performance.now(); startedAtMs < endAtMs; startedAtMs = performance.now()) {
        const answered = once(sender, 'data')
        const relayed = receive(receiver, frame.length)
        sender.write(frame)
        await relayed
        latenciesMs.push(performance.now() - startedAtMs)
        await answered
      }
      return latenciesMs
    }
    await relayFor(measureMs / 4)
    const startedAtMs = performance.now()
    const latenciesMs = await relayFor(measureMs)
    return toBaselineResult(`a bare relay, one ${stored} each`, latenciesMs, performance.now() - startedAtMs)
  } finally {
    for (const socket of sockets) socket.destroy()
    child.kill()
    await ended
  }
}
