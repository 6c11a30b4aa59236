// The keys under which a device's store keeps things, in one place. Counters are padded, so key order is their order.
// A trailing `!` marks records that are sealed at rest; `docs/ARCHITECTURE.md` lists what each holds.

import { toHex } from '@valise/protocol'
import type { StoreRange } from './store.ts'

/** 2^53 - 1 has 16 decimal digits. */
const counter = (value: number): string => value.toString().padStart(16, '0')

export const storeKeys = {
  /** ! Who this device is: keys, account, server. */
  identity: 'identity',
  /** ! The same, of a device that has asked to join and does not know yet that it may. */
  joining: 'joining',
  /** ! The server's key as this device trusts it now, once that moved from the one it was set up with. */
  serverPin: 'server-pin',
  /** Cursor, log epoch, and where the local log has holes. */
  progress: 'progress',
  /** One device-log entry. */
  logEntry: (seq: number) => `log/${counter(seq)}`,
  /** ! The secret of one key epoch. */
  epochSecret: (n: number) => `epoch/${counter(n)}`,
  /** ! Plaintext that waits to be sealed and sent, by order of publishing. */
  outboxItem: (position: number) => `outbox/${counter(position)}`,
  /** ! Content of an event that the server refused for good, by order of refusals. */
  refusedItem: (position: number) => `refused/${counter(position)}`,
  /** An event sealed by this device that has no receipt yet. */
  sealedEvent: (deviceSeq: number) => `sealed/${counter(deviceSeq)}`,
  /** The end of this device's own chain, events without receipt included. */
  ownChain: 'own-chain',
  /** One event of the user's log, own ones included. */
  event: (userSeq: number) => `event/${counter(userSeq)}`,
  /** Index: what is to be erased, by the end of its lifetime. */
  expiry: (endMs: number, recordKey: string) => `expires/${counter(endMs)}/${recordKey}`,
  /** Index: the events of a stream. */
  streamEvent: (streamId: Uint8Array, userSeq: number) => `by-stream/${toHex(streamId)}/${counter(userSeq)}`,
  /** Index: a device's chain after each of its events. */
  deviceEvent: (deviceId: Uint8Array, deviceSeq: number) => `by-device/${toHex(deviceId)}/${counter(deviceSeq)}`,
  /** An event that the application may have seen before its device's revocation made it void. */
  voided: (userSeq: number) => `voided/${counter(userSeq)}`,
  /** From which of its events on a device is held back, and why. */
  held: (deviceId: Uint8Array) => `held/${toHex(deviceId)}`,
  /** An event that came after later ones had been applied: where the cursor stood then. */
  late: (userSeq: number) => `late/${counter(userSeq)}`,
  /** Events, this one the first, that the server no longer kept when this device came for them: the last one. */
  pruned: (from: number) => `pruned/${counter(from)}`,
  /** What is left on a device that was revoked: who it was. */
  revoked: 'revoked',
  /** What a recovery has still to do. */
  recovering: 'recovering',
  /** When this device first saw what waits seven days. */
  pendingSeen: 'pending-seen',
  /** How far the boxes that others sealed are checked, and what was found. */
  boxesChecked: 'boxes-checked',
  /** When this device first saw the current key epoch. */
  epochSeen: 'epoch-seen',
  /** The newest event of a device. */
  deviceHead: (deviceId: Uint8Array) => `device/${toHex(deviceId)}`,
  /** The newest event of a stream. */
  streamHead: (streamId: Uint8Array) => `stream/${toHex(streamId)}`,
  /** ! The name of a stream that this device has used. */
  streamName: (streamId: Uint8Array) => `name/${toHex(streamId)}`,
  /** An event that the server lost and that has not come again: where it stood and, of another device, what it was. */
  lostEvent: (eventId: Uint8Array) => `lost/${toHex(eventId)}`,
  /** Where an event that came again stood before. */
  earlierPlace: (userSeq: number) => `earlier/${counter(userSeq)}`,
  /** That the server's log went backwards, until its user accepts the one that is there now. */
  lostLog: 'lost-log',
  /** How far the server's clock was ahead of this device's, when they last spoke. */
  serverAhead: 'server-ahead',
  /** When the last checkpoint was published, and events since. */
  checkpoint: 'checkpoint',
  /** What the device that let this one in had seen: to be compared once the log is read. */
  invitedView: 'invited-view',
  /** The newest device-log entry whose added devices an application was told of. */
  toldOfDevices: 'told-of-devices',
  /** How far an application has read, by a name of its own. */
  position: (name: string) => `position/${name}`,
  /** How far it had read of the log that the server lost. */
  readBefore: (name: string) => `read-before/${name}`,
} as const

/** All keys that begin with `prefix`, which ends in `/`. */
export const keysUnder = (prefix: string): StoreRange => ({ gt: prefix, lt: `${prefix.slice(0, -1)}0` })

/** The counter at the end of a key. */
export const counterOf = (key: string): number => Number(key.slice(-16))
