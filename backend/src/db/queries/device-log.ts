// The device log as rows, and what an entry changes beside it: devices, key epochs, sealed boxes. The users row is
// locked first and the entry is appended only onto the head it was signed for, so of two entries at once one wins.
// Which entries are valid is decided before, by the verifier that clients use too.
// More than 300 lines: the statements of one transaction stand together, in the order of their locks.

import { toHex } from '@valise/protocol'
import { SERVER_CHAIN } from '../../audit/audit-record.ts'
import { notesOf } from '../../audit/device-log-notes.ts'
import { hashForLog } from '../../telemetry/log.ts'
import type { Queryable, Statement } from '../postgres.ts'
import { formatByteaArray, formatIntegers } from '../values.ts'
import { appendAudit } from './audit.ts'
import { useInvitation } from './invitations.ts'
import { deletePendingClose, insertPendingClose } from './pending-closes.ts'
import { deleteAccount } from './users.ts'

export interface DeviceLogRow {
  readonly seq: number
  readonly entry: Uint8Array
}

export interface NewDevice {
  readonly deviceId: Uint8Array
  readonly edPub: Uint8Array
  /** 1 member, 2 manager, 3 recovery. */
  readonly role: number
  /** chain_0 of the device. */
  readonly chain: Uint8Array
  /** The device that signed it in; undefined for those of genesis. */
  readonly addedBy?: Uint8Array | undefined
}

/** One verified entry with its effects. */
export interface DeviceLogChange {
  readonly userId: Uint8Array
  readonly seq: number
  /** The head the entry continues; 32 zeros for genesis. */
  readonly prevHead: Uint8Array
  readonly head: Uint8Array
  readonly entry: Uint8Array
  readonly added: readonly NewDevice[]
  readonly revoked: readonly Uint8Array[]
  readonly suspended: readonly Uint8Array[]
  /** Of the revoked and the suspended. */
  readonly cuts: readonly { readonly deviceId: Uint8Array; readonly lastSeq: number; readonly chain: Uint8Array }[]
  readonly roles: readonly { readonly deviceId: Uint8Array; readonly role: number }[]
  /** The key epoch the entry starts, if it starts one. */
  readonly epoch:
    | { readonly n: number; readonly links: readonly { readonly prevEpoch: number; readonly box: Uint8Array }[] }
    | undefined
  readonly boxes: readonly { readonly deviceId: Uint8Array; readonly epoch: number; readonly box: Uint8Array }[]
  /** What the entry does to the recovery device and to the close that wait; undefined: nothing. */
  readonly pendingRecovery: 'asked' | 'dropped' | undefined
  readonly pendingClose: 'asked' | 'dropped' | undefined
  /** The device in whose 24 hours the entry counts, if in anybody's. */
  readonly countedDeviceId: Uint8Array | undefined
  /** The entry ends the account. */
  readonly isClosed: boolean
}

const readPage: Statement = {
  name: 'read_device_log',
  text: `
    select l.log_seq as seq, l.entry
    from device_log as l
    where l.user_id = $1 and l.log_seq > $2
    order by l.log_seq
    limit $3`,
}

/** Entries after `afterSeq` (-1: from the first), in order. */
export const readDeviceLog = (
  db: Queryable,
  userId: Uint8Array,
  afterSeq: number,
  limit: number,
): Promise<DeviceLogRow[]> => db.query<DeviceLogRow>(readPage, [userId, afterSeq, limit])

/** An entry of a user's log. */
export interface LogPosition {
  readonly userId: Uint8Array
  readonly logSeq: number
}

// hash("log-entry", entry), computed there: entries are long.
const readHashes: Statement = {
  name: 'read_log_hashes',
  text: `
    select
      asked.user_id,
      asked.log_seq,
      sha256('\\x${Buffer.from('valise log-entry\0').toString('hex')}'::bytea || l.entry) as hash
    from unnest($1::bytea[], $2::bigint[]) as asked (user_id, log_seq)
    join users as u on u.user_id = asked.user_id and u.deleted_at is null
    left join device_log as l on l.user_id = asked.user_id and l.log_seq = asked.log_seq`,
}

/** The hashes of those entries that exist, by user id in hexadecimal; unknown and deleted users are left out. */
export async function readLogHashes(
  db: Queryable,
  positions: readonly LogPosition[],
): Promise<Map<string, Map<number, Uint8Array>>> {
  const rows = await db.query<{ user_id: Uint8Array; log_seq: number; hash: Uint8Array | null }>(readHashes, [
    formatByteaArray(positions.map(({ userId }) => userId)),
    formatIntegers(positions.map(({ logSeq }) => logSeq)),
  ])
  const hashesByUser = new Map<string, Map<number, Uint8Array>>()
  for (const { user_id, log_seq, hash } of rows) {
    const userKey = toHex(user_id)
    const hashes = hashesByUser.get(userKey) ?? new Map<number, Uint8Array>()
    if (hash !== null) hashes.set(log_seq, hash)
    hashesByUser.set(userKey, hashes)
  }
  return hashesByUser
}

