// The short way of one run of events in one stream: the values that `append_run` takes, and the verdicts of a run it
// stored. Pure; what decides stands in the migration.

import { equalBytes } from '@valise/protocol'
import { formatIntegers } from '../values.ts'
import { type AppendRun, type AppendVerdict, concatFixed } from './append-batch.ts'

export interface AppendRunRow {
  /** Null, as the others, when nothing was stored: there is something to say about the run. */
  readonly first_user_seq: number | null
  readonly first_stream_seq: number | null
  readonly stored_at_ms: number | null
}

/** The run that `runs` are, when `append_run` can be asked for it. */
export function soleRun(runs: readonly AppendRun[]): AppendRun | undefined {
  const [run] = runs
  if (run === undefined || runs.length > 1) return undefined
  let before = run.events[0]
  if (before === undefined) return undefined
  const { streamId } = before
  for (const event of run.events) {
    if (event.streamId !== streamId && !equalBytes(event.streamId, streamId)) return undefined
    if (event.epoch !== before.epoch || event.logSeq < before.logSeq) return undefined
    before = event
  }
  return run
}

/** The values of `append_run` but for its limits, in order. Throws a RangeError on ids or hashes of a wrong length. */
export function packRun({ userId, deviceId, firstSeq, chainPrev, events }: AppendRun): unknown[] {
  const [first] = events
  const last = events.at(-1)
  if (first === undefined || last === undefined) throw new RangeError('a run has at least one event')
  let wireEnd = 0
  return [
    concatFixed([userId], 32),
    concatFixed([deviceId], 16),
    firstSeq,
    events.length,
    concatFixed([chainPrev], 32),
    concatFixed([last.streamId], 16),
    last.epoch,
    first.logSeq,
    last.logSeq,
    concatFixed(
      events.map((event) => event.eventId),
      16,
    ),
    formatIntegers(events.map((event) => event.ttlS)),
    concatFixed(
      events.map((event) => event.chain),
      32,
    ),
    Buffer.concat(events.map((event) => event.wire)),
    formatIntegers(events.map((event) => (wireEnd += event.wire.length))),
  ]
}

/** Undefined when the run was not stored. */
export function readRunVerdicts(run: AppendRun, row: AppendRunRow | undefined): AppendVerdict[] | undefined {
  const userSeq = row?.first_user_seq ?? undefined
  const streamSeq = row?.first_stream_seq ?? undefined
  const storedAtMs = row?.stored_at_ms ?? undefined
  if (userSeq === undefined || streamSeq === undefined || storedAtMs === undefined) return undefined
  return run.events.map((_event, i) => ({
    status: 'stored',
    deviceSeq: run.firstSeq + i,
    streamSeq: streamSeq + i,
    userSeq: userSeq + i,
    storedAtMs,
  }))
}
