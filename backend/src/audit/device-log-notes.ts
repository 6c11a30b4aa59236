// What an entry of the device log means for the audit log of its user. Pure. Who signed it stands in the entry itself.

import { hashForLog } from '../telemetry/log.ts'
import type { AuditNote } from './audit-record.ts'

/** As the device log encodes it. */
const ROLE_RECOVERY = 3

export interface AuditedChange {
  readonly seq: number
  readonly added: readonly { readonly deviceId: Uint8Array; readonly role: number }[]
  readonly revoked: readonly Uint8Array[]
  readonly suspended: readonly Uint8Array[]
  readonly roles: readonly { readonly deviceId: Uint8Array; readonly role: number }[]
  /** The key epoch the entry starts, if it starts one. */
  readonly epoch: { readonly n: number } | undefined
  readonly pendingRecovery: 'asked' | 'dropped' | undefined
  readonly pendingClose: 'asked' | 'dropped' | undefined
}

export function notesOf(change: AuditedChange): AuditNote[] {
  const { seq } = change
  if (seq === 0) return [{ kind: 'user.register', detail: { devices: change.added.length } }]
  const isReplaced = change.added.some(({ role }) => role === ROLE_RECOVERY)
  const notes: AuditNote[] = [
    ...change.added.map(({ deviceId, role }): AuditNote => {
      const kind = role === ROLE_RECOVERY ? 'recovery.replace' : 'device.approve'
      return { kind, detail: { log_seq: seq, device: hashForLog(deviceId), role } }
    }),
    ...change.revoked.map((deviceId): AuditNote => {
      return { kind: 'device.revoke', detail: { log_seq: seq, device: hashForLog(deviceId) } }
    }),
    ...change.suspended.map((deviceId): AuditNote => {
      return { kind: 'device.suspend', detail: { log_seq: seq, device: hashForLog(deviceId) } }
    }),
    ...change.roles.map(({ deviceId, role }): AuditNote => {
      return { kind: 'device.role', detail: { log_seq: seq, device: hashForLog(deviceId), role } }
    }),
  ]
  const detail = { log_seq: seq }
  if (change.pendingRecovery === 'asked') notes.push({ kind: 'recovery.ask', detail })
  // A recovery device that is settled, or replaced at once, is told as a replacement.
  if (change.pendingRecovery === 'dropped' && !isReplaced) notes.push({ kind: 'recovery.drop', detail })
  if (change.pendingClose === 'asked') notes.push({ kind: 'account.close.ask', detail })
  if (change.pendingClose === 'dropped') notes.push({ kind: 'account.close.drop', detail })
  if (change.epoch !== undefined && change.revoked.length === 0 && !isReplaced) {
    notes.push({ kind: 'epoch.rotate', detail: { log_seq: seq, epoch: change.epoch.n } })
  }
  return notes
}
