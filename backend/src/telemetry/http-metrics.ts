// What is counted of connections on the public port that are no WebSockets, or not yet.

import type { MetricKinds } from './metric-kinds.ts'

export interface HttpMetrics {
  setConnections(count: number): void
  countRefusedConnection(): void
}

export function createHttpMetrics({ counter, gauge }: MetricKinds): HttpMetrics {
  const connections = gauge('valise_http_connections', 'Open connections that are no WebSockets, or not yet')
  const refused = counter('valise_http_connections_refused_total', 'Connections that found no place')
  return { setConnections: connections.set, countRefusedConnection: () => refused.inc({}) }
}
