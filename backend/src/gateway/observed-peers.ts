// What is read of all sockets together when metrics are scraped, and costs nothing in between.

import type { WebSocket } from 'ws'
import type { GatewayMetrics } from '../telemetry/metrics.ts'

export interface ObservedPeer {
  /** True while its session lives past a limit of its keys: a second at most, or the clock that ends it stands still. */
  isOverdue(): boolean
}

export function watchSockets(metrics: GatewayMetrics, peers: ReadonlyMap<WebSocket, ObservedPeer>): void {
  metrics.watchSendBufferedBytes(() => {
    let bytes = 0
    for (const socket of peers.keys()) bytes += socket.bufferedAmount
    return bytes
  })
  metrics.watchRotationOverdue(() => {
    let overdue = 0
    for (const peer of peers.values()) if (peer.isOverdue()) overdue++
    return overdue
  })
}
