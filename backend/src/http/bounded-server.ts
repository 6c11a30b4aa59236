// An HTTP server whose connections are bounded in number and in time: who says nothing, or says it too slowly, is sent
// away, and so is who finds no place. A connection that becomes a WebSocket is the gateway's from then on.

import { createServer, type RequestListener, type Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { refuseUpgrade } from '../gateway/refuse-upgrade.ts'
import type { Places } from '../limits/places.ts'
import type { PlaceMetrics } from '../telemetry/http-metrics.ts'

export interface BoundedServerParts {
  readonly handler: RequestListener
  readonly places: Places
  /** Undefined for a connection whose client is not known before its first request: from a trusted proxy. */
  addressOf(socket: Socket): string | undefined
  /** Connections may become WebSockets; `upgrade` has to be listened to. */
  readonly takesUpgrades: boolean
  /** From the connection, or the end of the request before it, to the end of a request's head. */
  readonly headTimeoutMs: number
  readonly metrics: PlaceMetrics
}

/** Beyond the head: more than a body is waited for where it is read, so that the answer there says what was expected. */
const BODY_TIMEOUT_MS = 15_000
const KEEP_ALIVE_MS = 5000
/** When a connection that found no place may come again. */
const NO_ROOM_RETRY_MS = 5000
const MAX_CHECK_INTERVAL_MS = 1000

export function createBoundedServer(parts: BoundedServerParts): Server {
  const { handler, places, headTimeoutMs, metrics } = parts
  const plain = new Map<Duplex, () => void>()
  const server = createServer(
    {
      headersTimeout: headTimeoutMs,
      requestTimeout: headTimeoutMs + BODY_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: Math.min(headTimeoutMs, MAX_CHECK_INTERVAL_MS),
    },
    (request, response) => {
      // A connection without a place has its answer already.
      if (plain.has(request.socket)) handler(request, response)
    },
  )
  const leave = (socket: Duplex): void => {
    plain.get(socket)?.()
    if (plain.delete(socket)) metrics.setConnections(plain.size)
  }
  server.on('connection', (socket) => {
    const address = parts.addressOf(socket)
    const leavePlace = address === undefined ? places.takeUncounted() : places.take(address)
    if (leavePlace === undefined) {
      metrics.countRefusedConnection()
      return refuseUpgrade(socket, 'server_overloaded', NO_ROOM_RETRY_MS)
    }
    plain.set(socket, leavePlace)
    metrics.setConnections(plain.size)
    socket.once('close', () => leave(socket))
  })
  if (parts.takesUpgrades) server.on('upgrade', (_request, socket) => leave(socket))
  return server
}
