// What the server's own rules of the device log ask of the rows (DEV-15). Each is read before the transaction that appends:
// an entry appended meanwhile moves the head, and the compare-and-swap then refuses this one.

import type { Queryable, Statement } from '../postgres.ts'

const readUntilSettled: Statement = {
  name: 'read_ms_until_settled',
  text: `
    select date_part('epoch', l.appended_at - clock_timestamp()) * 1000 + $3 as left_ms
    from device_log as l
    where l.user_id = $1 and l.log_seq = $2`,
}

/** Milliseconds until the entry is `pendingMs` old, by the database's clock; negative when it is older. */
export async function readMsUntilSettled(
  db: Queryable,
  userId: Uint8Array,
  logSeq: number,
  pendingMs: number,
): Promise<number> {
  const [row] = await db.query<{ left_ms: number }>(readUntilSettled, [userId, logSeq, pendingMs])
  if (row === undefined) throw new Error(`entry ${logSeq} of a device log is missing`)
  return row.left_ms
}

const readCounted: Statement = {
  name: 'read_counted_entries',
  text: `
    select
      l.counted_device_id = $2 as is_own,
      date_part('epoch', l.appended_at - clock_timestamp()) * 1000 + $3 as left_ms
    from device_log as l
    where l.user_id = $1
      and l.counted_device_id is not null
      and l.appended_at > clock_timestamp() - make_interval(secs => $3 / 1000.0)
    order by l.appended_at desc
    limit $4`,
}

export interface CountedEntry {
  readonly isOwn: boolean
  /** Until it counts no longer. */
  readonly leftMs: number
}

/** The entries of the last `windowMs` that count against a limit, the newest first, at most `limit`. */
export async function readCountedEntries(
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
  { windowMs, limit }: { readonly windowMs: number; readonly limit: number },
): Promise<CountedEntry[]> {
  const rows = await db.query<{ is_own: boolean; left_ms: number }>(readCounted, [userId, deviceId, windowMs, limit])
  return rows.map((row) => ({ isOwn: row.is_own, leftMs: row.left_ms }))
}

const readChain: Statement = {
  name: 'read_chain_at',
  text: `
    select e.chain
    from events as e
    where e.user_id = $1 and e.device_id = $2 and e.device_seq = $3`,
}

/** The chain of a device after one of its events, which has to be stored. */
export async function chainAt(
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
  deviceSeq: number,
): Promise<Uint8Array | undefined> {
  const [row] = await db.query<{ chain: Uint8Array }>(readChain, [userId, deviceId, deviceSeq])
  return row?.chain
}
