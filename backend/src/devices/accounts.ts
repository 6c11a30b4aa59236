// Users and their devices as the server keeps them: it stores the signed device log, verifies every entry with the
// verifier the clients use, and can neither add a device nor hide a revocation (DEV-1). Postgres decides races.

import {
  type AppendDeviceLog,
  activeDevices,
  applyEntry,
  boxesOfNewestEntry,
  boxHash,
  type Crypto,
  type DeviceId,
  type DeviceLogRule,
  type DeviceLogState,
  type DeviceState,
  devicesAllowedBy,
  equalBytes,
  findDevice,
  type OperationType,
  prevBoxHashOfNewestEntry,
  type Register,
  type SealedBox,
  type UserId,
} from '@valise/protocol'
import type { Database, TransactionOptions } from '../db/database.ts'
import { appendDeviceLogEntry, insertGenesis, readDeviceLog } from '../db/queries/device-log.ts'
import { findUser } from '../db/queries/users.ts'
import { describeChange, revokedBetween } from './log-change.ts'
import { createVerifiedLogs } from './verified-logs.ts'

export interface AccountsParts {
  readonly crypto: Crypto
  readonly db: Database
  readonly maxDevices: number
  /** Entries of a log, genesis among them. */
  readonly maxEntries: number
}

/** The device as proved by the handshake. */
export interface Prover {
  readonly deviceId: DeviceId
  readonly publicKey: Uint8Array
}

export type Registered =
  | { readonly type: 'registered'; readonly state: DeviceLogState }
  | { readonly type: 'refused'; readonly rule: DeviceLogRule | 'device_key' }
  | { readonly type: 'envelope_mismatch' }
  | { readonly type: 'invitation_invalid' }
  /** The account this genesis made was deleted; it never comes back. */
  | { readonly type: 'deleted' }

export type AppendedEntry =
  | { readonly type: 'deleted' }
  | { readonly type: 'appended'; readonly state: DeviceLogState; readonly revoked: readonly DeviceId[] }
  | { readonly type: 'log_head_moved' }
  /** A log that is full takes a revocation, a recovery or the end of the account, and nothing else. */
  | { readonly type: 'refused'; readonly rule: DeviceLogRule | 'too_many_entries' }
  | { readonly type: 'envelope_mismatch' }

export interface Accounts {
  /**
   * Idempotent: the same genesis entry again finds the account it made. With `invitationHash` a new user uses up that
   * invitation.
   */
  register(prover: Prover, message: Register, invitationHash?: Uint8Array): Promise<Registered>
  append(userId: UserId, message: AppendDeviceLog): Promise<AppendedEntry>
}

/** Some 50 MiB. */
const MAX_KEPT_WEIGHT = 20_000
/** When a log is full, whoever lost a device can still cut it off, and whoever lost all of them get back in. */
const RESERVED_ENTRIES = 100

/**
 * Of each statement that ends an account: one deletes all of its events, and a million of them may take longer than any
 * other statement is given.
 */
const CLOSE_TIMEOUT_MS = 10 * 60_000

const countDevices = (log: DeviceLogState): number =>
  activeDevices(log).filter(({ record }) => record.role !== 'recovery').length

const transactionOf = (after: DeviceLogState): TransactionOptions =>
  after.isClosed ? { name: 'close_account', timeoutMs: CLOSE_TIMEOUT_MS } : { name: 'append_device_log' }

