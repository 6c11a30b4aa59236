// The event log: append a batch, read a page after a cursor, read heads. A page travels as columns (one row of
// arrays and concatenated bytes), because a row an event costs the driver several times as much.
// More than 300 lines: what is appended and what is read back are the same columns, packed and unpacked here.

import { DEFAULT_LIMITS, type EventLeaf, toHex } from '@valise/protocol'
import type { Queryable, Statement } from '../postgres.ts'
import { formatByteaArray, formatIntegers } from '../values.ts'
import { type AppendResultRow, type AppendRun, type AppendVerdict, packRuns, readVerdicts } from './append-batch.ts'
import { type AppendRunRow, packRun, readRunVerdicts, soleRun } from './append-run.ts'

export type { AppendEvent, AppendRun, AppendVerdict } from './append-batch.ts'

const append: Statement = {
  name: 'append_events',
  operation: 'insert',
  text: `
    select
      run_states, run_last_seqs, run_firsts, run_lasts, run_causes, run_retries_ms, stored_at_ms, user_seqs, stream_seqs,
      known_events, known_is_same, known_user_seqs, known_stream_seqs, known_stored_at_ms
    from append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
}

const appendOne: Statement = {
  name: 'append_run',
  operation: 'insert',
  text: `
    select first_user_seq, first_stream_seq, stored_at_ms
    from append_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
}

export interface AppendLimits {
  readonly maxStreams: number
  /** Of sealed events, a user; undefined: no limit. */
  readonly maxUserBytes?: number | undefined
}

const DEFAULT_APPEND_LIMITS: AppendLimits = { maxStreams: DEFAULT_LIMITS.max_streams }

const packLimits = ({ maxStreams, maxUserBytes }: AppendLimits): unknown[] => [maxStreams, maxUserBytes ?? null]

/**
 * Stores what continues each device's chain and answers one verdict an event, in the order of the runs (ORD-1 to ORD-4).
 * One transaction, one round trip, durable when it resolves; user_seq follows the order of the runs. A device has at
 * most one run. Rejects, with nothing stored, when the database is out of reach or refuses a row (`isRefusedData`).
 * One run of one stream takes a short way; the round trip is a second one when there is something to refuse in it.
 */
export async function appendRuns(
  db: Queryable,
  runs: readonly AppendRun[],
  limits: AppendLimits = DEFAULT_APPEND_LIMITS,
): Promise<AppendVerdict[]> {
  const run = soleRun(runs)
  if (run !== undefined) {
    const [row] = await db.query<AppendRunRow>(appendOne, [...packRun(run), ...packLimits(limits)])
    const verdicts = readRunVerdicts(run, row)
    if (verdicts !== undefined) return verdicts
  }
  return appendBatch(db, runs, limits)
}

/** As `appendRuns`, without the short way. */
export async function appendBatch(
  db: Queryable,
  runs: readonly AppendRun[],
  limits: AppendLimits = DEFAULT_APPEND_LIMITS,
): Promise<AppendVerdict[]> {
  if (runs.length === 0) return []
  const [row] = await db.query<AppendResultRow>(append, [...packRuns(runs), ...packLimits(limits)])
  if (row === undefined) throw new Error('append_events answered nothing')
  return readVerdicts(runs, row)
}

interface LogPlace {
  readonly userSeq: number
  readonly streamSeq: number
  readonly storedAtMs: number
  readonly deviceId: Uint8Array
  readonly deviceSeq: number
}

export interface WholeItem extends LogPlace {
  readonly wire: Uint8Array
}

/** Its bytes are gone, or their lifetime is over: the leaf alone closes the chain. */
interface BareItem extends LogPlace {
  readonly wire: undefined
  readonly leaf: EventLeaf
}

export type LogItem = WholeItem | BareItem

export interface PageOptions {
  readonly maxEvents: number
  /** Of wire bytes; the first event is given however large it is. */
  readonly maxBytes: number
  /** Its events are left out, but counted in `through` and `maxEvents`. */
  readonly excludeDeviceId?: Uint8Array | undefined
  /** Unix milliseconds; default: the database's clock. */
  readonly nowMs?: number | undefined
}

export interface EventPage {
  /** In user_seq order. */
  readonly items: LogItem[]
  /** The user_seq up to which the page is complete: the cursor of the next one. */
  readonly through: number
  /** Up to here retention or quota took the bytes of what no lifetime had ended; 0 when it took none. */
  readonly prunedThrough: number
  /** When it was read, by the database's clock, Unix milliseconds: what lifetimes took of it had ended by then. */
  readonly atMs: number
  /** The user's newest user_seq then. */
  readonly head: number
}

