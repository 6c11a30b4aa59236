// One load: each user's publisher keeps a fixed number of events in flight, his receiver opens every frame and checks
// that all events arrive once and in order. Latency runs from handing the publish message to the socket until the
// receiver has opened the frame with the event, on one clock.

import { encodePublish } from './messages.ts'
import { connectPeer, type Peer, type ServerAddress } from './peer.ts'
import type { SealedRun } from './sealing.ts'
import { type BenchUser, identityOf } from './users.ts'

export interface LoadParts {
  readonly server: ServerAddress
  readonly users: readonly BenchUser[]
  /** One for each user. */
  readonly sealed: readonly SealedRun[]
  readonly inFlight: number
  /** The user_seq of what the users have in their logs already; default: 0. */
  readonly startsAfter?: number | undefined
  readonly warmUpMs: number
  readonly measureMs: number
  /** Called at both ends of the measured window, with the events received so far when its answer is in. */
  onWindow(edge: 'begin' | 'end', received: () => number): Promise<void>
}

export interface LoadResult {
  /** Received by the other device within the window. */
  readonly events: number
  readonly windowMs: number
  readonly eventsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** A client acknowledges what it has applied; so often is enough for one cursor. */
const ACK_INTERVAL_MS = 250
const FINISH_DEADLINE_MS = 20_000
/** Where an event's device_seq stands (PROTOCOL E); its upper half is zero here. */
const DEVICE_SEQ_LOW_AT = 53

interface Pair {
  begin(): void
  readonly sentCount: number
  readonly receivedCount: number
  readonly receiptCount: number
  readonly isOutOfEvents: boolean
  acknowledge(): void
  close(): Promise<void>
}

export async function runLoad(parts: LoadParts): Promise<LoadResult> {
  const run = createRun(parts.sealed.reduce((sum, { starts }) => sum + starts.length, 0))
  const pairs = await Promise.all(parts.users.map((user, i) => openPair(parts, user, parts.sealed[i]!, run)))
  const received = (): number => pairs.reduce((sum, pair) => sum + pair.receivedCount, 0)
  const acknowledging = setInterval(() => {
    for (const pair of pairs) pair.acknowledge()
  }, ACK_INTERVAL_MS)
  try {
    for (const pair of pairs) pair.begin()
    await run.until(performance.now() + parts.warmUpMs)
    await parts.onWindow('begin', received)
    run.beginWindow()
    const startedAtMs = performance.now()
    const alreadyReceived = received()
    await run.until(startedAtMs + parts.measureMs, () => pairs.some((pair) => pair.isOutOfEvents))
    const windowMs = performance.now() - startedAtMs
    const events = received() - alreadyReceived
    run.endWindow()
    await parts.onWindow('end', received)
    run.stop()
    await finish(pairs, run)
    const [p50Ms = Number.NaN, p99Ms = Number.NaN] = run.percentiles(0.5, 0.99)
    return { events, windowMs, eventsPerSecond: (events / windowMs) * 1000, p50Ms, p99Ms }
  } finally {
    clearInterval(acknowledging)
    await Promise.all(pairs.map((pair) => pair.close()))
  }
}

/** Everything sent must arrive, receipts too. */
async function finish(pairs: readonly Pair[], run: Run): Promise<void> {
  const isComplete = (): boolean =>
    pairs.every((pair) => pair.receivedCount === pair.sentCount && pair.receiptCount === pair.sentCount)
  await run.until(performance.now() + FINISH_DEADLINE_MS, isComplete)
  if (isComplete()) return
  const missing = pairs.reduce((sum, pair) => sum + pair.sentCount - pair.receivedCount, 0)
  throw new Error(`${missing} events did not arrive at the other device`)
}

interface Run {
  readonly isStopped: boolean
  stop(): void
  beginWindow(): void
  endWindow(): void
  /** Kept when the event was sent and received within the window. */
  keepLatency(sentAtMs: number, receivedAtMs: number): void
  percentiles(...shares: number[]): number[]
  fail(error: Error): void
  /** Until that time or until the condition holds, looked at every few milliseconds. Rejects when the run has failed. */
  until(atMs: number, isDone?: () => boolean): Promise<void>
}

function createRun(maxEvents: number): Run {
  const latenciesMs = new Float64Array(maxEvents)
  let kept = 0
  let windowBeganAtMs = Number.POSITIVE_INFINITY
  let isInWindow = false
  let isStopped = false
  let failure: Error | undefined
  return {
    get isStopped() {
      return isStopped
    },
    stop: () => {
      isStopped = true
    },
    beginWindow: () => {
      windowBeganAtMs = performance.now()
      isInWindow = true
    },
    endWindow: () => {
      isInWindow = false
    },
    keepLatency: (sentAtMs, receivedAtMs) => {
      if (isInWindow && sentAtMs >= windowBeganAtMs) latenciesMs[kept++] = receivedAtMs - sentAtMs
    },
    percentiles: (...shares) => {
      const sorted = latenciesMs.subarray(0, kept).sort()
      return shares.map((share) => sorted[Math.min(kept - 1, Math.floor(share * kept))] ?? Number.NaN)
    },
    fail: (error) => {
      failure ??= error
    },
    until: async (atMs, isDone = () => false) => {
      while (performance.now() < atMs && !isDone() && failure === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      if (failure !== undefined) throw failure
    },
  }
}

async function openPair(parts: LoadParts, user: BenchUser, sealed: SealedRun, run: Run): Promise<Pair> {
  const { elements, starts } = sealed
  const startsAfter = parts.startsAfter ?? 0
  const eventCount = starts.length - 1
  const sentAtMs = new Float64Array(eventCount)
  let sentCount = 0
  let receivedCount = 0
  let receiptCount = 0
  let acknowledged = 0
  let freed = 0
  const onLost = (error: Error): void => run.fail(error)

  /** The next events, as many as the window has room for, in one message. */
  const publish = (count: number): void => {
    const from = sentCount
    sentCount = Math.min(eventCount, from + count)
    if (sentCount === from) return
    const message = encodePublish(elements.subarray(starts[from], starts[sentCount]), sentCount - from)
    sentAtMs.fill(performance.now(), from, sentCount)
    publisher.sendEncoded(message)
  }

  const publishFreed = (): void => {
    const count = freed
    freed = 0
    if (!run.isStopped) publish(count)
  }

  const receiver = await connectPeer({
    server: parts.server,
    identity: identityOf(user, user.receiver),
    signer: user.receiver.signer,
    onLost,
    onEvent: (userSeq, wire) => {
      const deviceSeq = Buffer.from(wire.buffer, wire.byteOffset).readUInt32BE(DEVICE_SEQ_LOW_AT)
      receivedCount++
      if (userSeq !== startsAfter + receivedCount || deviceSeq !== receivedCount) {
        run.fail(
          new Error(
            `expected event ${startsAfter + receivedCount}, got user_seq ${userSeq} and device_seq ${deviceSeq}`,
          ),
        )
      }
      run.keepLatency(sentAtMs[deviceSeq - 1] ?? 0, performance.now())
    },
  })
  const publisher = await connectPeer({
    server: parts.server,
    identity: identityOf(user, user.publisher),
    signer: user.publisher.signer,
    onLost,
    onReceipt: (deviceSeq, userSeq) => {
      receiptCount++
      if (deviceSeq !== receiptCount || userSeq !== startsAfter + receiptCount) {
        run.fail(new Error(`expected the receipt of event ${receiptCount}, got that of ${deviceSeq}`))
      }
      // All receipts of one message free their places together.
      if (freed++ === 0) queueMicrotask(publishFreed)
    },
  })
  await Promise.all([resume(receiver, startsAfter), resume(publisher, startsAfter)])

  return {
    begin: () => publish(parts.inFlight),
    get sentCount() {
      return sentCount
    },
    get receivedCount() {
      return receivedCount
    },
    get receiptCount() {
      return receiptCount
    },
    get isOutOfEvents() {
      return sentCount === eventCount
    },
    acknowledge: () => {
      if (receivedCount === acknowledged) return
      acknowledged = receivedCount
      receiver.send({ type: 'ack', cursor: startsAfter + acknowledged })
    },
    close: async () => {
      await Promise.all([publisher.close(), receiver.close()])
    },
  }
}

/** Replays what comes after a cursor, from the beginning by default; resolves when the peer is caught up. */
export async function resume(peer: Peer, cursor = 0): Promise<void> {
  const caughtUp = peer.next('caught_up')
  peer.send({ type: 'resume', cursor, log_epoch: null })
  await caughtUp
}
