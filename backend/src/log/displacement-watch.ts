// Tells of a device that pushed out as much of its user's other devices as it may in 24 hours (RET-8): the operator in the
// log, a metric and the audit log, the user's other devices in a notice. Once an hour a device and node, however often it
// tries again.

import type { AuditDetail } from '../audit/audit-record.ts'
import { hashForLog, type Log } from '../telemetry/log.ts'
import type { ControlAnnouncement } from './hub.ts'

export interface DisplacementWatchParts {
  /** The quota. */
  readonly maxUserBytes: number
  readonly log: Log
  count(): void
  noteAudit(detail: AuditDetail): Promise<void>
  announce(announcement: ControlAnnouncement): void
  onFailure(error: unknown): void
  /** Milliseconds of a clock that never goes back. */
  now(): number
}

export interface DisplacementWatch {
  note(device: { readonly userId: Uint8Array; readonly deviceId: Uint8Array; readonly deviceKey: string }): void
}

const QUIET_MS = 3_600_000
/** A device that is forgotten is announced again. */
const MAX_DEVICES = 10_000

export function createDisplacementWatch(parts: DisplacementWatchParts): DisplacementWatch {
  const bytes = Math.floor(parts.maxUserBytes / 10)
  /** Oldest announcement first. */
  const toldAtByDevice = new Map<string, number>()
  return {
    note: ({ userId, deviceId, deviceKey }) => {
      const toldAtMs = toldAtByDevice.get(deviceKey)
      if (toldAtMs !== undefined && parts.now() - toldAtMs < QUIET_MS) return
      toldAtByDevice.delete(deviceKey)
      toldAtByDevice.set(deviceKey, parts.now())
      const [oldest] = toldAtByDevice.keys()
      if (toldAtByDevice.size > MAX_DEVICES && oldest !== undefined) toldAtByDevice.delete(oldest)

      const device = hashForLog(deviceId)
      parts.log.warn(
        { event: 'log.displacement.limit', device, user: hashForLog(userId), bytes },
        'A device pushed out as much of the other devices of its user in a day as it may; its events wait',
      )
      parts.count()
      parts.announce({ type: 'storage_notice', userId, deviceId, bytes })
      parts.noteAudit({ user: hashForLog(userId), device, bytes }).catch(parts.onFailure)
    },
  }
}
