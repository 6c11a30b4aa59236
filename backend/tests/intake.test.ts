// Group commit, with a database that answers when the test says so.

import { describe, expect, it } from 'vitest'
import type { AppendRun, AppendVerdict } from '../src/db/queries/events.ts'
import { continuesChain, splitRuns } from '../src/log/batch.ts'
import type { IntakeParts } from '../src/log/intake.ts'
import { chainOf, createIntakeScene, event, seqsOf, settle, submission } from './support/intake-scene.ts'

describe('LOG-1: idle, a batch leaves at once; busy, it gathers what arrives', () => {
  it('LOG-1: what arrives in one turn of the event loop leaves together, one run a device', async () => {
    const { intake, batches } = createIntakeScene()
    void intake.submit(submission(1, 1, [event(1, 1)]))
    void intake.submit(submission(2, 2, [event(2, 1)]))
    void intake.submit(submission(1, 1, [event(1, 2), event(1, 3)]))
    await settle()
    expect(batches.map((batch) => seqsOf(batch.runs))).toEqual([[[1, 2, 3], [1]]])
  })

  it('LOG-1: one batch in flight a user, so that his events keep their order', async () => {
    const { intake, batches } = createIntakeScene()
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
    const { intake, batches } = createIntakeScene({ maxBufferedBytes: 100_000 })
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

  it('LOG-1: a batch is bounded in bytes, and nobody passes the one who waits', async () => {
    const { intake, batches } = createIntakeScene({ maxBatchBytes: 1000, maxBufferedBytes: 100_000 })
    void intake.submit(submission(1, 1, [event(1, 1, 1200)]))
    void intake.submit(submission(2, 2, [event(2, 1, 600)]))
    void intake.submit(submission(3, 3, [event(3, 1, 600)]))
    void intake.submit(submission(4, 4, [event(4, 1, 400)]))
    await settle()
    await batches[0]?.commit()
    const users = batches.map(({ runs }) => runs.map(({ userId }) => userId[0]))
    expect(users).toEqual([[1], [2], [3, 4]])
  })

  it('LOG-1: while so many batches are in flight, the next gathers', async () => {
    const { intake, batches } = createIntakeScene()
    for (const user of [1, 2, 3, 4]) {
      void intake.submit(submission(user, user, [event(user, 1)]))
      await settle()
    }
    expect(batches).toHaveLength(2)
    await batches[0]?.commit()
    expect(batches[2]?.runs.map(({ userId }) => userId[0])).toEqual([3, 4])
  })

  it('LOG-1: events that do not continue the chain wait for a batch of their own', async () => {
    const { intake, batches } = createIntakeScene()
    const misnumbered = { ...event(1, 3), deviceSeq: 9 }
    const forked = { ...event(1, 3), chainPrev: chainOf(9, 2) }
    expect(splitRuns([event(1, 1), event(1, 2), misnumbered])).toHaveLength(2)
    expect(splitRuns([event(1, 1), event(1, 2), forked])).toHaveLength(2)
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
    const { intake, batches, stored } = createIntakeScene()
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

  it('ORD-5: of what was stored already nothing is told again', async () => {
    const appendRuns: IntakeParts['appendRuns'] = async () => [
      { status: 'duplicate', deviceSeq: 1, streamSeq: 1, userSeq: 3, storedAtMs: 0 },
      { status: 'stored', deviceSeq: 2, streamSeq: 2, userSeq: 9, storedAtMs: 0 },
    ]
    const { intake, stored } = createIntakeScene({ appendRuns })
    await intake.submit(submission(1, 1, [event(1, 1), event(1, 2)]))
    expect(stored.map((batch) => batch.events.map((item) => item.userSeq))).toEqual([[9]])
  })

  it('P7: what was stored together is as old as the oldest message of it', async () => {
    const { intake, batches, stored } = createIntakeScene()
    void intake.submit({ ...submission(1, 1, [event(1, 1)]), arrivedAtMs: 5 })
    void intake.submit({ ...submission(1, 2, [event(2, 1)]), arrivedAtMs: 7 })
    await settle()
    await batches[0]?.commit()
    expect(stored.map((batch) => batch.arrivedAtMs)).toEqual([5])
  })

  it('P3: a database out of reach acknowledges nothing, and the next batch goes on', async () => {
    const { intake, batches, stored } = createIntakeScene()
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
    const { intake, batches } = createIntakeScene()
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
    const { intake } = createIntakeScene({ appendRuns, maxBufferedBytes: 100_000 })
    const poisoned = intake.submit(submission(1, 1, [event(1, 1), poison, event(1, 3), event(1, 4)]))
    const neighbour = intake.submit(submission(2, 2, [event(2, 1)]))
    expect((await poisoned).map((verdict) => verdict.status)).toEqual(['stored', 'event_refused', 'gap', 'gap'])
    expect((await neighbour).map((verdict) => verdict.status)).toEqual(['stored'])
  })
})

describe('ORD-5: the halves of a refused batch are transactions of their own', () => {
  it('ORD-5: what another node stored between them is never passed over', async () => {
    let userSeq = 0
    const appendRuns: IntakeParts['appendRuns'] = async (runs) => {
      if (runs.length > 1) throw new RangeError('refused')
      // As if another node stored one before each run.
      userSeq++
      return runs.flatMap((run) =>
        run.events.map(
          (_, index): AppendVerdict => ({
            status: 'stored',
            deviceSeq: run.firstSeq + index,
            streamSeq: 1,
            userSeq: ++userSeq,
            storedAtMs: 0,
          }),
        ),
      )
    }
    const { intake, stored } = createIntakeScene({ appendRuns })
    const answers = [
      intake.submit(submission(1, 1, [event(1, 1), event(1, 2)])),
      intake.submit(submission(1, 2, [event(2, 1), event(2, 2)])),
    ]
    await Promise.all(answers)
    expect(stored.map((batch) => batch.events.map((item) => item.userSeq))).toEqual([
      [2, 3],
      [5, 6],
    ])
  })

  it('ORD-6: the second half continues the chain of the first', async () => {
    const poison = event(1, 4, 666)
    const halves: AppendRun[] = []
    const appendRuns: IntakeParts['appendRuns'] = async (runs) => {
      if (runs.some((run) => run.events.includes(poison))) throw new RangeError('refused')
      halves.push(...runs)
      return runs.flatMap((run) => run.events.map(() => ({ status: 'chain_mismatch' }) as const))
    }
    const { intake } = createIntakeScene({ appendRuns })
    await intake.submit(submission(1, 1, [event(1, 1), event(1, 2), event(1, 3), poison]))
    expect(halves.map(({ firstSeq, chainPrev }) => [firstSeq, chainPrev])).toEqual([
      [1, chainOf(1, 0)],
      [3, chainOf(1, 2)],
    ])
  })
})

describe('P5: the intake is bounded in bytes', () => {
  it('P5: over the bound sockets stop, under half of it they go on', async () => {
    const { intake, batches, pressure } = createIntakeScene()
    void intake.submit(submission(1, 1, [event(1, 1, 400)]))
    await settle()
    void intake.submit(submission(2, 2, [event(2, 1, 600)]))
    await settle()
    expect(pressure).toEqual([])
    void intake.submit(submission(3, 3, [event(3, 1, 100)]))
    expect(pressure).toEqual([true])
    expect(intake.bufferedBytes).toBe(1100)
    await batches[0]?.commit()
    expect(pressure).toEqual([true])
    await batches[1]?.commit()
    expect(pressure).toEqual([true, false])
    await batches[2]?.commit()
    expect(intake.bufferedBytes).toBe(0)
  })
})
