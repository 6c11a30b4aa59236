// The guard before the append: what it lets through, what it asks the database, and how a run is cut.

import { toHex } from '@valise/protocol'
import { expect, test } from 'vitest'
import type { AppendRun, AppendVerdict } from '../src/db/queries/events.ts'
import { createLogSeqGuard } from '../src/log/log-seq-guard.ts'
import { hash, id, makeEvents } from './support/open-database.ts'

const user = (name: string): Uint8Array => new Uint8Array(Buffer.alloc(32, name))

/** The hash of an entry of every log here. */
const hashOf = (logSeq: number): Uint8Array => new Uint8Array(32).fill(logSeq)

const runOf = (userId: Uint8Array, firstSeq: number, logSeqs: readonly number[], head = hashOf): AppendRun => ({
  userId,
  deviceId: id(),
  firstSeq,
  chainPrev: hash(),
  events: logSeqs.flatMap((logSeq) => makeEvents(1, { logSeq, logHead: head(logSeq) })),
})

/** An append that stores all it is given, over logs with the heads given. */
function openGuard(heads: Map<string, number>, maxUsers = 10) {
  const asked: string[][] = []
  const appended: number[][] = []
  const guard = createLogSeqGuard({
    maxUsers,
    readLogHashes: async (positions) => {
      asked.push(positions.map(({ userId, logSeq }) => `${toHex(userId)} ${logSeq}`))
      const found = new Map<string, Map<number, Uint8Array>>()
      for (const { userId, logSeq } of positions) {
        const head = heads.get(toHex(userId))
        if (head === undefined) continue
        const hashes = found.get(toHex(userId)) ?? new Map<number, Uint8Array>()
        if (logSeq <= head) hashes.set(logSeq, hashOf(logSeq))
        found.set(toHex(userId), hashes)
      }
      return found
    },
    appendRuns: async (runs) => {
      appended.push(runs.map(({ events }) => events.length))
      return runs.flatMap(({ firstSeq, events }) =>
        events.map((_, i): AppendVerdict => {
          const deviceSeq = firstSeq + i
          return { status: 'stored', deviceSeq, streamSeq: 1, userSeq: 1, storedAtMs: 0 }
        }),
      )
    },
  })
  const append = async (...runs: AppendRun[]): Promise<string[]> =>
    (await guard.appendRuns(runs)).map((verdict) =>
      verdict.status === 'gap' ? `gap ${verdict.expected}` : verdict.status,
    )
  return { guard, append, asked, appended }
}

test('ORD-6: a run is cut at the first event above the head, the runs beside it are not touched', async () => {
  const heads = new Map([
    [toHex(user('one')), 3],
    [toHex(user('two')), 9],
  ])
  const { append, appended } = openGuard(heads)
  const answers = await append(
    runOf(user('two'), 1, [9, 9]),
    runOf(user('one'), 5, [2, 3, 4, 3]),
    runOf(user('one'), 1, [4]),
    runOf(user('two'), 7, [1]),
  )
  expect(answers).toEqual(['stored', 'stored', 'stored', 'stored', 'log_seq_ahead', 'gap 7', 'log_seq_ahead', 'stored'])
  expect(appended).toEqual([[2, 2, 1]])
})

test('ORD-6: a run is cut at the first event that names another hash of an entry, remembered or not', async () => {
  const { guard, append, appended } = openGuard(new Map([[toHex(user('one')), 3]]))
  guard.note(user('one'), 3, hashOf(3))
  const lie = (logSeq: number) => hashOf(logSeq + 100)
  expect(await append(runOf(user('one'), 1, [3], lie), runOf(user('one'), 1, [3, 3]))).toEqual([
    'log_head_false',
    'stored',
    'stored',
  ])
  expect(await append(runOf(user('one'), 1, [2, 2], lie))).toEqual(['log_head_false', 'gap 1'])
  expect(appended).toEqual([[2], []])
})

test('DEV-1: an entry appended on another node is found by looking again, once', async () => {
  const heads = new Map([[toHex(user('one')), 3]])
  const { guard, append, asked } = openGuard(heads)
  guard.note(user('one'), 3, hashOf(3))
  expect(await append(runOf(user('one'), 1, [3]))).toEqual(['stored'])
  expect(asked).toEqual([])
  heads.set(toHex(user('one')), 4)
  expect(await append(runOf(user('one'), 1, [4]))).toEqual(['stored'])
  expect(await append(runOf(user('one'), 1, [3, 4]))).toEqual(['stored', 'stored'])
  expect(asked).toEqual([[`${toHex(user('one'))} 4`]])
})

test('DEV-1: an entry that is not there yet is looked for again', async () => {
  const heads = new Map([[toHex(user('one')), 3]])
  const { append } = openGuard(heads)
  expect(await append(runOf(user('one'), 1, [4]))).toEqual(['log_seq_ahead'])
  heads.set(toHex(user('one')), 4)
  expect(await append(runOf(user('one'), 1, [4]))).toEqual(['stored'])
})

test('RET-5: nothing is remembered once a backup was put back', async () => {
  const heads = new Map([[toHex(user('one')), 3]])
  const { guard, append } = openGuard(heads)
  expect(await append(runOf(user('one'), 1, [3]))).toEqual(['stored'])
  heads.set(toHex(user('one')), 2)
  guard.forgetAll()
  expect(await append(runOf(user('one'), 1, [3]))).toEqual(['log_seq_ahead'])
})

test('P5: so many users are remembered, and of each the newest entries; the rest is looked up again', async () => {
  const heads = new Map(['one', 'two', 'three'].map((name) => [toHex(user(name)), 100]))
  const { append, asked } = openGuard(heads, 2)
  for (const name of ['one', 'two', 'three', 'three', 'one']) await append(runOf(user(name), 1, [1]))
  expect(asked.flat()).toEqual(['one', 'two', 'three', 'one'].map((name) => `${toHex(user(name))} 1`))
  asked.length = 0
  const all = Array.from({ length: 20 }, (_, i) => i + 2)
  expect(new Set(await append(runOf(user('one'), 1, all)))).toEqual(new Set(['stored']))
  await append(runOf(user('one'), 1, [21, 20, 14]))
  await append(runOf(user('one'), 1, [2]))
  expect(asked.map((positions) => positions.length)).toEqual([20, 1])
})

test('ORD-6: of a user who is not there the append has the word', async () => {
  const { append } = openGuard(new Map())
  expect(await append(runOf(user('nobody'), 1, [7]))).toEqual(['stored'])
})
