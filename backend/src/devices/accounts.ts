// Users and their devices as the server keeps them: it stores the signed device log, verifies every entry with the
// verifier the clients use, and can neither add a device nor hide a revocation (DEV-1). Postgres decides races.

import {
  type AppendDeviceLog,
  applyEntry,
  boxesOfNewestEntry,
  boxHash,
  type Crypto,
  checkEntrySigner,
  type DeviceId,
  type DeviceLogRule,
  type DeviceLogState,
  devicesAllowedBy,
  equalBytes,
  findDevice,
  keyHolders,
  linksOfNewestEntry,
  PENDING_MS,
  parseRole,
  type Register,
  type SealedBox,
  type SealedLink,
  type ServerLogRule,
  type UserId,
} from '@valise/protocol'
import type { Database, TransactionOptions } from '../db/database.ts'
import { appendDeviceLogEntry, insertGenesis, readDeviceLog } from '../db/queries/device-log.ts'
import { chainAt, readCountedEntries, readMsUntilSettled } from '../db/queries/device-log-facts.ts'
import { findDeviceForSession } from '../db/queries/devices.ts'
import { ACCOUNT_DELETION_TIMEOUT_MS, findUser } from '../db/queries/users.ts'
import {
  type AdmittedEntry,
  COUNTED_MS,
  cutsOf,
  ENTRIES_OF_USER,
  isByPhrase,
  isCounted,
  isTrueCut,
  maxEntriesFor,
  msUntilAllowed,
} from './entry-rules.ts'
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
  | {
      readonly type: 'refused'
      readonly rule: DeviceLogRule | ServerLogRule
      /** Where the rule is the server's clock's. */
      readonly retryAfterMs?: number
    }
  | { readonly type: 'envelope_mismatch' }

type Refusal = Extract<AppendedEntry, { type: 'refused' }>

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
const countDevices = (log: DeviceLogState): number =>
  keyHolders(log).filter(({ record }) => record.role !== 'recovery').length

/** What is signed on a head that is not the newest any more is not its signer's mistake. */
const refusedBy = (rule: DeviceLogRule): AppendedEntry =>
  rule === 'seq' || rule === 'prev' ? { type: 'log_head_moved' } : { type: 'refused', rule }

