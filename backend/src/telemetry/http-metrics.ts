// What is counted of connections on the public port that are no WebSockets, or not yet.

import type { MetricKinds } from './metric-kinds.ts'

const FOREIGN_CODES = ['unknown_host', 'foreign_origin'] as const

export interface HttpMetrics {
  setConnections(count: number): void
  countRefusedConnection(): void
  countForeignRequest(code: (typeof FOREIGN_CODES)[number]): void
}

export function createHttpMetrics({ counter, gauge }: MetricKinds): HttpMetrics {
  const connections = gauge('valise_http_connections', 'Open connections that are no WebSockets, or not yet')
  const refused = counter('valise_http_connections_refused_total', 'Connections that found no place')
  const foreign = counter('valise_http_foreign_requests_total', 'Requests refused for their Host or Origin', {
    code: FOREIGN_CODES,
  })
  return {
    setConnections: connections.set,
    countRefusedConnection: () => refused.inc({}),
    countForeignRequest: (code) => foreign.inc({ code }),
  }
}
