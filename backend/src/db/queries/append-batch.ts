// What is appended and what is answered: runs of events become the columns that `append_events` takes (integers and
// concatenated bytes), its row becomes one verdict an event. Pure; what the columns mean stands in the migration.

import type { ChainPosition } from '@valise/protocol'
import { formatIntegers } from '../values.ts'

export interface AppendEvent {
  readonly streamId: Uint8Array
  readonly eventId: Uint8Array
  /** The key epoch it is sealed under. */
  readonly epoch: number
  /** The newest entry of the device log that its device had seen, and the hash of that entry. */
  readonly logSeq: number
  readonly logHead: Uint8Array
  /** Seconds until its bytes are forgotten; 0: never. */
  readonly ttlS: number
  /** The device's chain after it: equal for the same event at the same place, and for no other. */
  readonly chain: Uint8Array
  readonly wire: Uint8Array
  /** The chains that a checkpoint names. */
  readonly checkpoint: readonly ChainPosition[] | undefined
}

/** Consecutive events of one device, each continuing the chain of the one before. At least one. */
export interface AppendRun {
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly firstSeq: number
  readonly chainPrev: Uint8Array
  readonly events: readonly AppendEvent[]
}

export type AppendVerdict =
  | {
      readonly status: 'stored' | 'duplicate'
      readonly deviceSeq: number
      readonly streamSeq: number
      readonly userSeq: number
      readonly storedAtMs: number
    }
  | { readonly status: 'gap'; readonly expected: number }
  /** `isCertain`: the limit is reached. Else pruning is behind, and may yet give something back. */
  | { readonly status: 'displacement'; readonly isCertain: true; readonly retryAfterMs: number }
  | { readonly status: 'displacement'; readonly isCertain: false }
  | {
      readonly status:
        | 'conflict'
        | 'chain_mismatch'
        | 'stale_epoch'
        | 'epoch_invalid'
        | 'log_seq_ahead'
        | 'log_seq_falls'
        | 'log_head_false'
        | 'checkpoint_false'
        | 'revoked'
        | 'suspended'
        | 'deleted'
        | 'stream_limit'
    }

export interface AppendResultRow {
  readonly run_states: number[]
  readonly run_last_seqs: number[]
  readonly run_firsts: number[]
  readonly run_lasts: number[]
  readonly run_causes: number[]
  /** 0 unless the cause is displacement, and then while pruning is behind. */
  readonly run_retries_ms: number[]
  readonly stored_at_ms: number
  /** Null when nothing was stored. */
  readonly user_seqs: number[] | null
  readonly stream_seqs: number[] | null
  /** Null when the log had none of the events before. */
  readonly known_events: number[] | null
  readonly known_is_same: boolean[] | null
  readonly known_user_seqs: number[] | null
  readonly known_stream_seqs: number[] | null
  readonly known_stored_at_ms: number[] | null
}

const RUN_STATE = { open: 0, gap: 1, chainMismatch: 2, revoked: 3, deleted: 4, suspended: 5 } as const
const CAUSE = { staleEpoch: 1, streamLimit: 2, epochInvalid: 3, logSeqFalls: 4, displacement: 5 } as const

/** The values of `append_events` but for its limits, in order. Throws a RangeError on ids or hashes of a wrong length. */
export function packRuns(runs: readonly AppendRun[]): unknown[] {
  const users = indexKeys(runs.map((run) => keyOf(run.userId, 32)))
  if (new Set(runs.map((run) => keyOf(run.userId, 32) + keyOf(run.deviceId, 16))).size < runs.length) {
    throw new RangeError('a device has one run in a batch')
  }
  const events: AppendEvent[] = []
  const eventStreamKeys: string[] = []
  const runEnds: number[] = []
  for (const run of runs) {
    if (run.events.length === 0) throw new RangeError('a run has at least one event')
    const userKey = keyOf(run.userId, 32)
    for (const event of run.events) {
      events.push(event)
      eventStreamKeys.push(userKey + keyOf(event.streamId, 16))
    }
    runEnds.push(events.length)
  }
  const streams = indexKeys(eventStreamKeys)
  const streamUsers = streams.keys.map((key) => users.indexOf(key.slice(0, 32)))
  const streamCounts = users.keys.map(() => 0)
  for (const user of streamUsers) streamCounts[user - 1] = (streamCounts[user - 1] ?? 0) + 1
  let wireEnd = 0
  return [
    bytesOfKeys(users.keys),
    formatIntegers(streamCounts),
    bytesOfKeys(streams.keys.map((key) => key.slice(32))),
    formatIntegers(streamUsers),
    formatIntegers(runs.map((run) => users.indexOf(keyOf(run.userId, 32)))),
    concatFixed(
      runs.map((run) => run.deviceId),
      16,
    ),
    formatIntegers(runs.map((run) => run.firstSeq)),
    concatFixed(
      runs.map((run) => run.chainPrev),
      32,
    ),
    formatIntegers(runEnds),
    formatIntegers(eventStreamKeys.map(streams.indexOf)),
    concatFixed(
      events.map((event) => event.eventId),
      16,
    ),
    formatIntegers(events.map((event) => event.epoch)),
    formatIntegers(events.map((event) => event.logSeq)),
    formatIntegers(events.map((event) => event.ttlS)),
    concatFixed(
      events.map((event) => event.chain),
      32,
    ),
    Buffer.concat(events.map((event) => event.wire)),
    formatIntegers(events.map((event) => (wireEnd += event.wire.length))),
  ]
}

