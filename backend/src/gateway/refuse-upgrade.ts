// Turns a socket away before it becomes a WebSocket and costs a handshake: an HTTP answer that says when to come again.

import type { Duplex } from 'node:stream'

const STATUS = {
  rate_limited: '429 Too Many Requests',
  server_overloaded: '503 Service Unavailable',
  server_draining: '503 Service Unavailable',
} as const

export function refuseUpgrade(socket: Duplex, code: keyof typeof STATUS, retryAfterMs: number): void {
  const body = `${JSON.stringify({ code, retry_after_ms: retryAfterMs })}\n`
  const lines = [
    `HTTP/1.1 ${STATUS[code]}`,
    `Retry-After: ${Math.ceil(retryAfterMs / 1000)}`,
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    'Connection: close',
  ]
  // An error nobody listens to would end the process, and a peer that keeps its side open would keep ours.
  socket.on('error', () => socket.destroy())
  socket.once('finish', () => socket.destroy())
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`)
}