const insertUser: Statement = {
  name: 'insert_user',
  text: `
    insert into users (user_id, log_seq, log_head, key_epoch, epoch_log_seq)
    values ($1, $2, $3, $4, $2)
    on conflict (user_id) do nothing
    returning user_id`,
}

// Made here and nowhere else, so that nobody who counts brings back what a deletion took.
const insertStorage: Statement = {
  name: 'insert_user_storage',
  text: 'insert into user_storage (user_id) values ($1)',
}

const readUserState: Statement = {
  name: 'read_user_state',
  text: `
    select u.deleted_at is not null as is_deleted
    from users as u
    where u.user_id = $1`,
}

/**
 * Makes the user, inside a transaction. `exists`: the same genesis entry made it before (user_id is its hash), so a lost
 * answer may be asked for again. `key_taken`: one of the devices is somebody's already. With `invitationHash` it is used
 * up by the user it makes, and only by him: `invitation_invalid` when nobody can use it.
 */
export async function insertGenesis(
  tx: Queryable,
  change: DeviceLogChange,
  invitationHash?: Uint8Array,
): Promise<'inserted' | 'exists' | 'deleted' | 'key_taken' | 'invitation_invalid'> {
  await lockKeys(tx, change.added)
  const inserted = await tx.query(insertUser, [change.userId, change.seq, change.head, change.epoch?.n ?? 0])
  if (inserted.length === 0) {
    const [user] = await tx.query<{ is_deleted: boolean }>(readUserState, [change.userId])
    return user?.is_deleted === false ? 'exists' : 'deleted'
  }
  if (await isAnyKeyTaken(tx, change.added)) {
    await tx.query(removeUser, [change.userId])
    return 'key_taken'
  }
  // Last, so that nothing but the making of the user uses it up.
  if (invitationHash !== undefined && !(await useInvitation(tx, invitationHash))) {
    await tx.query(removeUser, [change.userId])
    return 'invitation_invalid'
  }
  await tx.query(insertStorage, [change.userId])
  await applyEffects(tx, change)
  await appendAudit(tx, change.userId, notesOf(change))
  return 'inserted'
}

const removeUser: Statement = { name: 'remove_user', text: 'delete from users as u where u.user_id = $1' }

const moveHead: Statement = {
  name: 'move_log_head',
  text: `
    update users as u
    set log_seq = $2, log_head = $3
    where u.user_id = $1 and u.log_seq = $4 and u.log_head = $5 and u.deleted_at is null
    returning u.user_id`,
}

const findHead: Statement = {
  name: 'find_log_head',
  text: `
    select u.user_id
    from users as u
    where u.user_id = $1 and u.log_seq = $2 and u.log_head = $3 and u.deleted_at is null`,
}

const moveEpoch: Statement = {
  name: 'move_key_epoch',
  text: `
    update users as u
    set key_epoch = $2, epoch_log_seq = $3
    where u.user_id = $1`,
}

/**
 * Appends inside a transaction; from its commit on, the database refuses events of revoked devices and of the older
 * epoch. `head_moved`: another entry was appended first, or the account is gone.
 */
export async function appendDeviceLogEntry(
  tx: Queryable,
  change: DeviceLogChange,
): Promise<'appended' | 'head_moved' | 'key_taken'> {
  const { userId, seq, head, prevHead, epoch } = change
  // Keys before the user, as in a registration. A refusal of a key must not write, so it comes before the head moves,
  // whose row lock holds off append_events on the same user until this transaction ends: no event slips past a cut.
  await lockKeys(tx, change.added)
  if (await isAnyKeyTaken(tx, change.added)) {
    // The same entry sent twice at once took its own key: its sender shall look at the log, not make other keys.
    const isNewest = (await tx.query(findHead, [userId, seq - 1, prevHead])).length > 0
    return isNewest ? 'key_taken' : 'head_moved'
  }
  const moved = await tx.query(moveHead, [userId, seq, head, seq - 1, prevHead])
  if (moved.length === 0) return 'head_moved'
  if (epoch !== undefined) await tx.query(moveEpoch, [userId, epoch.n, seq])
  await applyEffects(tx, change)
  await appendAudit(tx, userId, notesOf(change))
  if (change.isClosed) {
    await deleteAccount(tx, userId)
    // What the user's own chain said goes with him.
    await appendAudit(tx, SERVER_CHAIN, [{ kind: 'account.delete', detail: { user: hashForLog(userId) } }])
  }
  return 'appended'
}

