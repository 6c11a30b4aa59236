// What is counted of connections that are no WebSockets, or not yet: on the public port and on the admin port.

import type { MetricKinds } from './metric-kinds.ts'

const FOREIGN_CODES = ['unknown_host', 'foreign_origin'] as const

export interface PlaceMetrics {
  setConnections(count: number): void
  countRefusedConnection(): void
}

export interface HttpMetrics extends PlaceMetrics {
  countForeignRequest(code: (typeof FOREIGN_CODES)[number]): void
}

export function createAdminMetrics({ counter, gauge }: MetricKinds): PlaceMetrics {
  const connections = gauge('valise_admin_connections', 'Open connections to the admin port')
  const refused = counter('valise_admin_connections_refused_total', 'Connections to the admin port that found no place')
  return { setConnections: connections.set, countRefusedConnection: () => refused.inc({}) }
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
