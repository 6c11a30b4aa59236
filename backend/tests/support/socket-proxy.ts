// A proxy between devices and nodes: it cuts what passes through it, and sends who comes next to another node.

import { connect, createServer } from 'node:net'
import { listenLocally, tie } from './local-listener.ts'

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
  let port = Number(new URL(target).port)
  const server = createServer((downstream) => {
    const upstream = connect(port, '127.0.0.1')
    downstream.pipe(upstream)
    upstream.pipe(downstream)
    tie(downstream, upstream)
  })
  const listener = await listenLocally(server)
  return {
    url: `ws://127.0.0.1:${listener.port}`,
    pointTo: (url) => {
      port = Number(new URL(url).port)
    },
    cut: listener.cut,
    close: listener.close,
  }
}
