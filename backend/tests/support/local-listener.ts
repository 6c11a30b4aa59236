// What every proxy of the tests begins and ends with: a port of this machine, and connections that go with it.

import { once } from 'node:events'
import type { Server, Socket } from 'node:net'

export interface LocalListener {
  readonly port: number
  /** Destroys every connection that came, in the middle of whatever it carries. */
  cut(): void
  /** Cuts, and listens no more. */
  close(): Promise<void>
}

export async function listenLocally(server: Server): Promise<LocalListener> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port was assigned')
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    port: address.port,
    cut,
    close: async () => {
      server.close()
      cut()
      await once(server, 'close')
    },
  }
}

/** The end of one, however it comes, is the end of the other. */
export function tie(downstream: Socket, upstream: Socket): void {
  for (const [socket, other] of [
    [downstream, upstream],
    [upstream, downstream],
  ] as const) {
    socket.on('error', () => {})
    socket.on('close', () => other.destroy())
  }
}
