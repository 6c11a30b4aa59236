// How waiting submissions become one batch of the log: a run of consecutive events a device, at most one run a device.
// Pure; intake.ts decides when.

import { equalBytes } from '@valise/protocol'
import type { AppendEvent, AppendRun } from '../db/queries/events.ts'
import type { TraceContext } from '../telemetry/tracing.ts'

export interface SubmittedEvent extends AppendEvent {
  readonly deviceSeq: number
  readonly chainPrev: Uint8Array
}

/** Consecutive events of one device, at least one, each continuing the chain of the one before. */
export interface Submission {
  /** Text forms of the ids, as map keys. */
  readonly userKey: string
  readonly deviceKey: string
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly events: readonly SubmittedEvent[]
  /** When the message that published them arrived, by a clock that never goes back. */
  readonly arrivedAtMs: number
  /** Of the span of that message, when it is traced. */
  readonly trace?: TraceContext | undefined
}

export const submissionBytes = (submission: Submission): number =>
  submission.events.reduce((sum, event) => sum + event.wire.length, 0)

/** True when `next` is the event right after `last` in a device's chain. */
export function continuesChain(last: SubmittedEvent, next: SubmittedEvent): boolean {
  return next.deviceSeq === last.deviceSeq + 1 && equalBytes(next.chainPrev, last.chain)
}

/** Splits events, in the order they came, where one does not continue the one before. */
export function splitRuns(events: readonly SubmittedEvent[]): SubmittedEvent[][] {
  const runs: SubmittedEvent[][] = []
  for (const event of events) {
    const run = runs.at(-1)
    const last = run?.at(-1)
    if (run !== undefined && last !== undefined && continuesChain(last, event)) run.push(event)
    else runs.push([event])
  }
  return runs
}

/** One device's share of a batch: submissions that continue each other. */
export interface DeviceShare<Item extends { readonly submission: Submission }> {
  readonly items: Item[]
}

export function canJoin<Item extends { readonly submission: Submission }>(
  share: DeviceShare<Item> | undefined,
  submission: Submission,
): boolean {
  const last = share?.items.at(-1)?.submission.events.at(-1)
  const first = submission.events[0]
  return last === undefined || (first !== undefined && continuesChain(last, first))
}

export function toRun(submissions: readonly Submission[]): AppendRun {
  const first = submissions[0]
  const firstEvent = first?.events[0]
  if (first === undefined || firstEvent === undefined) throw new RangeError('a run has at least one event')
  return {
    userId: first.userId,
    deviceId: first.deviceId,
    firstSeq: firstEvent.deviceSeq,
    chainPrev: firstEvent.chainPrev,
    events: submissions.flatMap((submission) => submission.events),
  }
}

/** Two batches that together are the one given, or `undefined` when it is a single event. */
export function halveRuns(runs: readonly AppendRun[]): readonly [AppendRun[], AppendRun[]] | undefined {
  if (runs.length > 1) {
    const middle = runs.length >> 1
    return [runs.slice(0, middle), runs.slice(middle)]
  }
  const run = runs[0]
  if (run === undefined || run.events.length < 2) return undefined
  const middle = run.events.length >> 1
  const chainPrev = run.events[middle - 1]?.chain ?? run.chainPrev
  return [
    [{ ...run, events: run.events.slice(0, middle) }],
    [{ ...run, firstSeq: run.firstSeq + middle, chainPrev, events: run.events.slice(middle) }],
  ]
}
