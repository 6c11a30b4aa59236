// A clock that a test moves by hand: nothing in a test waits for real time.

import type { Clock } from '../../src/clock.ts'

export interface ManualClock extends Clock {
  /** Moves time and runs what falls due, in order. */
  advance(byMs: number): void
  /** Moves time as for a machine that sleeps: what falls due meanwhile runs only when time is moved again. */
  sleep(forMs: number): void
  readonly waiting: number
}

export function createManualClock(startMs = 1_700_000_000_000): ManualClock {
  let nowMs = startMs
  let lastId = 0
  const tasks = new Map<number, { atMs: number; task: () => void }>()
  const nextDue = (untilMs: number) =>
    [...tasks].filter(([, { atMs }]) => atMs <= untilMs).sort(([, a], [, b]) => a.atMs - b.atMs)[0]
  return {
    now: () => nowMs,
    after: (delayMs, task) => {
      lastId += 1
      const id = lastId
      tasks.set(id, { atMs: nowMs + Math.max(0, delayMs), task })
      return () => tasks.delete(id)
    },
    advance: (byMs) => {
      const untilMs = nowMs + byMs
      for (let due = nextDue(untilMs); due !== undefined; due = nextDue(untilMs)) {
        const [id, { atMs, task }] = due
        tasks.delete(id)
        nowMs = Math.max(nowMs, atMs)
        task()
      }
      nowMs = untilMs
    },
    sleep: (forMs) => {
      nowMs += forMs
    },
    get waiting() {
      return tasks.size
    },
  }
}