const insertEntry: Statement = {
  name: 'insert_device_log_entry',
  text: 'insert into device_log (user_id, log_seq, entry, counted_device_id) values ($1, $2, $3, $4)',
}

const insertDevice: Statement = {
  name: 'insert_device',
  text: `
    insert into devices (user_id, device_id, ed_pub, role, added_log_seq, last_log_seq, last_chain, added_by)
    values ($1, $2, $3, $4, $5, $5, $6, $7)`,
}

// A revoked device's boxes go with it: it shall open nothing again, and nobody else can.
const revokeDevice: Statement = {
  name: 'revoke_device',
  text: `
    with dropped as (
      delete from key_envelopes as k
      where k.user_id = $1 and k.device_id = $2
    )
    update devices as d
    set revoked_log_seq = $3, revoked_at = now()
    where d.user_id = $1 and d.device_id = $2`,
}

// It reads on, so its boxes stay.
const suspendDevice: Statement = {
  name: 'suspend_device',
  text: `
    update devices as d
    set suspended_log_seq = $3, suspended_at = now()
    where d.user_id = $1 and d.device_id = $2`,
}

const cutDevice: Statement = {
  name: 'cut_device',
  text: `
    update devices as d
    set cut_device_seq = $3, cut_chain = $4
    where d.user_id = $1 and d.device_id = $2`,
}

const changeRole: Statement = {
  name: 'change_role',
  text: `
    update devices as d
    set role = $3
    where d.user_id = $1 and d.device_id = $2`,
}

const insertEpoch: Statement = {
  name: 'insert_key_epoch',
  text: 'insert into key_epochs (user_id, epoch, log_seq) values ($1, $2, $3)',
}

const insertLink: Statement = {
  name: 'insert_key_link',
  text: 'insert into key_links (user_id, epoch, prev_epoch, box) values ($1, $2, $3, $4)',
}

const insertEnvelope: Statement = {
  name: 'insert_key_envelope',
  text: 'insert into key_envelopes (user_id, device_id, epoch, box) values ($1, $2, $3, $4)',
}

async function applyEffects(tx: Queryable, change: DeviceLogChange): Promise<void> {
  const { userId, seq, epoch } = change
  await tx.query(insertEntry, [userId, seq, change.entry, change.countedDeviceId ?? null])
  for (const device of change.added) {
    const { deviceId, edPub, role, chain, addedBy } = device
    await tx.query(insertDevice, [userId, deviceId, edPub, role, seq, chain, addedBy ?? null])
  }
  // In the order of their keys, as whoever else locks several devices.
  const revoked = [...change.revoked].sort((a, b) => Buffer.compare(a, b))
  for (const deviceId of revoked) await tx.query(revokeDevice, [userId, deviceId, seq])
  for (const deviceId of change.suspended) await tx.query(suspendDevice, [userId, deviceId, seq])
  for (const cut of change.cuts) await tx.query(cutDevice, [userId, cut.deviceId, cut.lastSeq, cut.chain])
  for (const { deviceId, role } of change.roles) await tx.query(changeRole, [userId, deviceId, role])
  if (epoch !== undefined) {
    await tx.query(insertEpoch, [userId, epoch.n, seq])
    for (const { prevEpoch, box } of epoch.links) await tx.query(insertLink, [userId, epoch.n, prevEpoch, box])
  }
  for (const box of change.boxes) await tx.query(insertEnvelope, [userId, box.deviceId, box.epoch, box.box])
  if (change.pendingClose === 'asked') await insertPendingClose(tx, userId, seq)
  if (change.pendingClose === 'dropped') await deletePendingClose(tx, userId)
}

const findTakenKey: Statement = {
  name: 'find_taken_key',
  text: `
    select d.device_id
    from devices as d
    where d.device_id = $1
    limit 1`,
}

/** A device belongs to one user for ever. Its key is locked before. */
async function isAnyKeyTaken(tx: Queryable, devices: readonly NewDevice[]): Promise<boolean> {
  for (const device of devices) if ((await tx.query(findTakenKey, [device.deviceId])).length > 0) return true
  return false
}

/** Advisory locks with two numbers are apart from those with one: the first is "vkey". */
const KEY_LOCKS = 0x76_6b_65_79

const lockKey: Statement = { name: 'lock_device_key', text: 'select pg_advisory_xact_lock($1, $2)' }

/**
 * Until the transaction ends, nobody else takes one of these keys, for whichever user: no unique index can say so, because
 * the table may be distributed by user_id. In one order, so that no two wait for each other. Keys that begin alike share
 * a lock, which costs a wait and nothing else.
 */
async function lockKeys(tx: Queryable, devices: readonly NewDevice[]): Promise<void> {
  const numbers = devices.map(({ deviceId }) => Buffer.from(deviceId).readInt32BE(0))
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) await tx.query(lockKey, [KEY_LOCKS, number])
}