const transactionOf = (after: DeviceLogState): TransactionOptions =>
  after.isClosed ? { name: 'close_account', timeoutMs: ACCOUNT_DELETION_TIMEOUT_MS } : { name: 'append_device_log' }

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

  /** By rows alone: a log of many entries is read and verified only for an entry that one of its devices signed. */
  const breaksAtFirstLook = async (
    userId: UserId,
    entry: Uint8Array,
  ): Promise<DeviceLogRule | 'deleted' | undefined> => {
    const user = await findUser(db, userId)
    if (user === undefined || user.deletedAtMs !== undefined) return 'deleted'
    const place = { userId, seq: user.logSeq, head: user.logHead }
    return checkEntrySigner(crypto, place, entry, async (deviceId) => {
      const row = await findDeviceForSession(db, deviceId, userId)
      const role = row && parseRole(row.role)
      if (row === undefined || role === undefined) return undefined
      const { edPub, revokedSeq, suspendedSeq } = row
      const status = revokedSeq !== undefined ? 'revoked' : suspendedSeq !== undefined ? 'suspended' : 'active'
      return { edPub, role, status }
    })
  }

  /** The boxes and links must be exactly those the newest entry commits to. */
  const holdsEnvelopes = (
    state: DeviceLogState,
    boxes: readonly SealedBox[],
    links: readonly SealedLink[],
  ): boolean => {
    const committed = boxesOfNewestEntry(state)
    if (boxes.length !== committed.length) return false
    const isCommitted = (box: SealedBox): boolean =>
      committed.some(
        ({ deviceId, boxHash: hash }) =>
          equalBytes(deviceId, box.device_id) && equalBytes(hash, boxHash(crypto, box.box)),
      )
    if (!boxes.every(isCommitted) || new Set(boxes.map((box) => String(box.device_id))).size !== boxes.length)
      return false
    const linked = linksOfNewestEntry(state)
    if (links.length !== linked.length) return false
    return links.every(({ prev_epoch, box }, i) => {
      const link = linked[i]
      return link !== undefined && link.n === prev_epoch && equalBytes(link.boxHash, boxHash(crypto, box))
    })
  }

  /** Of an entry that a device of the account signed and the verifier admits; `undefined`: nothing is against it. */
  const breaksServerRule = async (before: DeviceLogState, entry: AdmittedEntry): Promise<Refusal | undefined> => {
    const { operation, signer } = entry
    const { userId } = before
    if (isCounted(entry)) {
      const counted = await readCountedEntries(db, userId, signer.deviceId, {
        windowMs: COUNTED_MS,
        limit: ENTRIES_OF_USER,
      })
      const retryAfterMs = msUntilAllowed(counted)
      if (retryAfterMs !== undefined) return { type: 'refused', rule: 'entry_rate_limited', retryAfterMs }
    }
    if (operation.type === 'settle' && !isByPhrase(entry) && before.pendingRecovery !== undefined) {
      const leftMs = await readMsUntilSettled(db, userId, before.pendingRecovery.atSeq, PENDING_MS)
      if (leftMs > 0) return { type: 'refused', rule: 'settle_too_early', retryAfterMs: Math.ceil(leftMs) }
    }
    for (const cut of cutsOf(operation)) {
      const chain = await chainAt(db, userId, cut.deviceId, cut.lastSeq)
      if (!isTrueCut(crypto, userId, cut, chain)) return { type: 'refused', rule: 'cut_false' }
    }
    return undefined
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
      if (!holdsEnvelopes(state, message.boxes, [])) return { type: 'envelope_mismatch' }
      const change = describeChange({ crypto, before: undefined, after: state, ...message, links: [] })
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
      const broken = await breaksAtFirstLook(userId, message.entry)
      if (broken === 'deleted') return { type: 'deleted' }
      if (broken !== undefined) return refusedBy(broken)
      const before = await logs.load(userId)
      // Another of the user's sessions closed the account a moment ago.
      if (before === undefined) return { type: 'deleted' }
      const applied = applyEntry(crypto, before, message.entry)
      if (!applied.ok) return refusedBy(applied.rule)
      const { state } = applied
      const signer = findDevice(before, applied.entry.header.signer)
      if (signer === undefined) throw new Error('an entry was applied whose signer is not in the log')
      const { operation } = applied.entry
      const entry = { operation, signer, after: state }
      // Whoever has more than are allowed now may still revoke, rotate and leave.
      if (operation.type === 'add' && countDevices(state) > devicesAllowedBy(signer, maxDevices)) {
        return { type: 'refused', rule: 'too_many_devices' }
      }
      if (state.seq >= maxEntriesFor(entry, maxEntries)) return { type: 'refused', rule: 'too_many_entries' }
      if (!holdsEnvelopes(state, message.boxes, message.links)) return { type: 'envelope_mismatch' }
      const unallowed = await breaksServerRule(before, entry)
      if (unallowed !== undefined) return unallowed
      const countedDeviceId = isCounted(entry) ? signer.deviceId : undefined
      const change = describeChange({
        crypto,
        before,
        after: state,
        ...message,
        signerId: signer.deviceId,
        countedDeviceId,
      })
      const outcome = await db.transaction(transactionOf(state), (tx) => appendDeviceLogEntry(tx, change))
      if (outcome === 'head_moved') return { type: 'log_head_moved' }
      if (outcome === 'key_taken') return { type: 'refused', rule: 'key_reused' }
      logs.keep(state)
      return { type: 'appended', state, revoked: revokedBetween(before, state).map((device) => device.deviceId) }
    },
  }
}
