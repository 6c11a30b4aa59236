// The order of a device's sessions (SES-3): each begins with the next number of the device's row, which every node sees
// alike, whoever was heard first; a number ends older sessions once its own is known to stand. And when a device was
// last seen, for its user's other devices.

import type { Queryable, Statement } from '../postgres.ts'
import { formatByteaArray, formatIntegers } from '../values.ts'
import {
  type DeviceForSession,
  type DeviceKey,
  type DeviceRow,
  deviceKeyText,
  packKeys,
  SESSION_COLUMNS,
  toDeviceForSession,
} from './devices.ts'

/** Of the user and the device that `asked` names, its other devices that are not revoked: one row. */
const othersOf = (asked: { readonly userId: string; readonly deviceId: string }): string => `
      (
        select
          string_agg(other.device_id, ''::bytea order by other.device_id) as device_ids,
          array_agg(
            coalesce((date_part('epoch', other.last_seen_at) * 1000)::bigint, 0) order by other.device_id
          ) as last_seen_at_ms
        from devices as other
        where
          other.user_id = ${asked.userId}
          and other.device_id <> ${asked.deviceId}
          and other.revoked_at is null
      ) as others`

const RETURNING = `
    returning${SESSION_COLUMNS},
      d.session_number,
      others.device_ids as other_device_ids,
      others.last_seen_at_ms as other_last_seen_at_ms`

const begin: Statement = {
  name: 'begin_session',
  text: `
    update devices as d
    set session_number = d.session_number + 1, last_seen_at = now()
    from
      users as u,${othersOf({ userId: '$1', deviceId: '$2' })}
    where
      d.user_id = $1
      and d.device_id = $2
      and d.revoked_at is null
      and u.user_id = d.user_id
      and u.deleted_at is null${RETURNING}`,
}

// Of several rows a batch locks none that it would have to wait for: so it neither holds up its neighbours nor can it
// be part of a deadlock, in whatever order it comes to them.
const beginSeveral: Statement = {
  name: 'begin_sessions',
  operation: 'update',
  text: `
    with
    free as (
      select d.user_id, d.device_id
      from unnest($1::bytea[], $2::bytea[]) as asked (user_id, device_id)
      join devices as d on d.user_id = asked.user_id and d.device_id = asked.device_id
      where d.revoked_at is null
      for no key update of d skip locked
    )
    update devices as d
    set session_number = d.session_number + 1, last_seen_at = now()
    from
      free as f
      join users as u on u.user_id = f.user_id
      cross join lateral${othersOf({ userId: 'f.user_id', deviceId: 'f.device_id' })}
    where
      d.user_id = f.user_id
      and d.device_id = f.device_id
      and d.revoked_at is null
      and u.deleted_at is null${RETURNING}`,
}

export interface SeenDevice {
  readonly deviceId: Uint8Array
  /** Undefined when it never had a session. */
  readonly lastSeenAtMs: number | undefined
}

export interface BegunSession {
  readonly device: DeviceForSession
  /** Higher than that of every earlier session of the device, on any node. */
  readonly number: number
  /** The user's other devices that are not revoked, read in the same round trip. */
  readonly others: readonly SeenDevice[]
}

interface BegunRow extends DeviceRow {
  readonly session_number: number
  /** 16 bytes a device; null as the times when there is no other. */
  readonly other_device_ids: Uint8Array | null
  /** 0 when never seen. */
  readonly other_last_seen_at_ms: number[] | null
}

/** Undefined when the device is unknown, revoked, or of a deleted account. */
export async function beginSession(
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
): Promise<BegunSession | undefined> {
  const [row] = await db.query<BegunRow>(begin, [userId, deviceId])
  return row && toBegunSession(row)
}

/**
 * As `beginSession` for each of them, which are different devices, in one round trip. Undefined also where the device's
 * row is locked by another transaction: then `beginSession` waits for it, and says what is so.
 */
export async function beginFreeSessions(
  db: Queryable,
  keys: readonly DeviceKey[],
): Promise<(BegunSession | undefined)[]> {
  const rows = await db.query<BegunRow>(beginSeveral, packKeys(keys))
  const byKey = new Map(rows.map(toBegunSession).map((begun) => [deviceKeyText(begun.device), begun]))
  return keys.map((key) => byKey.get(deviceKeyText(key)))
}

const toBegunSession = (row: BegunRow): BegunSession => ({
  device: toDeviceForSession(row),
  number: row.session_number,
  others: readOthers(row),
})

function readOthers({ other_device_ids: ids, other_last_seen_at_ms: times }: BegunRow): SeenDevice[] {
  if (ids === null || times === null) return []
  return times.map((lastSeenAtMs, i) => ({
    deviceId: new Uint8Array(ids.subarray(16 * i, 16 * i + 16)),
    lastSeenAtMs: lastSeenAtMs || undefined,
  }))
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
