// Group commit (DESIGN 5.3): events of many connections become few transactions. Idle, a batch leaves at once; busy, it
// gathers what arrives while others are in flight, so the deeper the queue, the bigger the batch. One batch in flight a
// user. Bounded in bytes: over the bound, `onPressure` stops the sockets, and TCP pushes back (P5).

import type { AppendRun, AppendVerdict } from '../db/queries/events.ts'
import type { Span, TraceContext, Tracing } from '../telemetry/tracing.ts'
import {
  canJoin,
  type DeviceShare,
  halveRuns,
  type Submission,
  type SubmittedEvent,
  submissionBytes,
  toRun,
} from './batch.ts'

export type IntakeVerdict = AppendVerdict | { readonly status: 'unavailable' } | { readonly status: 'event_refused' }

export interface StoredEvent {
  readonly event: SubmittedEvent
  readonly deviceId: Uint8Array
  readonly userSeq: number
  readonly streamSeq: number
  readonly storedAtMs: number
}

/** Consecutive events of one user, in user_seq order: what one transaction stored for him. */
export interface StoredBatch {
  readonly userKey: string
  readonly userId: Uint8Array
  readonly events: readonly StoredEvent[]
  /** When the first of the messages that published them arrived. */
  readonly arrivedAtMs: number
  /** Of the commit, once in the trace of each message that is traced. */
  readonly traces: readonly TraceContext[]
}

export interface IntakeParts {
  readonly tracing?: Tracing | undefined
  /** One transaction, one round trip; rejects when the database is out of reach or refuses a row. */
  appendRuns(runs: readonly AppendRun[]): Promise<AppendVerdict[]>
  /** True when the database refused the data itself, so that its neighbours may try without it. */
  isRefusedData(error: unknown): boolean
  /** After the commit, before the receipts of the batch are handed out. */
  onStored(batch: StoredBatch): void
  onFailure(error: unknown): void
  /** True when the byte bound is passed, false again when half of it is free. */
  onPressure(isOver: boolean): void
  observeBatch(events: number, commitMs: number): void
  /** Bytes that wait for a commit, at each change. */
  observeBuffered(bytes: number): void
  /** Milliseconds of a clock that never goes back. */
  now(): number
  readonly maxBatchEvents: number
  readonly maxBatchBytes: number
  readonly maxBufferedBytes: number
  readonly maxBatchesInFlight: number
}

export interface Intake {
  /** Resolves after the commit, one verdict an event. Never rejects. */
  submit(submission: Submission): Promise<IntakeVerdict[]>
  readonly bufferedBytes: number
  /** Resolves when everything submitted so far is answered. */
  drain(): Promise<void>
}

interface Pending {
  readonly submission: Submission
  readonly bytes: number
  readonly resolve: (verdicts: IntakeVerdict[]) => void
}

interface Batch {
  readonly userKeys: readonly string[]
  readonly shares: readonly DeviceShare<Pending>[]
}

