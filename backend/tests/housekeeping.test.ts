// When a node compares with the log: by its interval, and as soon as that becomes shorter because nobody is heard any more.

import { expect, test } from 'vitest'
import { startHousekeeping } from '../src/housekeeping.ts'

function createScene() {
  const tasks = new Map<() => void, { readonly ms: number; dueAtMs: number }>()
  let nowMs = 0
  const scene = {
    sweepMs: 5000,
    /** When each sweep began. */
    sweeps: [] as number[],
    cleaned: [] as string[],
    /** Ends the sweep that is under way. */
    finish: [] as (() => void)[],
    isSlow: false,
    advance: async (byMs: number): Promise<void> => {
      for (const endMs = nowMs + byMs; nowMs < endMs; ) {
        nowMs += 10
        for (const [task, entry] of [...tasks]) {
          if (entry.dueAtMs > nowMs) continue
          entry.dueAtMs += entry.ms
          task()
        }
        // A sweep that is at its end says so in a promise.
        for (let i = 0; i < 3; i++) await Promise.resolve()
      }
    },
    stop: () => {},
    get isStopped() {
      return tasks.size === 0
    },
  }
  scene.stop = startHousekeeping({
    sweepMs: () => scene.sweepMs,
    sweep: async () => {
      scene.sweeps.push(nowMs)
      if (scene.isSlow) await new Promise<void>((resolve) => scene.finish.push(resolve))
    },
    cleanMailboxes: async () => scene.cleaned.push('mailboxes'),
    cleanInvitations: async () => scene.cleaned.push('invitations'),
    closeAccounts: async () => scene.cleaned.push('closes'),
    timer: {
      now: () => nowMs,
      every: (ms, task) => {
        tasks.set(task, { ms, dueAtMs: nowMs + ms })
        return () => tasks.delete(task)
      },
    },
  })
  return scene
}

test('DEV-10: the bus falls silent just after a sweep: the next does not wait for the interval of before', async () => {
  const scene = createScene()
  await scene.advance(5000)
  expect(scene.sweeps).toEqual([5000])
  await scene.advance(1000)
  scene.sweepMs = 600
  await scene.advance(900)
  expect(scene.sweeps).toEqual([5000, 6050, 6650])
  // Heard again, it takes its time again.
  scene.sweepMs = 5000
  await scene.advance(4700)
  expect(scene.sweeps).toHaveLength(3)
  await scene.advance(200)
  expect(scene.sweeps).toHaveLength(4)
})

test('P5: one sweep at a time, and from its end to the next the whole interval', async () => {
  const scene = createScene()
  scene.isSlow = true
  await scene.advance(20_000)
  expect(scene.sweeps).toEqual([5000])
  scene.finish.shift()?.()
  await scene.advance(4900)
  expect(scene.sweeps).toHaveLength(1)
  await scene.advance(200)
  expect(scene.sweeps).toHaveLength(2)
})

test('P5: mailboxes go by the minute, invitations by the hour, and nothing once it is stopped', async () => {
  const scene = createScene()
  await scene.advance(3_600_000)
  expect(scene.cleaned.filter((what) => what === 'mailboxes')).toHaveLength(60)
  expect(scene.cleaned.filter((what) => what === 'closes')).toHaveLength(60)
  expect(scene.cleaned.filter((what) => what === 'invitations')).toHaveLength(1)
  scene.stop()
  expect(scene.isStopped).toBe(true)
})