// The clock is read after the snapshot was made, so that no expiry seen in it is newer.
const readPage: Statement = {
  name: 'read_events_after',
  text: `
    with
    candidate as (
      select
        e.user_seq,
        e.stream_seq,
        e.stored_at,
        e.device_id,
        e.device_seq,
        case when e.expires_at <= coalesce(to_timestamp($6 / 1000.0), now()) then null else e.wire end as wire,
        e.wire as stored_wire,
        e.inner_hash,
        e.ttl_s,
        e.flags,
        e.device_id is distinct from $5 as is_wanted
      from events as e
      where e.user_id = $1 and e.user_seq > $2
      order by e.user_seq
      limit $3
    ),
    sized as (
      select c.*, case when c.is_wanted then coalesce(octet_length(c.wire), 0) else 0 end as size
      from candidate as c
    ),
    page as (
      select s.*, sum(s.size) over (order by s.user_seq) as bytes_through
      from sized as s
    )
    select
      max(p.user_seq) as through,
      (select s.pruned_through from user_storage as s where s.user_id = $1) as pruned_through,
      (select u.last_user_seq from users as u where u.user_id = $1) as head,
      coalesce($6::bigint, (date_part('epoch', clock_timestamp()) * 1000)::bigint) as at_ms,
      array_agg(p.user_seq) filter (where p.is_wanted) as user_seqs,
      array_agg(p.stream_seq) filter (where p.is_wanted) as stream_seqs,
      array_agg((date_part('epoch', p.stored_at) * 1000)::bigint) filter (where p.is_wanted) as stored_at_ms,
      string_agg(p.device_id, ''::bytea) filter (where p.is_wanted) as device_ids,
      array_agg(p.device_seq) filter (where p.is_wanted) as device_seqs,
      string_agg(coalesce(p.inner_hash, event_inner_hash(p.stored_wire)), ''::bytea)
        filter (where p.is_wanted and p.wire is null) as inner_hashes,
      array_agg(coalesce(p.ttl_s, event_ttl_s(p.stored_wire))) filter (where p.is_wanted and p.wire is null) as ttls_s,
      array_agg(coalesce(p.flags, event_flags(p.stored_wire))::integer)
        filter (where p.is_wanted and p.wire is null) as flags,
      array_agg(coalesce(octet_length(p.wire), -1)) filter (where p.is_wanted) as wire_lengths,
      string_agg(p.wire, ''::bytea) filter (where p.is_wanted) as wires
    from page as p
    where p.bytes_through <= $4 or p.bytes_through = p.size`,
}

interface PageRow {
  readonly through: number | null
  readonly pruned_through: number | null
  readonly user_seqs: number[] | null
  readonly stream_seqs: number[] | null
  readonly stored_at_ms: number[] | null
  readonly device_ids: Uint8Array | null
  readonly device_seqs: number[] | null
  /** Of the events without bytes, as the next two; null when there are none. */
  readonly inner_hashes: Uint8Array | null
  readonly ttls_s: number[] | null
  readonly flags: number[] | null
  readonly head: number | null
  readonly at_ms: number
  readonly wire_lengths: number[] | null
  /** Null when the bytes of every event of the page are gone. */
  readonly wires: Uint8Array | null
}

/** Reads at most `maxEvents` and `maxBytes` after a cursor. An empty page with `through` = the cursor is the head. */
export async function readEventsAfter(
  db: Queryable,
  userId: Uint8Array,
  afterUserSeq: number,
  { maxEvents, maxBytes, excludeDeviceId, nowMs }: PageOptions,
): Promise<EventPage> {
  const values = [userId, afterUserSeq, maxEvents, maxBytes, excludeDeviceId ?? null, nowMs ?? null]
  const [row] = await db.query<PageRow>(readPage, values)
  if (row === undefined) throw new Error('read_events_after answered nothing')
  return {
    items: splitPage(row),
    through: row.through ?? afterUserSeq,
    prunedThrough: row.pruned_through ?? 0,
    atMs: row.at_ms,
    head: row.head ?? 0,
  }
}

