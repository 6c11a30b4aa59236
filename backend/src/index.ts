// The one door of the backend package.

export { AdminAccessError } from './admin/access.ts'
export { auditCommand, auditVerifyCommand, MAX_AUDIT_RECORDS } from './admin/audit-commands.ts'
export { inviteCommand, MAX_INVITATION_MS, MAX_INVITATIONS, MIN_INVITATION_MS } from './admin/commands.ts'
export { operate } from './admin/operator.ts'
export { restoredCommand } from './admin/restored-command.ts'
export { rotateSecretCommand } from './admin/rotate-secret-command.ts'
export { type RotatedServerKey, rotateServerKey } from './admin/rotate-server-key.ts'
export { type App, type AppOverrides, startApp } from './app.ts'
export {
  adminUrlOf,
  type Config,
  ConfigError,
  describeConfig,
  parseConfig,
  type RawConfig,
  variableMeanings,
} from './config.ts'
export type { Variable } from './config-variables.ts'
export { examine, type Finding } from './doctor/doctor.ts'
export { shouldRotateKeys } from './gateway/session-rotation.ts'
export { runServer } from './main.ts'
export { parseStatus, type Status } from './status/status.ts'
