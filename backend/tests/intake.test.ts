// Group commit, with a database that answers when the test says so.

import { describe, expect, it } from 'vitest'
import type { AppendRun, AppendVerdict } from '../src/db/queries/events.ts'
import { continuesChain, type Submission, type SubmittedEvent, splitRuns } from '../src/log/batch.ts'
import { createIntake, type IntakeParts, type StoredBatch } from '../src/log/intake.ts'

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

const chainOf = (device: number, seq: number): Uint8Array => new Uint8Array(32).fill(device * 16 + seq)

const event = (device: number, deviceSeq: number, bytes = 100): SubmittedEvent => ({
  deviceSeq,
  chainPrev: chainOf(device, deviceSeq - 1),
  chain: chainOf(device, deviceSeq),
  streamId: new Uint8Array(16),
  eventId: new Uint8Array(16),
  logSeq: 0,
  ttlS: 0,
  leaf: new Uint8Array(32),
  wire: new Uint8Array(bytes),
})

const submission = (user: number, device: number, events: readonly SubmittedEvent[]): Submission => ({
  userKey: `user ${user}`,
  deviceKey: `device ${device}`,
  userId: new Uint8Array(32).fill(user),
  deviceId: new Uint8Array(16).fill(device),
  events,
  arrivedAtMs: 0,
})

/** Stands for the append statement: keeps each batch open until the test answers it. */
function createScene(overrides: Partial<IntakeParts> = {}) {
  const batches: { runs: readonly AppendRun[]; commit: () => Promise<void>; fail: (error: Error) => Promise<void> }[] =
    []
  const stored: StoredBatch[] = []
  const pressure: boolean[] = []
  let userSeq = 0
  const intake = createIntake({
    appendRuns: (runs) =>
      new Promise((resolve, reject) => {
        batches.push({
          runs,
          commit: async () => {
            resolve(
              runs.flatMap((run) =>
                run.events.map(
                  (_, index): AppendVerdict => ({
                    status: 'stored',
                    deviceSeq: run.firstSeq + index,
                    streamSeq: 1,
                    userSeq: ++userSeq,
                    storedAtMs: 0,
                  }),
                ),
              ),
            )
            await settle()
          },
          fail: async (error) => {
            reject(error)
            await settle()
          },
        })
      }),
    isRefusedData: (error) => error instanceof RangeError,
    onStored: (batch) => stored.push(batch),
    onFailure: () => undefined,
    onPressure: (isOver) => pressure.push(isOver),
    observeBatch: () => undefined,
    observeBuffered: () => {},
    now: () => 0,
    maxBatchEvents: 8,
    maxBatchBytes: 10_000,
    maxBufferedBytes: 1000,
    maxBatchesInFlight: 2,
    ...overrides,
  })
  return { intake, batches, stored, pressure }
}

const seqsOf = (runs: readonly AppendRun[]): number[][] =>
  runs.map((run) => run.events.map((_, index) => run.firstSeq + index))

describe('LOG-1: idle, a batch leaves at once; busy, it gathers what arrives', () => {
  it('LOG-1: what arrives in one turn of the event loop leaves together, one run a device', async () => {
    const { intake, batches } = createScene()
    void intake.submit(submission(1, 1, [event(1, 1)]))
    void intake.submit(submission(2, 2, [event(2, 1)]))
    void intake.submit(submission(1, 1, [event(1, 2), event(1, 3)]))
    await settle()
    expect(batches.map((batch) => seqsOf(batch.runs))).toEqual([[[1, 2, 3], [1]]])
  })

  it('LOG-1: one batch in flight a user, so that his events keep their order', async () => {
    const { intake, batches } = createScene()
    void intake.submit(submission(1, 1, [event(1, 1)]))
    await settle()
    void intake.submit(submission(1, 1, [event(1, 2)]))
    void intake.submit(submission(1, 3, [event(3, 1)]))
    void intake.submit(submission(2, 2, [event(2, 1)]))
    await settle()
    expect(batches).toHaveLength(2)
    expect(batches[1]?.runs[0]?.userId[0]).toBe(2)
    await batches[0]?.commit()
    expect(seqsOf(batches[2]?.runs ?? [])).toEqual([[2], [1]])
  })

  it('LOG-1: a batch is bounded, and what does not fit is the beginning of the next', async () => {
    const { intake, batches } = createScene({ maxBufferedBytes: 100_000 })
    void intake.submit(
      submission(
        1,
        1,
        [1, 2, 3, 4, 5].map((seq) => event(1, seq)),
      ),
    )
    void intake.submit(
      submission(
        1,
        1,
        [6, 7, 8, 9].map((seq) => event(1, seq)),
      ),
    )
    void intake.submit(submission(2, 2, [event(2, 1)]))
    await settle()
    expect(seqsOf(batches[0]?.runs ?? [])).toEqual([[1, 2, 3, 4, 5], [1]])
    await batches[0]?.commit()
    expect(seqsOf(batches[1]?.runs ?? [])).toEqual([[6, 7, 8, 9]])
  })

  it('LOG-1: events that do not continue the chain wait for a batch of their own', async () => {
    const { intake, batches } = createScene()
    const strangers = splitRuns([event(1, 1), event(1, 2), event(1, 5)])
    expect(strangers.map((run) => run.length)).toEqual([2, 1])
    expect(continuesChain(event(1, 2), event(2, 3))).toBe(false)
    for (const run of strangers) void intake.submit(submission(1, 1, run))
    await settle()
    expect(seqsOf(batches[0]?.runs ?? [])).toEqual([[1, 2]])
    await batches[0]?.commit()
    expect(seqsOf(batches[1]?.runs ?? [])).toEqual([[5]])
  })
})