/** Distinct keys in byte order, and the position of each, from 1. */
function indexKeys(keys: readonly string[]): { keys: string[]; indexOf(key: string): number } {
  const distinct = [...new Set(keys)].sort()
  const indexByKey = new Map(distinct.map((key, i) => [key, i + 1]))
  return { keys: distinct, indexOf: (key) => indexByKey.get(key) ?? 0 }
}

/** One character a byte, so that keys sort as their bytes do. */
function keyOf(id: Uint8Array, length: number): string {
  if (id.length !== length) throw new RangeError(`expected an id of ${length} bytes`)
  return Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')
}

const bytesOfKeys = (keys: readonly string[]): Buffer => Buffer.from(keys.join(''), 'latin1')

export function concatFixed(parts: readonly Uint8Array[], length: number): Buffer {
  // A part of another length would shift all that follow it: the neighbours' bytes under this event's name.
  for (const part of parts) if (part.length !== length) throw new RangeError(`expected ${length} bytes`)
  return Buffer.concat(parts)
}

export function readVerdicts(runs: readonly AppendRun[], row: AppendResultRow): AppendVerdict[] {
  const verdicts: AppendVerdict[] = []
  const knownByEvent = new Map((row.known_events ?? []).map((event, i) => [event, i]))
  let storedCount = 0
  for (const [r, run] of runs.entries()) {
    const first = row.run_firsts[r] ?? 0
    const last = row.run_lasts[r] ?? 0
    for (let offset = 0; offset < run.events.length; offset++) {
      const event = verdicts.length + 1
      if (event >= first && event <= last) {
        verdicts.push({
          status: 'stored',
          deviceSeq: run.firstSeq + offset,
          streamSeq: row.stream_seqs?.[storedCount] ?? 0,
          userSeq: row.user_seqs?.[storedCount] ?? 0,
          storedAtMs: row.stored_at_ms,
        })
        storedCount++
        continue
      }
      const known = knownByEvent.get(event)
      verdicts.push(
        known === undefined
          ? refusalOf(row, r, event - last, run.firstSeq + offset)
          : knownVerdict(row, known, run.firstSeq + offset),
      )
    }
  }
  return verdicts
}

function knownVerdict(row: AppendResultRow, known: number, deviceSeq: number): AppendVerdict {
  if (row.known_is_same?.[known] !== true) return { status: 'conflict' }
  return {
    status: 'duplicate',
    deviceSeq,
    streamSeq: row.known_stream_seqs?.[known] ?? 0,
    userSeq: row.known_user_seqs?.[known] ?? 0,
    storedAtMs: row.known_stored_at_ms?.[known] ?? 0,
  }
}

/** `distance` is 1 for the first event of the run that is not stored: it has the cause, those after it a gap. */
function refusalOf(row: AppendResultRow, r: number, distance: number, deviceSeq: number): AppendVerdict {
  switch (row.run_states[r]) {
    case RUN_STATE.deleted:
      return { status: 'deleted' }
    case RUN_STATE.revoked:
      return { status: 'revoked' }
    case RUN_STATE.suspended:
      return { status: 'suspended' }
    case RUN_STATE.chainMismatch:
      return { status: 'chain_mismatch' }
    case RUN_STATE.gap:
      return { status: 'gap', expected: (row.run_last_seqs[r] ?? 0) + 1 }
    default:
      if (distance > 1) return { status: 'gap', expected: deviceSeq - distance + 1 }
      return causeOf(row, r)
  }
}

function causeOf(row: AppendResultRow, r: number): AppendVerdict {
  switch (row.run_causes[r]) {
    case CAUSE.staleEpoch:
      return { status: 'stale_epoch' }
    case CAUSE.streamLimit:
      return { status: 'stream_limit' }
    case CAUSE.epochInvalid:
      return { status: 'epoch_invalid' }
    case CAUSE.logSeqFalls:
      return { status: 'log_seq_falls' }
    case CAUSE.displacement: {
      const retryAfterMs = row.run_retries_ms[r] ?? 0
      return retryAfterMs > 0
        ? { status: 'displacement', isCertain: true, retryAfterMs }
        : { status: 'displacement', isCertain: false }
    }
    default:
      throw new Error('append_events stored less than a run and did not say why')
  }
}
