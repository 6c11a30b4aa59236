// The guard before the append: what it lets through, what it asks the database, and how a run is cut.

import { toHex } from '@valise/protocol'
import { expect, test } from 'vitest'
import type { AppendRun, AppendVerdict } from '../src/db/queries/events.ts'
import { createLogSeqGuard } from '../src/log/log-seq-guard.ts'
import { hash, id, makeEvents } from './support/open-database.ts'

const user = (name: string): Uint8Array => new Uint8Array(Buffer.alloc(32, name))

const runOf = (userId: Uint8Array, firstSeq: number, logSeqs: readonly number[]): AppendRun => ({
  userId,
  deviceId: id(),
  firstSeq,
  chainPrev: hash(),
  events: makeEvents(logSeqs.length).map((event, index) => ({ ...event, logSeq: logSeqs[index]! })),
})

/** An append that stores all it is given, over logs with the heads given. */
function openGuard(heads: Map<string, number>, maxUsers = 10) {
  const asked: string[][] = []
  const appended: number[][] = []
  const guard = createLogSeqGuard({
    maxUsers,
    readLogSeqs: async (userIds) => {
      asked.push(userIds.map(toHex))
      return new Map(userIds.map(toHex).flatMap((key) => (heads.has(key) ? [[key, heads.get(key)!]] : [])))
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

test('DEV-1: an entry appended on another node is found by looking again, once', async () => {
  const heads = new Map([[toHex(user('one')), 3]])
  const { guard, append, asked } = openGuard(heads)
  guard.note(user('one'), 3)
  expect(await append(runOf(user('one'), 1, [3]))).toEqual(['stored'])
  expect(asked).toEqual([])
  heads.set(toHex(user('one')), 4)
  expect(await append(runOf(user('one'), 2, [4]))).toEqual(['stored'])
  expect(await append(runOf(user('one'), 3, [4]))).toEqual(['stored'])
  expect(asked).toEqual([[toHex(user('one'))]])
})

test('DEV-1: an old word of a head never takes back a newer one', async () => {
  const { guard, append, asked } = openGuard(new Map())
  guard.note(user('one'), 5)
  guard.note(user('one'), 2)
  expect(await append(runOf(user('one'), 1, [5]))).toEqual(['stored'])
  expect(asked).toEqual([])
})

test('P5: so many heads are remembered; the user who is forgotten is looked up again', async () => {
  const heads = new Map(['one', 'two', 'three'].map((name) => [toHex(user(name)), 1]))
  const { append, asked } = openGuard(heads, 2)
  for (const name of ['one', 'two', 'three', 'three', 'one']) await append(runOf(user(name), 1, [1]))
  expect(asked.flat()).toEqual(['one', 'two', 'three', 'one'].map((name) => toHex(user(name))))
})

test('ORD-6: of a user who is not there the append has the word', async () => {
  const { append } = openGuard(new Map())
  expect(await append(runOf(user('nobody'), 1, [7]))).toEqual(['stored'])
})
