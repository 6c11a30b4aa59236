// A proxy before a server that ends sessions as the test says, with a close code of its choice, once they stand.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { WebSocket, WebSocketServer } from 'ws'
import { listenLocally } from './local-listener.ts'

export interface ClosingProxy {
  /** `ws://…`, for all that the server at the target is good for. */
  readonly url: string
  /** How every session ends that is established from now on; undefined: not at all. */
  closeWith(end: { readonly code: number; readonly reason: string } | undefined): void
  close(): Promise<void>
}

export async function startClosingProxy(target: string): Promise<ClosingProxy> {
  let end: { readonly code: number; readonly reason: string } | undefined
  const server = createServer((request, response) => {
    fetch(`${target.replace(/^ws/, 'http')}${request.url}`).then(
      async (answer) => {
        response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? '' })
        response.end(Buffer.from(await answer.arrayBuffer()))
      },
      () => response.destroy(),
    )
  })
  const sockets = new WebSocketServer({ server, perMessageDeflate: false })
  sockets.on('connection', (downstream) => {
    const upstream = new WebSocket(target, { perMessageDeflate: false })
    // A server that is away ends the connection, and nothing is passed on.
    const opened = once(upstream, 'open').catch(() => {})
    for (const [socket, other] of [
      [downstream, upstream],
      [upstream, downstream],
    ] as const) {
      socket.on('error', () => {})
      socket.on('close', () => other.close())
    }
    downstream.on('message', async (data, isBinary) => {
      await opened
      upstream.send(data, { binary: isBinary })
    })
    upstream.on('message', (data, isBinary) => {
      downstream.send(data, { binary: isBinary })
      if (end !== undefined && !isBinary && String(data).includes('session_established')) {
        downstream.close(end.code, end.reason)
      }
    })
  })
  const listener = await listenLocally(server)
  return {
    url: `ws://127.0.0.1:${listener.port}`,
    closeWith: (next) => {
      end = next
    },
    close: async () => {
      sockets.close()
      await listener.close()
    },
  }
}