function splitPage(row: PageRow): LogItem[] {
  const { user_seqs, stream_seqs, stored_at_ms, device_ids, device_seqs, wire_lengths, wires } = row
  if (!user_seqs || !stream_seqs || !stored_at_ms || !device_ids || !device_seqs || !wire_lengths) return []
  let wireAt = 0
  let bareCount = 0
  return user_seqs.map((userSeq, i) => {
    const length = wire_lengths[i] ?? -1
    const place = {
      userSeq,
      streamSeq: stream_seqs[i] ?? 0,
      storedAtMs: stored_at_ms[i] ?? 0,
      deviceId: device_ids.subarray(16 * i, 16 * i + 16),
      deviceSeq: device_seqs[i] ?? 0,
    }
    if (length < 0 || wires === null) return { ...place, wire: undefined, leaf: leafAt(row, bareCount++) }
    const wire = wires.subarray(wireAt, wireAt + length)
    wireAt += length
    return { ...place, wire }
  })
}

const leafAt = ({ inner_hashes, ttls_s, flags }: PageRow, index: number): EventLeaf => ({
  ttlS: ttls_s?.[index] ?? 0,
  flags: flags?.[index] ?? 0,
  inner: inner_hashes?.subarray(32 * index, 32 * index + 32) ?? new Uint8Array(32),
})

const findStored: Statement = {
  name: 'find_stored_event',
  text: `
    select e.chain, e.user_seq, e.stream_seq, (date_part('epoch', e.stored_at) * 1000)::bigint as stored_at_ms
    from events as e
    where e.user_id = $1 and e.device_id = $2 and e.device_seq = $3`,
}

export interface StoredPlace {
  /** The device's chain after it. */
  readonly chain: Uint8Array
  readonly userSeq: number
  readonly streamSeq: number
  readonly storedAtMs: number
}

/** Where a device's event stands; `undefined` when it was never stored. */
export async function findStoredEvent(
  db: Queryable,
  { userId, deviceId, deviceSeq }: { userId: Uint8Array; deviceId: Uint8Array; deviceSeq: number },
): Promise<StoredPlace | undefined> {
  const [row] = await db.query<{ chain: Uint8Array; user_seq: number; stream_seq: number; stored_at_ms: number }>(
    findStored,
    [userId, deviceId, deviceSeq],
  )
  if (row === undefined) return undefined
  return { chain: row.chain, userSeq: row.user_seq, streamSeq: row.stream_seq, storedAtMs: row.stored_at_ms }
}

export interface ChainPlace {
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly deviceSeq: number
}

export interface FoundChain {
  /** After the event at that place; undefined when the log has none there. */
  readonly chain: Uint8Array | undefined
  /** Of the device's newest event. */
  readonly lastDeviceSeq: number
}

const readChainsStatement: Statement = {
  name: 'read_chains',
  text: `
    select
      d.last_device_seq,
      (
        select e.chain
        from events as e
        where e.user_id = asked.user_id and e.device_id = asked.device_id and e.device_seq = asked.device_seq
      ) as chain
    from unnest($1::bytea[], $2::bytea[], $3::bigint[]) with ordinality as asked (user_id, device_id, device_seq, i)
    left join devices as d on d.user_id = asked.user_id and d.device_id = asked.device_id
    order by asked.i`,
}

/** One answer a place, in order; undefined for a device that the user does not have. */
export async function readChains(db: Queryable, places: readonly ChainPlace[]): Promise<(FoundChain | undefined)[]> {
  if (places.length === 0) return []
  const rows = await db.query<{ last_device_seq: number | null; chain: Uint8Array | null }>(readChainsStatement, [
    formatByteaArray(places.map(({ userId }) => userId)),
    formatByteaArray(places.map(({ deviceId }) => deviceId)),
    formatIntegers(places.map(({ deviceSeq }) => deviceSeq)),
  ])
  return rows.map((row) =>
    row.last_device_seq === null ? undefined : { chain: row.chain ?? undefined, lastDeviceSeq: row.last_device_seq },
  )
}

const readHeadsStatement: Statement = {
  name: 'read_heads',
  text: `
    select u.user_id, u.last_user_seq
    from users as u
    where u.user_id = any ($1::bytea[])`,
}

/** The newest user_seq by user id in hexadecimal; unknown users are left out. */
export async function readHeads(db: Queryable, userIds: readonly Uint8Array[]): Promise<Map<string, number>> {
  if (userIds.length === 0) return new Map()
  const rows = await db.query<{ user_id: Uint8Array; last_user_seq: number }>(readHeadsStatement, [
    formatByteaArray(userIds),
  ])
  return new Map(rows.map((row) => [toHex(row.user_id), row.last_user_seq]))
}
