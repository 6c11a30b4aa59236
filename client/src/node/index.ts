// The client package's door for Node: a device in a folder.

export { AccountError, type AccountErrorCode, SUSPENDED } from '../account/account-error.ts'
export type { RecoveryOutcome } from '../account/change-recovery.ts'
export type { DeviceCut, DeviceSummary, StreamSummary } from '../account/directory.ts'
export { formatDeviceFingerprint } from '../account/fingerprint.ts'
export type { ConfirmServer, UnprovenServer } from '../account/first-contact.ts'
export type { RevokedDevice } from '../account/forget-account.ts'
export { REVOKE_REASONS, type RevokeReason } from '../account/manage-devices.ts'
export type { PairingRenewal, PairingScreen, ShownOffer } from '../account/pair-account.ts'
export { describeCut } from '../account/pick-device.ts'
export type { RecoverableAccount, RecoveryStage } from '../account/recover-account.ts'
export { describeVerdict, isSamePhrase, type PhraseVerdict, type RecoverySheet } from '../account/recovery-sheet.ts'
export { SetupError, type SetupErrorCode } from '../account/setup-error.ts'
export { checkExport, type ExportSummary } from '../export/check-export.ts'
export { ExportFileError, MAX_EXPORT_LINE_BYTES } from '../export/export-lines.ts'
export type { ImportCounts } from '../export/import-events.ts'
export type { NewDevice } from '../link/link.ts'
export type { PairingFailure } from '../pairing/ceremony-state.ts'
export type { PairingStep } from '../pairing/run-pairing.ts'
export type { LostLog, LostLogCode } from '../restore/lost-log.ts'
export type { Rebased } from '../restore/rebase.ts'
export { formatTime } from '../time-text.ts'
export type { VerifyProblem, VerifyReport } from '../verify.ts'
export type { RenewOptions } from './account-actions.ts'
export { DeviceHomeError, type DeviceHomeErrorCode } from './device-home-error.ts'
export { openFileStore } from './file-store.ts'
export {
  type Account,
  type ApproveOptions,
  type DeviceStatus,
  type FirstServerOptions,
  type LinkOptions,
  type NodeDevice,
  type NodeDeviceOptions,
  openNodeDevice,
  type ServerOptions,
} from './node-device.ts'
export { nodeHttp } from './node-http.ts'
export type { PairExistingOptions, PairedDevice, PairNewOptions } from './pairing-actions.ts'
export { createWsTransport } from './ws-transport.ts'
