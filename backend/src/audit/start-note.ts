// What the configuration at a start means for security, as the audit log keeps it: choices and bounds, never an address, a
// path or a secret. Pure.

import type { Config } from '../config.ts'
import type { AuditDetail } from './audit-record.ts'

export function describeStart(config: Config, databaseKind: string): AuditDetail {
  const { device, user, deviceBytes, userBytes, address } = config.rateLimits
  return {
    database: databaseKind,
    bus: config.redisUrl === undefined ? 'local' : 'redis',
    registration: config.registration,
    log_level: config.logLevel,
    rotate_after_ms: config.rotateAfterMs,
    rotate_after_events: config.rotateAfterEvents,
    max_connections: config.maxConnections,
    max_devices: config.limits.max_devices,
    max_streams: config.limits.max_streams,
    max_payload_bytes: config.limits.max_payload,
    // 0: no limit.
    device_events_per_s: device?.perSecond ?? 0,
    user_events_per_s: user?.perSecond ?? 0,
    device_bytes_per_s: deviceBytes?.perSecond ?? 0,
    user_bytes_per_s: userBytes?.perSecond ?? 0,
    handshakes_per_min: Math.round((address?.perSecond ?? 0) * 60),
    audit_retention_days: config.auditRetentionDays,
  }
}