export function createAccounts({ crypto, db, maxDevices, maxEntries }: AccountsParts): Accounts {
  const logs = createVerifiedLogs({
    crypto,
    readHead: async (userId) => {
      const user = await findUser(db, userId)
      return user === undefined || user.deletedAtMs !== undefined ? undefined : { seq: user.logSeq, head: user.logHead }
    },
    readEntries: async (userId, afterSeq, limit) =>
      (await readDeviceLog(db, userId, afterSeq, limit)).map(({ entry }) => entry),
    maxWeight: MAX_KEPT_WEIGHT,
  })

  const maxEntriesFor = (operation: OperationType, signer: DeviceState): number => {
    if (operation === 'close') return Number.POSITIVE_INFINITY
    const isRecovering = operation === 'recovery' || signer.record.role === 'recovery'
    return operation === 'revoke' || isRecovering ? maxEntries + RESERVED_ENTRIES : maxEntries
  }

  /** The boxes must be exactly those the newest entry commits to. */
  const holdsEnvelopes = (state: DeviceLogState, boxes: readonly SealedBox[], prevBox: Uint8Array | null): boolean => {
    const committed = boxesOfNewestEntry(state)
    if (boxes.length !== committed.length) return false
    const isCommitted = (box: SealedBox): boolean =>
      committed.some(
        ({ deviceId, boxHash: hash }) =>
          equalBytes(deviceId, box.device_id) && equalBytes(hash, boxHash(crypto, box.box)),
      )
    if (!boxes.every(isCommitted) || new Set(boxes.map((box) => String(box.device_id))).size !== boxes.length)
      return false
    const prevHash = prevBoxHashOfNewestEntry(state)
    if (prevHash === undefined || prevBox === null) return prevHash === undefined && prevBox === null
    return equalBytes(prevHash, boxHash(crypto, prevBox))
  }

  return {
    register: async (prover, message, invitationHash) => {
      const applied = applyEntry(crypto, undefined, message.entry)
      if (!applied.ok) return { type: 'refused', rule: applied.rule }
      const { state } = applied
      const device = findDevice(state, prover.deviceId)
      if (device === undefined || !equalBytes(device.record.edPub, prover.publicKey)) {
        return { type: 'refused', rule: 'device_key' }
      }
      if (!holdsEnvelopes(state, message.boxes, null)) return { type: 'envelope_mismatch' }
      const change = describeChange({ crypto, before: undefined, after: state, ...message, prev_box: null })
      const outcome = await db.transaction({ name: 'register' }, (tx) => insertGenesis(tx, change, invitationHash))
      switch (outcome) {
        case 'key_taken':
          return { type: 'refused', rule: 'key_reused' }
        case 'deleted':
        case 'invitation_invalid':
          return { type: outcome }
        case 'inserted':
        case 'exists':
          return { type: 'registered', state }
      }
    },
    append: async (userId, message) => {
      const before = await logs.load(userId)
      // Another of the user's sessions closed the account a moment ago.
      if (before === undefined) return { type: 'deleted' }
      const applied = applyEntry(crypto, before, message.entry)
      if (!applied.ok) {
        // Signed on a head that is not the newest any more: not the signer's mistake.
        const isStale = applied.rule === 'seq' || applied.rule === 'prev'
        return isStale ? { type: 'log_head_moved' } : { type: 'refused', rule: applied.rule }
      }
      const { state } = applied
      const signer = findDevice(before, applied.entry.header.signer)
      if (signer === undefined) throw new Error('an entry was applied whose signer is not in the log')
      const { type: operation } = applied.entry.operation
      // Whoever has more than are allowed now may still revoke, rotate and leave.
      if (operation === 'add' && countDevices(state) > devicesAllowedBy(signer, maxDevices)) {
        return { type: 'refused', rule: 'too_many_devices' }
      }
      if (state.seq >= maxEntriesFor(operation, signer)) return { type: 'refused', rule: 'too_many_entries' }
      if (!holdsEnvelopes(state, message.boxes, message.prev_box)) return { type: 'envelope_mismatch' }
      const change = describeChange({ crypto, before, after: state, signerId: signer.deviceId, ...message })
      const outcome = await db.transaction(transactionOf(state), (tx) => appendDeviceLogEntry(tx, change))
      if (outcome === 'head_moved') return { type: 'log_head_moved' }
      if (outcome === 'key_taken') return { type: 'refused', rule: 'key_reused' }
      logs.keep(state)
      return { type: 'appended', state, revoked: revokedBetween(before, state).map((device) => device.deviceId) }
    },
  }
}
