// The log epoch as a node tells it, compared with the database's.

import { expect, test } from 'vitest'
import type { LogEpochRow } from '../src/db/queries/server-state.ts'
import { openLogEpoch } from '../src/log/log-epoch.ts'
import { id } from './support/open-database.ts'

/** A log epoch whose reads a test answers, each with what it likes. */
async function openAnswered() {
  const asked: ((epoch: LogEpochRow | Error) => void)[] = []
  const heard = { changes: 0, failures: 0 }
  const opening = openLogEpoch({
    read: () =>
      new Promise((resolve, reject) => {
        asked.push((epoch) => (epoch instanceof Error ? reject(epoch) : resolve(epoch)))
      }),
    onChange: () => heard.changes++,
    onFailure: () => heard.failures++,
  })
  const first = { id: id(), beganAtMs: 1 }
  asked.shift()?.(first)
  return { logEpoch: await opening, first, asked, heard }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('RET-5: another epoch is told once, and one that cannot be read leaves the old one', async () => {
  const { logEpoch, first, asked, heard } = await openAnswered()
  for (const answer of [new Error('away'), first]) {
    const checking = logEpoch.check()
    await nextTurn()
    asked.shift()?.(answer)
    await checking
  }
  expect(logEpoch.current).toEqual(first)
  expect(heard).toEqual({ changes: 0, failures: 1 })
  const second = { id: id(), beganAtMs: 2 }
  for (const answer of [second, second]) {
    const checking = logEpoch.check()
    await nextTurn()
    asked.shift()?.(answer)
    await checking
  }
  expect(logEpoch.current).toEqual(second)
  expect(heard).toEqual({ changes: 1, failures: 1 })
})

test('RET-5: of two checks at once the older answer does not bring the old epoch back', async () => {
  const { logEpoch, first, asked, heard } = await openAnswered()
  const second = { id: id(), beganAtMs: 2 }
  const checks = [logEpoch.check(), logEpoch.check()]
  await nextTurn()
  // Were both asked by now, the later could be answered first.
  const [older, newer] = asked.splice(0)
  newer?.(second)
  await nextTurn()
  older?.(first)
  await nextTurn()
  asked.shift()?.(second)
  await Promise.all(checks)
  expect(logEpoch.current).toEqual(second)
  expect(heard.changes).toBe(1)
})
