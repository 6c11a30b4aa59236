// The order of a device's sessions (SES-3): each begins with the next number of the device's row, which every node sees
// alike, whoever was heard first; a number ends older sessions once its own is known to stand. And when a device was
// last seen, for its user's other devices.

import type { Queryable, Statement } from '../postgres.ts'
import { formatByteaArray, formatIntegers } from '../values.ts'
import { type DeviceForSession, type DeviceRow, SESSION_COLUMNS, toDeviceForSession } from './devices.ts'

const begin: Statement = {
  name: 'begin_session',
  text: `
    update devices as d
    set session_number = d.session_number + 1, last_seen_at = now()
    from users as u
    where
      d.user_id = $1
      and d.device_id = $2
      and d.revoked_at is null
      and u.user_id = d.user_id
      and u.deleted_at is null
    returning${SESSION_COLUMNS},
      d.session_number`,
}

export interface BegunSession {
  readonly device: DeviceForSession
  /** Higher than that of every earlier session of the device, on any node. */
  readonly number: number
}

/** Undefined when the device is unknown, revoked, or of a deleted account. */
export async function beginSession(
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
): Promise<BegunSession | undefined> {
  const [row] = await db.query<DeviceRow & { readonly session_number: number }>(begin, [userId, deviceId])
  return row === undefined ? undefined : { device: toDeviceForSession(row), number: row.session_number }
}

export interface NumberedSession {
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly number: number
}

const formatSessions = (sessions: readonly NumberedSession[]): string[] => [
  formatByteaArray(sessions.map(({ userId }) => userId)),
  formatByteaArray(sessions.map(({ deviceId }) => deviceId)),
  formatIntegers(sessions.map(({ number }) => number)),
]

const confirm: Statement = {
  name: 'confirm_sessions',
  text: `
    with begun as (
      select d.user_id, d.device_id, given.session_number
      from unnest($1::bytea[], $2::bytea[], $3::bigint[]) as given (user_id, device_id, session_number)
      join devices as d on d.user_id = given.user_id and d.device_id = given.device_id
      order by d.user_id, d.device_id
      for no key update of d
    )
    update devices as d
    set begun_session_number = greatest(d.begun_session_number, begun.session_number)
    from begun
    where d.user_id = begun.user_id and d.device_id = begun.device_id`,
}

/** These sessions stand: of each device, those with lower numbers are superseded. */
export async function confirmSessions(db: Queryable, begun: readonly NumberedSession[]): Promise<void> {
  if (begun.length > 0) await db.query(confirm, formatSessions(begun))
}

/** Why a session that is held must end: a newer one, a device that is one no more, an account that is gone. */
export type SessionEnding =
  | { readonly type: 'superseded'; readonly deviceId: Uint8Array; readonly number: number }
  | { readonly type: 'revoked'; readonly deviceId: Uint8Array }
  | { readonly type: 'deleted'; readonly deviceId: Uint8Array }

const findEnded: Statement = {
  name: 'find_ended_sessions',
  text: `
    select
      held.device_id,
      d.begun_session_number,
      d.revoked_at is not null as is_revoked,
      u.deleted_at is not null as is_deleted
    from unnest($1::bytea[], $2::bytea[], $3::bigint[]) as held (user_id, device_id, session_number)
    left join devices as d on d.user_id = held.user_id and d.device_id = held.device_id
    left join users as u on u.user_id = d.user_id
    where d.device_id is null or d.revoked_at is not null or d.begun_session_number > held.session_number`,
}

interface EndedRow {
  readonly device_id: Uint8Array
  readonly begun_session_number: number | null
  readonly is_revoked: boolean
  readonly is_deleted: boolean
}

/** Of the given sessions those that must end; of a superseded one with the newest number that is confirmed. */
export async function findEndedSessions(db: Queryable, held: readonly NumberedSession[]): Promise<SessionEnding[]> {
  if (held.length === 0) return []
  const rows = await db.query<EndedRow>(findEnded, formatSessions(held))
  return rows.map(({ device_id: deviceId, begun_session_number: number, is_revoked, is_deleted }) => {
    // The devices of a deleted account are revoked, too.
    if (number === null || is_deleted) return { type: 'deleted', deviceId }
    return is_revoked ? { type: 'revoked', deviceId } : { type: 'superseded', deviceId, number }
  })
}

export interface SeenDevice {
  readonly deviceId: Uint8Array
  /** Undefined when it never had a session. */
  readonly lastSeenAtMs: number | undefined
}

const readSeen: Statement = {
  name: 'read_seen_devices',
  text: `
    select d.device_id, (date_part('epoch', d.last_seen_at) * 1000)::bigint as last_seen_at_ms
    from devices as d
    where d.user_id = $1 and d.revoked_at is null
    order by d.device_id`,
}

/** The user's devices that are not revoked. */
export async function readSeenDevices(db: Queryable, userId: Uint8Array): Promise<SeenDevice[]> {
  const rows = await db.query<{ device_id: Uint8Array; last_seen_at_ms: number | null }>(readSeen, [userId])
  return rows.map((row) => ({ deviceId: row.device_id, lastSeenAtMs: row.last_seen_at_ms ?? undefined }))
}

const noteSeen: Statement = {
  name: 'note_device_seen',
  text: `
    update devices as d
    set last_seen_at = greatest(d.last_seen_at, to_timestamp($3 / 1000.0))
    where d.user_id = $1 and d.device_id = $2 and d.revoked_at is null`,
}

/** Never goes back; a revoked device, or one of a deleted account, stays as it is. */
export async function noteDeviceSeen(
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
  atMs: number,
): Promise<void> {
  await db.query(noteSeen, [userId, deviceId, atMs])
}
