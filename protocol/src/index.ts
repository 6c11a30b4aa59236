// The one door of the protocol package: public names, nothing else.
export * from './bytes.ts'
export * from './crypto.ts'
export * from './device-log/build.ts'
export * from './device-log/device-record.ts'
export {
  type DeviceCut,
  type DeviceState,
  type DeviceStatus,
  type DeviceTable,
  isActive,
} from './device-log/device-table.ts'
export {
  boxHash,
  type EntryHeader,
  entryHash,
  parseSignedEntry,
  type SignedEntry,
  userIdOf,
} from './device-log/entry.ts'
export type {
  EpochLink,
  EpochMember,
  EpochStart,
  Operation,
  OperationType,
  RevokedDevice,
} from './device-log/operation.ts'
export { parseOperation } from './device-log/operation.ts'
export * from './device-log/rules.ts'
export {
  activeDevices,
  boxesOfNewestEntry,
  type CommittedBox,
  type DeviceLogState,
  devicesAllowedBy,
  devicesOf,
  type EpochState,
  findDevice,
  findEpoch,
  findRecovery,
  isBeyondCut,
  keyHolders,
  linksOfNewestEntry,
  type PendingClose,
  type PendingRecovery,
} from './device-log/state.ts'
export * from './device-log/verify.ts'
export * from './errors.ts'
export * from './events/chain.ts'
export { type ChainPosition, MAX_CHECKPOINT_POSITIONS } from './events/checkpoint-list.ts'
export * from './events/event.ts'
export { type EventFlags, hasUnknownFlags, isKeptFlags, parseFlags } from './events/flags.ts'
export * from './events/padding.ts'
export type { ClientIdentity, ClientMode, ServerAuth, ServerPolicy } from './handshake/auth.ts'
export * from './handshake/client-handshake.ts'
export { PROTOCOL_VERSION } from './handshake/hello.ts'
export type { SessionSecrets } from './handshake/key-schedule.ts'
export * from './handshake/server-handshake.ts'
export * from './handshake/server-key.ts'
export { encodeSessionEstablishedFrame, parseSessionEstablishedFrame } from './handshake/text-frames.ts'
export * from './http-errors.ts'
export * from './ids.ts'
export * from './kdf.ts'
export * from './limits.ts'
export type { Ack } from './messages/ack.ts'
export type { AppendDeviceLog, SealedLink } from './messages/append-device-log.ts'
export type { CaughtUp } from './messages/caught-up.ts'
export { type ClientMessage, clientMessage } from './messages/client-messages.ts'
export * from './messages/codec.ts'
export type { DeviceLogPage } from './messages/device-log.ts'
export type { Envelopes } from './messages/envelopes.ts'
export type { ErrorMessage } from './messages/error.ts'
export type { Events, LeafItem, StoredEvent } from './messages/events.ts'
export type { FetchDeviceLog } from './messages/fetch-device-log.ts'
export type { FetchEnvelopes } from './messages/fetch-envelopes.ts'
export type { OpenPairing } from './messages/open-pairing.ts'
export type { Presence } from './messages/presence.ts'
export type { Publish } from './messages/publish.ts'
export type { Receipt, Receipts } from './messages/receipts.ts'
export type { Refused } from './messages/refused.ts'
export type { Register, SealedBox } from './messages/register.ts'
export type { Registered } from './messages/registered.ts'
export type { Resume } from './messages/resume.ts'
export type { ResyncRequired } from './messages/resync-required.ts'
export { type ServerMessage, serverMessage } from './messages/server-messages.ts'
export type { SessionEstablished } from './messages/session-established.ts'
export type { StorageNotice } from './messages/storage-notice.ts'
export { type FileFacts, judgePrivate, type PrivateFault, type PrivateKind } from './private-file.ts'
export * from './session/channel.ts'
export { FRAME_OVERHEAD_BYTES } from './session/frame.ts'
export * from './small-order.ts'
