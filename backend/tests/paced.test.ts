// Bounded work for any number of words: how many runs there are, what each covers, and what a failure costs.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createPaced } from '../src/bus/paced.ts'

const INTERVAL_MS = 10

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

function createScene() {
  const runs: string[][] = []
  const failures: unknown[] = []
  let finish: (() => void)[] = []
  const paced = createPaced<string>({
    intervalMs: INTERVAL_MS,
    run: (keys) => {
      runs.push([...keys])
      return new Promise((resolve, reject) => finish.push(keys.includes('fails') ? () => reject(keys) : resolve))
    },
    onFailure: (error) => failures.push(error),
    monotonicMs: () => performance.now(),
  })
  const finishAll = async () => {
    for (const one of finish.splice(0)) one()
    finish = []
    await vi.advanceTimersByTimeAsync(0)
  }
  return { runs, failures, paced, finishAll }
}

describe('paced work', () => {
  test('BUS-6: the first key is looked up at once, together with what comes in the same turn', async () => {
    const { runs, paced } = createScene()
    paced.add('a')
    paced.add('b')
    paced.add('a')
    expect(runs).toEqual([])
    await vi.advanceTimersByTimeAsync(0)
    expect(runs).toEqual([['a', 'b']])
  })

  test('BUS-6: any number of keys costs one run an interval, and each key is covered by a run that began after it', async () => {
    const { runs, paced, finishAll } = createScene()
    for (let ms = 0; ms < 100; ms++) {
      paced.add(`${ms}`)
      paced.add('always')
      await vi.advanceTimersByTimeAsync(1)
      await finishAll()
    }
    await vi.advanceTimersByTimeAsync(INTERVAL_MS)
    expect(runs.length).toBeLessThanOrEqual(11)
    expect(new Set(runs.flat()).size).toBe(101)
    expect(runs.flat().filter((key) => key === '42')).toHaveLength(1)
  })

  test('BUS-6: while a run is in flight none begins, however long it takes', async () => {
    const { runs, paced, finishAll } = createScene()
    paced.add('a')
    await vi.advanceTimersByTimeAsync(0)
    paced.add('a')
    await vi.advanceTimersByTimeAsync(100 * INTERVAL_MS)
    expect(runs).toEqual([['a']])
    await finishAll()
    expect(runs).toEqual([['a'], ['a']])
  })

  test('BUS-6: a run that fails is told of, and later keys are looked up all the same', async () => {
    const { runs, failures, paced, finishAll } = createScene()
    paced.add('fails')
    await vi.advanceTimersByTimeAsync(0)
    await finishAll()
    expect(failures).toEqual([['fails']])
    paced.add('b')
    await vi.advanceTimersByTimeAsync(INTERVAL_MS)
    expect(runs).toEqual([['fails'], ['b']])
  })

  test('BUS-6: after close nothing begins, and it waits for what runs', async () => {
    const { runs, paced, finishAll } = createScene()
    paced.add('a')
    await vi.advanceTimersByTimeAsync(0)
    paced.add('b')
    let isClosed = false
    const closing = paced.close().then(() => {
      isClosed = true
    })
    await vi.advanceTimersByTimeAsync(INTERVAL_MS)
    expect(isClosed).toBe(false)
    await finishAll()
    await closing
    paced.add('c')
    await vi.advanceTimersByTimeAsync(INTERVAL_MS)
    expect(runs).toEqual([['a']])
  })
})
