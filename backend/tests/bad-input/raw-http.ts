// HTTP byte by byte: what no HTTP client would send, and how much of the answer came.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export interface RawHttp {
  readonly socket: Socket
  /** The status of the first answer; rejects when the connection ends without one. */
  status(): Promise<number>
  /** Resolves when the server has closed. */
  readonly closed: Promise<void>
}

const DEADLINE_MS = 20_000

/** Connects to the port of `url` and sends `text` as it stands. Errors of the socket end it; half open, nothing else does. */
export async function sendRaw(
  url: string,
  text: string | Uint8Array,
  options: { readonly allowHalfOpen?: boolean } = {},
): Promise<RawHttp> {
  const { port, hostname } = new URL(url)
  const socket = connect({ port: Number(port), host: hostname, ...options })
  socket.on('error', () => {})
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const received: Buffer[] = []
  socket.on('data', (chunk) => received.push(chunk))
  await once(socket, 'connect')
  socket.setTimeout(DEADLINE_MS, () => socket.destroy())
  socket.write(text)
  return {
    socket,
    closed,
    status: async () => {
      for (;;) {
        const found = /^HTTP\/1\.1 (\d{3})/.exec(Buffer.concat(received).toString('latin1'))?.[1]
        if (found !== undefined) return Number(found)
        if (socket.destroyed) throw new Error('the connection ended without an answer')
        await Promise.race([once(socket, 'data').catch(() => {}), closed])
      }
    },
  }
}

/** A WebSocket handshake, whose answer is 101 when the server takes it. */
export const UPGRADE = [
  'GET / HTTP/1.1',
  'Host: 127.0.0.1',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  '',
  '',
].join('\r\n')
