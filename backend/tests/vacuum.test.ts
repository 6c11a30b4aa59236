// The embedded database, which nobody else vacuums: what pruned events took is used again, and nothing is done in vain.

import { afterEach, expect, test } from 'vitest'
import { appendRuns } from '../src/db/queries/events.ts'
import { openRetention } from '../src/log/open-retention.ts'
import { startVacuum } from '../src/log/vacuum.ts'
import { addDevice, continueRun, makeEvents, openDatabase, waitFor } from './support/open-database.ts'

const ROUNDS = 6
const ROUND_EVENTS = 20
const WIRE_BYTES = 100_000
const ROUND_BYTES = ROUND_EVENTS * WIRE_BYTES

const undo: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

test('P5: the embedded database grows with what is stored, not with what was pruned', { timeout: 60_000 }, async () => {
  // With this threshold every statement is slow, and each is logged.
  const { db, metrics, logged, close } = await openDatabase('pglite', { slowQueryMs: 0 })
  undo.push(close)
  const statements = (): string[] => logged.map((line) => JSON.parse(line).statement)
  const device = await addDevice(db)
  const failures: unknown[] = []
  const retention = openRetention({
    db,
    rules: { maxUserBytes: ROUND_BYTES / 2, maxAgeMs: undefined, intervalMs: 5 },
    metrics: metrics.retention,
    onFailure: (error) => failures.push(error),
    now: () => Date.now(),
    // A slow clock: a vacuum that takes long on a busy machine rests five times as long, not a hundred times.
    monotonicMs: () => performance.now() / 20,
  })
  undo.push(retention.close)
  const sizes: number[] = []
  for (let round = 1; round <= ROUNDS; round++) {
    const wire = new Uint8Array(WIRE_BYTES).fill(round)
    await appendRuns(db, [continueRun(device, makeEvents(ROUND_EVENTS, { wire }))], { maxStreams: 1 })
    const went = ROUND_EVENTS * (round - 0.5)
    const pruned = () => metrics.read('valise_events_pruned_total', { reason: 'quota' })
    await waitFor('the prune', pruned, (count) => count === went)
    const isVacuumed = async () => statements().lastIndexOf('vacuum') > statements().lastIndexOf('prune_events')
    await waitFor('the vacuum', isVacuumed, (is) => is)
    const size = { name: '', text: `select pg_total_relation_size('events') as bytes` }
    const [row] = await db.query<{ bytes: number }>(size, [])
    sizes.push(row!.bytes)
  }
  // Beside what stays, the room of one round's pruned bytes, and some for rows and leaves.
  expect(sizes.at(-1)).toBeLessThan(2 * ROUND_BYTES)
  expect(sizes.at(-1)! - sizes[1]!).toBeLessThan(ROUND_BYTES / 4)

  expect(failures).toEqual([])
})

test('P5: a vacuum follows only what went, again when it failed, and rests a hundred times as long as it took', async () => {
  const tasks: { close(): Promise<void> }[] = []
  /** Counts its vacuums; `work` is done in each, on a clock that only it moves. */
  const start = (work: (clock: { nowMs: number }) => void) => {
    const clock = { nowMs: 0 }
    const seen = { vacuums: 0, failures: 0 }
    const vacuum = startVacuum({
      intervalMs: 5,
      now: () => clock.nowMs,
      onFailure: () => seen.failures++,
      vacuum: async () => {
        seen.vacuums++
        work(clock)
      },
    })
    tasks.push(vacuum)
    return { seen, noteFreed: vacuum.noteFreed }
  }
  const idle = start(() => {})
  const slow = start((clock) => {
    slow.noteFreed()
    clock.nowMs += 1000
  })
  const busy = start(() => busy.noteFreed())
  const failing = start(() => {
    throw new Error('no')
  })
  await waitFor(
    'many',
    async () => Math.min(busy.seen.vacuums, failing.seen.vacuums),
    (count) => count >= 20,
  )
  await Promise.all(tasks.map((task) => task.close()))
  expect([idle.seen, slow.seen]).toEqual([
    { vacuums: 1, failures: 0 },
    { vacuums: 1, failures: 0 },
  ])
  expect(failing.seen.failures).toBe(failing.seen.vacuums)
})