export function createIntake(parts: IntakeParts): Intake {
  /** Insertion order is arrival order, so no user waits behind one who came later. */
  const queueByUser = new Map<string, Pending[]>()
  const usersInFlight = new Set<string>()
  const batchesInFlight = new Set<Promise<void>>()
  let bufferedBytes = 0
  let isOver = false
  let isPumpScheduled = false

  const trackBytes = (change: number): void => {
    bufferedBytes += change
    parts.observeBuffered(bufferedBytes)
    if (!isOver && bufferedBytes > parts.maxBufferedBytes) {
      isOver = true
      parts.onPressure(true)
    } else if (isOver && bufferedBytes <= parts.maxBufferedBytes / 2) {
      isOver = false
      parts.onPressure(false)
    }
  }

  /** Whole submissions, first come first served, each user's in order, until the batch is full. */
  const takeBatch = (): Batch | undefined => {
    const userKeys: string[] = []
    const shareByDevice = new Map<string, DeviceShare<Pending>>()
    let events = 0
    let bytes = 0
    const isFullWith = (candidate: Pending): boolean =>
      events > 0 &&
      (events + candidate.submission.events.length > parts.maxBatchEvents ||
        bytes + candidate.bytes > parts.maxBatchBytes)

    for (const [userKey, queue] of queueByUser) {
      if (usersInFlight.has(userKey)) continue
      if (events >= parts.maxBatchEvents) break
      let taken = 0
      for (const candidate of queue) {
        const { deviceKey, events: candidateEvents } = candidate.submission
        const share = shareByDevice.get(deviceKey)
        if (isFullWith(candidate) || !canJoin(share, candidate.submission)) break
        if (share === undefined) shareByDevice.set(deviceKey, { items: [candidate] })
        else share.items.push(candidate)
        events += candidateEvents.length
        bytes += candidate.bytes
        taken++
      }
      if (taken === 0) break
      userKeys.push(userKey)
      if (taken === queue.length) queueByUser.delete(userKey)
      else queue.splice(0, taken)
    }
    return userKeys.length === 0 ? undefined : { userKeys, shares: [...shareByDevice.values()] }
  }

  const pump = (): void => {
    isPumpScheduled = false
    while (batchesInFlight.size < parts.maxBatchesInFlight) {
      const batch = takeBatch()
      if (batch === undefined) return
      for (const userKey of batch.userKeys) usersInFlight.add(userKey)
      const flight = commit(batch).then(() => {
        batchesInFlight.delete(flight)
        for (const userKey of batch.userKeys) usersInFlight.delete(userKey)
        pump()
      })
      batchesInFlight.add(flight)
    }
  }

  /** After this turn of the event loop, so that what other sockets bring in the same turn joins the batch. */
  const schedulePump = (): void => {
    if (isPumpScheduled) return
    isPumpScheduled = true
    setImmediate(pump)
  }

  const commit = async ({ shares }: Batch): Promise<void> => {
    const startedAtMs = parts.now()
    const runs = shares.map((share) => toRun(share.items.map((item) => item.submission)))
    const spanByPending = startSpans(shares)
    const verdicts = await append(runs)
    for (const span of spanByPending.values()) span.end({ 'valise.batch_events': verdicts.length })
    parts.observeBatch(verdicts.length, parts.now() - startedAtMs)

    const answers: Answer[] = []
    let at = 0
    for (const pending of shares.flatMap((share) => share.items)) {
      const end = at + pending.submission.events.length
      const trace = spanByPending.get(pending)?.context
      answers.push({ pending, verdicts: verdicts.slice(at, end), trace })
      at = end
    }
    for (const batch of toStoredBatches(answers)) parts.onStored(batch)
    for (const { pending, verdicts } of answers) {
      pending.resolve(verdicts)
      trackBytes(-pending.bytes)
    }
  }

  /** A span of the commit in the trace of each message that is traced. */
  const startSpans = (shares: readonly DeviceShare<Pending>[]): ReadonlyMap<Pending, Span> => {
    const { tracing } = parts
    if (tracing === undefined) return NO_SPANS
    const spanByPending = new Map<Pending, Span>()
    for (const pending of shares.flatMap((share) => share.items)) {
      const parent = pending.submission.trace
      const span = parent === undefined ? undefined : tracing.start('log.commit', { parent })
      if (span !== undefined) spanByPending.set(pending, span)
    }
    return spanByPending
  }

  /** A row the database refuses never fails its neighbours: a refused batch is halved until the row stands alone. */
  const append = async (runs: readonly AppendRun[]): Promise<IntakeVerdict[]> => {
    try {
      return await parts.appendRuns(runs)
    } catch (error) {
      if (parts.isRefusedData(error)) {
        const halves = halveRuns(runs)
        if (halves !== undefined) return [...(await append(halves[0])), ...(await append(halves[1]))]
        parts.onFailure(error)
        return [{ status: 'event_refused' }]
      }
      parts.onFailure(error)
      return runs.flatMap((run) => run.events.map(() => ({ status: 'unavailable' }) as const))
    }
  }

  return {
    submit: (submission) =>
      new Promise((resolve) => {
        const pending = { submission, bytes: submissionBytes(submission), resolve }
        const queue = queueByUser.get(submission.userKey)
        if (queue === undefined) queueByUser.set(submission.userKey, [pending])
        else queue.push(pending)
        trackBytes(pending.bytes)
        schedulePump()
      }),
    get bufferedBytes() {
      return bufferedBytes
    },
    drain: async () => {
      while (queueByUser.size > 0 || batchesInFlight.size > 0) {
        pump()
        await Promise.all(batchesInFlight)
      }
    },
  }
}

const NO_SPANS: ReadonlyMap<Pending, Span> = new Map()

interface Answer {
  readonly pending: Pending
  readonly verdicts: IntakeVerdict[]
  readonly trace: TraceContext | undefined
}

type GrowingBatch = StoredBatch & { events: StoredEvent[]; arrivedAtMs: number; traces: TraceContext[] }

function toStoredBatches(answers: readonly Answer[]): StoredBatch[] {
  const batches: StoredBatch[] = []
  /** The newest of each user. */
  const batchByUser = new Map<string, GrowingBatch>()
  for (const { pending, verdicts, trace } of answers) {
    const { userKey, userId, deviceId, events, arrivedAtMs } = pending.submission
    for (const [index, event] of events.entries()) {
      const verdict = verdicts[index]
      if (verdict?.status !== 'stored') continue
      const { userSeq, streamSeq, storedAtMs } = verdict
      let batch = batchByUser.get(userKey)
      // The halves of a refused batch are transactions of their own: another node may have stored between them, and
      // who is told of one batch takes it for all there is up to its end.
      if (batch === undefined || batch.events.at(-1)?.userSeq !== userSeq - 1) {
        batch = { userKey, userId, events: [], arrivedAtMs, traces: [] }
        batchByUser.set(userKey, batch)
        batches.push(batch)
      }
      batch.arrivedAtMs = Math.min(batch.arrivedAtMs, arrivedAtMs)
      batch.events.push({ event, deviceId, userSeq, streamSeq, storedAtMs })
    }
    if (trace !== undefined) batchByUser.get(userKey)?.traces.push(trace)
  }
  return batches
}
