// What comings and goings leave in memory.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { startRedis } from '../support/redis.ts'

const runner = fileURLToPath(new URL('../support/run-typescript.mjs', import.meta.url))
const churn = fileURLToPath(new URL('./churn-rounds.ts', import.meta.url))
const ROUNDS = 6
/** The first rounds compile code and let collections take their size. */
const SETTLED_ROUNDS = 2

export function describeMemory(): void {
  describe('in memory', () => {
    test('P5: the heap stays flat over 12 000 comings and goings, and neither timers nor sockets pile up', async () => {
      const redis = await startRedis()
      try {
        const args = ['--expose-gc', runner, churn]
        const { stdout } = await promisify(execFile)(process.execPath, [...args, redis.url, String(ROUNDS), '2000'])
        const rounds = stdout
          .trim()
          .split('\n')
          .map((line): { heapBytes: number; resources: number; active: number } => JSON.parse(line))
        expect(rounds.map(({ active }) => active)).toEqual(Array.from({ length: ROUNDS }, () => 0))
        expect(new Set(rounds.map(({ resources }) => resources)).size).toBe(1)
        const settled = rounds.slice(SETTLED_ROUNDS).map(({ heapBytes }) => heapBytes)
        expect(settled).toHaveLength(ROUNDS - SETTLED_ROUNDS)
        expect(Math.max(...settled) / Math.min(...settled)).toBeLessThan(1.05)
      } finally {
        await redis.close()
      }
    })
  })
}
