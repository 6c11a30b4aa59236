// A proxy between devices and nodes: it cuts what passes through it, and sends who comes next to another node.

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export interface SocketProxy {
  /** `ws://…`, where devices connect. */
  readonly url: string
  /** Connections made from now on go to the node at this URL. */
  pointTo(url: string): void
  /** Destroys every connection, in the middle of whatever it carries. */
  cut(): void
  close(): Promise<void>
}

export async function startSocketProxy(target: string): Promise<SocketProxy> {
  const sockets = new Set<Socket>()
  let port = Number(new URL(target).port)
  const server = createServer((downstream) => {
    const upstream = connect(port, '127.0.0.1')
    for (const [socket, other] of [
      [downstream, upstream],
      [upstream, downstream],
    ] as const) {
      sockets.add(socket)
      socket.pipe(other)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port was assigned')
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    url: `ws://127.0.0.1:${address.port}`,
    pointTo: (url) => {
      port = Number(new URL(url).port)
    },
    cut,
    close: async () => {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
