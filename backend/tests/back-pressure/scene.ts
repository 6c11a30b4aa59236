// What the tests of back-pressure share: large events, sessions that keep nothing, and conditions that are looked at
// again and again until a deadline.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { PublishedEvent, TestDevice } from '../support/account.ts'
import type { RawSession } from '../support/raw-device.ts'
import type { TestServer } from '../support/server.ts'

const DEADLINE_MS = 120_000
/** Metrics are read by rendering all of them: not in every turn of the event loop. */
const LOOK_AGAIN_MS = 5

/** Resolves when `check` holds, which is looked at again and again. */
export async function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + DEADLINE_MS
  while (!(await check())) {
    if (performance.now() > deadlineMs) throw new Error(`waited too long for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
  }
}

export async function sealLarge(device: TestDevice, count: number, bytes: number): Promise<PublishedEvent[]> {
  const events: PublishedEvent[] = []
  while (events.length < count) events.push(await device.seal('a', { data: new Uint8Array(bytes).fill(events.length) }))
  return events
}

/** Drops what the test's own side has kept, so that memory shows the server's. */
export function forget(...keepers: readonly (RawSession | TestDevice)[]): void {
  for (const keeper of keepers) {
    const kept = 'sealed' in keeper ? [keeper.sealed] : [keeper.messages, keeper.receipts, keeper.events]
    for (const list of kept) (list as unknown[]).length = 0
  }
}

/**
 * Heap and buffers of the process after full collections, in bytes; `external` has the array buffers. Buffers and
 * native handles go with their finalizers, which run between collections.
 */
export async function measureMemory(): Promise<number> {
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  for (let i = 0; i < 3; i++) {
    collect()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** What each round adds to memory, in bytes: from the least of the first rounds to the least of the last. */
export function growthPerRound(bytesByRound: readonly number[]): number {
  const atEachEnd = Math.floor(bytesByRound.length / 4)
  const [first, last] = [bytesByRound.slice(0, atEachEnd), bytesByRound.slice(-atEachEnd)]
  return (Math.min(...last) - Math.min(...first)) / (bytesByRound.length - atEachEnd)
}

export const readMetric = (server: TestServer, name: string, labels?: Readonly<Record<string, string>>) =>
  server.app.metrics.read(name, labels)
