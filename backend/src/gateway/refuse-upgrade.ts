// Turns a socket away before it becomes a WebSocket and costs a handshake: an HTTP answer that says why, and when to come
// again if that helps.

import { STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { HTTP_ERRORS, type HttpErrorCode } from '@valise/protocol'

type UpgradeErrorCode = Extract<
  HttpErrorCode,
  'rate_limited' | 'server_overloaded' | 'server_draining' | 'unknown_host' | 'foreign_origin'
>

export function refuseUpgrade(socket: Duplex, code: UpgradeErrorCode, retryAfterMs?: number): void {
  const { status } = HTTP_ERRORS[code]
  const body = `${JSON.stringify({ code, retry_after_ms: retryAfterMs })}\n`
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    ...(retryAfterMs === undefined ? [] : [`Retry-After: ${Math.ceil(retryAfterMs / 1000)}`]),
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    'Connection: close',
  ]
  // An error nobody listens to would end the process, and a peer that keeps its side open would keep ours.
  socket.on('error', () => socket.destroy())
  socket.once('finish', () => socket.destroy())
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`)
}