describe('P3: nothing is answered before its commit', () => {
  it('P3: verdicts and stored events come after the commit, in user_seq order', async () => {
    const { intake, batches, stored } = createScene()
    let answered: unknown
    void intake.submit(submission(1, 1, [event(1, 1), event(1, 2)])).then((verdicts) => {
      answered = verdicts
    })
    await settle()
    expect(answered).toBeUndefined()
    await batches[0]?.commit()
    expect(answered).toMatchObject([
      { status: 'stored', deviceSeq: 1 },
      { status: 'stored', deviceSeq: 2 },
    ])
    expect(stored.map((batch) => batch.events.map((item) => item.userSeq))).toEqual([[1, 2]])
  })

  it('P3: a database out of reach acknowledges nothing, and the next batch goes on', async () => {
    const { intake, batches, stored } = createScene()
    const lost = intake.submit(submission(1, 1, [event(1, 1)]))
    await settle()
    await batches[0]?.fail(new Error('out of reach'))
    expect(await lost).toEqual([{ status: 'unavailable' }])
    expect(stored).toEqual([])
    const again = intake.submit(submission(1, 1, [event(1, 1)]))
    await settle()
    await batches[1]?.commit()
    expect(await again).toMatchObject([{ status: 'stored' }])
  })

  it('P3: drain resolves when everything submitted is answered', async () => {
    const { intake, batches } = createScene()
    void intake.submit(submission(1, 1, [event(1, 1)]))
    let isDrained = false
    const drained = intake.drain().then(() => {
      isDrained = true
    })
    await settle()
    expect(isDrained).toBe(false)
    await batches[0]?.commit()
    await drained
  })
})

describe('ORD-6: a row that the database refuses never fails its neighbours', () => {
  it('ORD-6: the batch is halved until the refused event stands alone', async () => {
    const poison = event(1, 2, 666)
    const appendRuns: IntakeParts['appendRuns'] = async (runs) => {
      if (runs.some((run) => run.events.includes(poison))) throw new RangeError('refused')
      return runs.flatMap((run) =>
        run.events.map(
          (_, index): AppendVerdict =>
            run.deviceId[0] === 1 && run.firstSeq > 2
              ? { status: 'gap', expected: 2 }
              : { status: 'stored', deviceSeq: run.firstSeq + index, streamSeq: 1, userSeq: 1, storedAtMs: 0 },
        ),
      )
    }
    const { intake } = createScene({ appendRuns, maxBufferedBytes: 100_000 })
    const poisoned = intake.submit(submission(1, 1, [event(1, 1), poison, event(1, 3), event(1, 4)]))
    const neighbour = intake.submit(submission(2, 2, [event(2, 1)]))
    expect((await poisoned).map((verdict) => verdict.status)).toEqual(['stored', 'event_refused', 'gap', 'gap'])
    expect((await neighbour).map((verdict) => verdict.status)).toEqual(['stored'])
  })
})

describe('P5: the intake is bounded in bytes', () => {
  it('P5: over the bound sockets stop, under half of it they go on', async () => {
    const { intake, batches, pressure } = createScene()
    void intake.submit(submission(1, 1, [event(1, 1, 600)]))
    await settle()
    expect(pressure).toEqual([])
    void intake.submit(submission(2, 2, [event(2, 1, 500)]))
    expect(pressure).toEqual([true])
    await settle()
    expect(intake.bufferedBytes).toBe(1100)
    await batches[0]?.commit()
    expect(pressure).toEqual([true, false])
    await batches[1]?.commit()
    expect(intake.bufferedBytes).toBe(0)
  })
})
