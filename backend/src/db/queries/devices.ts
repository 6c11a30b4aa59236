// Devices as a session needs them: who it is, whether it may come in, where its own sequence and its cursor stand.

import { toHex } from '@valise/protocol'
import type { Queryable, Statement } from '../postgres.ts'
import { formatByteaArray } from '../values.ts'

export interface DeviceForSession {
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly edPub: Uint8Array
  /** 1 member, 2 manager, 3 recovery. */
  readonly role: number
  /** The seq of the entry that revoked it; undefined while it is active. */
  readonly revokedSeq: number | undefined
  /** The seq of the entry that suspended it; undefined while none has. */
  readonly suspendedSeq: number | undefined
  readonly lastDeviceSeq: number
  readonly lastChain: Uint8Array
  readonly cursor: number
  readonly user: {
    readonly lastUserSeq: number
    readonly logSeq: number
    readonly logHead: Uint8Array
    readonly keyEpoch: number
    readonly isDeleted: boolean
  }
}

/** Of a device that changes the device log and nothing else; no other role ever becomes it, and it none of them. */
export const RECOVERY_ROLE = 3

/** Of `devices as d` and `users as u`; what `DeviceRow` names. */
export const SESSION_COLUMNS = `
      d.user_id,
      d.device_id,
      d.ed_pub,
      d.role,
      d.revoked_log_seq,
      d.suspended_log_seq,
      d.last_device_seq,
      d.last_chain,
      d.cursor,
      u.last_user_seq,
      u.log_seq,
      u.log_head,
      u.key_epoch,
      u.deleted_at is not null as is_deleted`

const JOINED = `
    from devices as d
    join users as u on u.user_id = d.user_id`

const findOfUser: Statement = {
  name: 'find_device',
  text: `
    select${SESSION_COLUMNS}${JOINED}
    where d.user_id = $1 and d.device_id = $2`,
}

const findSeveral: Statement = {
  name: 'find_devices',
  text: `
    select${SESSION_COLUMNS}
    from unnest($1::bytea[], $2::bytea[]) as asked (user_id, device_id)
    join devices as d on d.user_id = asked.user_id and d.device_id = asked.device_id
    join users as u on u.user_id = d.user_id`,
}

// The one statement without a user: a recovery device knows nothing but its keys. Should a database of earlier versions
// have two accounts made with one phrase at the same moment, the newer one that lives is meant.
const findRecovery: Statement = {
  name: 'find_recovery_device',
  text: `
    select${SESSION_COLUMNS}${JOINED}
    where d.device_id = $1
    order by u.deleted_at is null desc, d.revoked_at is null desc, d.added_at desc, d.user_id
    limit 1`,
}

export interface DeviceRow {
  readonly user_id: Uint8Array
  readonly device_id: Uint8Array
  readonly ed_pub: Uint8Array
  readonly role: number
  readonly revoked_log_seq: number | null
  readonly suspended_log_seq: number | null
  readonly last_device_seq: number
  readonly last_chain: Uint8Array
  readonly cursor: number
  readonly last_user_seq: number
  readonly log_seq: number
  readonly log_head: Uint8Array
  readonly key_epoch: number
  readonly is_deleted: boolean
}

/** Without `userId` (recovery) by the device alone. Revoked devices and those of deleted accounts are found too. */
export async function findDeviceForSession(
  db: Queryable,
  deviceId: Uint8Array,
  userId: Uint8Array | undefined,
): Promise<DeviceForSession | undefined> {
  const [row] =
    userId === undefined
      ? await db.query<DeviceRow>(findRecovery, [deviceId])
      : await db.query<DeviceRow>(findOfUser, [userId, deviceId])
  return row === undefined ? undefined : toDeviceForSession(row)
}

export interface DeviceKey {
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
}

export const deviceKeyText = ({ userId, deviceId }: DeviceKey): string => toHex(userId) + toHex(deviceId)

/** As `findDeviceForSession` for each of them, in one round trip. */
export async function findDevicesForSessions(
  db: Queryable,
  keys: readonly DeviceKey[],
): Promise<(DeviceForSession | undefined)[]> {
  const [key] = keys
  if (key !== undefined && keys.length === 1) return [await findDeviceForSession(db, key.deviceId, key.userId)]
  const rows = await db.query<DeviceRow>(findSeveral, packKeys(keys))
  const byKey = new Map(rows.map(toDeviceForSession).map((device) => [deviceKeyText(device), device]))
  return keys.map((wanted) => byKey.get(deviceKeyText(wanted)))
}

/** Two parallel arrays. */
export const packKeys = (keys: readonly DeviceKey[]): string[] => [
  formatByteaArray(keys.map(({ userId }) => userId)),
  formatByteaArray(keys.map(({ deviceId }) => deviceId)),
]

export function toDeviceForSession(row: DeviceRow): DeviceForSession {
  return {
    userId: row.user_id,
    deviceId: row.device_id,
    edPub: row.ed_pub,
    role: row.role,
    revokedSeq: row.revoked_log_seq ?? undefined,
    suspendedSeq: row.suspended_log_seq ?? undefined,
    lastDeviceSeq: row.last_device_seq,
    lastChain: row.last_chain,
    cursor: row.cursor,
    user: {
      lastUserSeq: row.last_user_seq,
      logSeq: row.log_seq,
      logHead: row.log_head,
      keyEpoch: row.key_epoch,
      isDeleted: row.is_deleted,
    },
  }
}

const moveCursor: Statement = {
  name: 'save_cursor',
  text: `
    update devices as d
    set cursor = greatest(d.cursor, $3), last_seen_at = now()
    where d.user_id = $1 and d.device_id = $2 and d.revoked_at is null`,
}

/** The cursor never goes back; the device counts as seen. A revoked device, or one of a deleted account, stays as it is. */
export async function saveCursor(
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
  cursor: number,
): Promise<void> {
  await db.query(moveCursor, [userId, deviceId, cursor])
}
