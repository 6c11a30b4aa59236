// Event storage and the assignment of sequences: what the row lock on the user is for, shown with it and without it.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openPostgres } from '../../src/db/postgres.ts'
import { type AppendVerdict, appendRuns, readEventsAfter } from '../../src/db/queries/events.ts'
import { addUser, continueRun, createCapturedParts, makeEvents, type TestDevice } from '../support/open-database.ts'
import {
  APPEND_WAYS,
  type AppendWay,
  appending,
  withoutDeviceLock,
  withoutKeys,
  withoutUserLock,
  withSequenceObject,
} from './append-ways.ts'
import { inScene, interleave, openScene, openStepped, type Refused, type Scene, statement, toRefused } from './scene.ts'

const seqsOf = (answer: readonly AppendVerdict[] | Refused, seq: 'userSeq' | 'streamSeq'): unknown =>
  'refused' in answer ? answer : answer.map((verdict) => ('userSeq' in verdict ? verdict[seq] : verdict.status))

const twoDevices = async (scene: Scene): Promise<[TestDevice, TestDevice]> => {
  const { devices } = await addUser(scene.db, 2)
  return [devices[0]!, devices[1]!]
}

/** Two devices of one user append at once: three events, then two. The streams are known before, unless asked otherwise. */
async function appendAtOnce(
  scene: Scene,
  way: AppendWay,
  { end = 'commit', isOneStream = true, isNewStream = false } = {},
) {
  const [one, other] = await twoDevices(scene)
  const { userId } = one
  const reader = { cursor: 0, seen: [] as number[] }
  const read = async (): Promise<void> => {
    const page = await readEventsAfter(scene.db, userId, reader.cursor, { maxEvents: 100, maxBytes: 1e6 })
    reader.cursor = page.through
    reader.seen.push(...page.items.map((item) => item.userSeq))
  }
  const streamId = new Uint8Array(16).fill(isOneStream ? 1 : 2)
  for (const id of isNewStream ? [] : new Set([1, isOneStream ? 1 : 2])) {
    const known = new Uint8Array(16).fill(id)
    await scene.run('insert into streams (user_id, stream_id, last_stream_seq) values ($1, $2, 0)', [userId, known])
  }
  const { first, second, met } = await interleave(scene, {
    first: appending(way, continueRun(one, makeEvents(isOneStream ? 3 : 1))),
    second: appending(way, continueRun(other, makeEvents(isOneStream ? 2 : 1, { streamId }))),
    end: end === 'commit' ? 'commit' : 'rollback',
    between: read,
  })
  await read()
  const [counters] = await scene.run<{ user: number; stream: number }>(
    `select u.last_user_seq as user, max(s.last_stream_seq) as stream
    from users as u join streams as s on s.user_id = u.user_id where u.user_id = $1 group by 1`,
    [userId],
  )
  return { first, second, met, seen: reader.seen, counters }
}

export function describeStorage(): void {
  describe.each(APPEND_WAYS)('event storage and sequences $way', (way) => {
    let scene: Scene
    beforeAll(async () => {
      scene = await openScene()
    })
    afterAll(() => scene?.close())

    test('ISO-1, ORD-3: two appends of one user follow each other, and user_seq with them', async () => {
      const { first, second, met, counters } = await appendAtOnce(scene, way)
      expect(met).toBe('waits')
      expect([seqsOf(first, 'userSeq'), seqsOf(second, 'userSeq')]).toEqual([
        [1, 2, 3],
        [4, 5],
      ])
      expect(counters?.user).toBe(5)
    })

    test('ISO-1: without the lock on the user the key of events is what is left, and an append fails', async () => {
      const { second } = await inScene([withoutUserLock], (mutated) => appendAtOnce(mutated, way))
      expect(second).toEqual({ refused: '23505', constraint: 'events_pkey' })
    })

    test('ISO-1: without the lock and the keys the same user_seq is given twice', async () => {
      const { first, second } = await inScene([withoutUserLock, ...withoutKeys], (mutated) =>
        appendAtOnce(mutated, way),
      )
      expect([seqsOf(first, 'userSeq'), seqsOf(second, 'userSeq')]).toEqual([
        [1, 2, 3],
        [1, 2],
      ])
    })

    test('ISO-5, ORD-2: two appends that open one stream follow each other too', async () => {
      const { first, second, met, counters } = await appendAtOnce(scene, way, { isNewStream: true })
      expect(met).toBe('waits')
      expect([seqsOf(first, 'streamSeq'), seqsOf(second, 'streamSeq')]).toEqual([
        [1, 2, 3],
        [4, 5],
      ])
      expect(counters).toEqual({ user: 5, stream: 5 })
    })

    test('ISO-5: without the lock a key refuses the second of two that open one stream', async () => {
      const { second } = await inScene([withoutUserLock], (mutated) =>
        appendAtOnce(mutated, way, { isNewStream: true }),
      )
      expect(second).toMatchObject({ refused: '23505' })
    })

    /** A device sends an event, and over another connection sends it again before the first is committed. */
    const sendTwice = async (where: Scene) => {
      const [device] = await twoDevices(where)
      const run = continueRun(device, makeEvents(1))
      const { first, second, met } = await interleave(where, {
        first: appending(way, run),
        second: appending(way, run),
      })
      const rows = await where.run('select 1 from events where user_id = $1', [device.userId])
      return { first: first[0], second: 'refused' in second ? second : second[0], met, rows: rows.length }
    }

    test('ISO-2, P4: an event sent again while the first is under way gets the receipt of the first', async () => {
      const { first, second, met, rows } = await sendTwice(scene)
      expect({ met, rows, first }).toMatchObject({ met: 'waits', rows: 1, first: { status: 'stored', userSeq: 1 } })
      expect(second).toEqual({ ...first, status: 'duplicate' })
    })

    test('ISO-2: without the locks and the keys the event is stored twice', async () => {
      const changes = [withoutUserLock, withoutDeviceLock, ...withoutKeys]
      expect(await inScene(changes, sendTwice)).toMatchObject({ rows: 2, second: { status: 'stored', userSeq: 1 } })
    })

    test('ISO-2: the lock on the device alone also keeps it from being stored twice', async () => {
      expect(await inScene([withoutUserLock, ...withoutKeys], sendTwice)).toMatchObject({
        rows: 1,
        second: { status: 'duplicate' },
      })
    })

    /** Two batches with the same two users; another transaction holds the second user until both are under way. */
    const crossUsers = async (where: Scene, isTurned: boolean) => {
      const users = [await addUser(where.db), await addUser(where.db)].sort((a, b) =>
        Buffer.compare(a.genesis.userId, b.genesis.userId),
      )
      const devices = users.map((user) => user.devices[0]!)
      const runs = devices.map((device) => continueRun(device, makeEvents(1)))
      const turned = devices.map((device, i) => ({ ...runs[i]!, deviceId: device.deviceId })).reverse()
      const holder = await openStepped(where.opened.url)
      await holder.run('begin')
      await holder.run('select 1 from users where user_id = $1 for update', [devices[1]!.userId])
      if (isTurned) {
        // For this connection alone: its append_events is found before the other.
        await where.right.run('set search_path = turned, public')
      }
      const late = appendRuns(where.right, turned).catch(toRefused)
      await where.reach(where.right, late)
      const early = appendRuns(where.left, runs).catch(toRefused)
      await where.reach(where.left, early)
      await holder.run('commit')
      await holder.close()
      return Promise.all([early, late])
    }

    test('ISO-3, ORD-4: batches with the same users in opposite order lock them in one order', async () => {
      const answers = await crossUsers(scene, false)
      const statuses = answers.map((answer) => ('refused' in answer ? answer : answer.map(({ status }) => status)))
      expect(statuses.map(String).sort()).toEqual(['duplicate,duplicate', 'stored,stored'])
    })

    test('ISO-3: when one of them locks from the other end, PostgreSQL ends one for a deadlock', async () => {
      const turned = [
        statement('create schema turned'),
        async (connection: { run(text: string): Promise<{ text?: string }[]> }) => {
          const [row] = await connection.run(`select pg_get_functiondef('append_events'::regproc) as text`)
          const text = row!.text!.replace('FUNCTION public.', 'FUNCTION turned.')
          await connection.run(text.replace('order by u.user_id\n', 'order by u.user_id desc\n'))
        },
      ]
      const answers = await inScene(turned, (mutated) => crossUsers(mutated, true))
      expect(answers.filter((answer) => 'refused' in answer)).toEqual([{ refused: '40P01' }])
    })

    /** A database whose default is stricter; `open` makes the connection that waits. */
    const appendUnderStrictDefault = async (isProduct: boolean) =>
      inScene([], async (strict) => {
        const [one, other] = await twoDevices(strict)
        const [{ name } = { name: '' }] = await strict.run<{ name: string }>('select current_database() as name')
        await strict.run(`alter database ${name} set default_transaction_isolation = 'serializable'`)
        const product = await openPostgres({ ...createCapturedParts().parts, url: strict.opened.url, poolSize: 1 })
        const bare = await openStepped(strict.opened.url)
        try {
          await strict.left.run('begin isolation level read committed')
          await way.append(strict.left, [continueRun(one, makeEvents(3))])
          const pid = { name: '', text: 'select pg_backend_pid() as pid' }
          const waiting = isProduct ? { ...bare, pid: (await product.query<{ pid: number }>(pid, []))[0]!.pid } : bare
          const run = continueRun(other, makeEvents(2))
          const late = way.append(isProduct ? product : bare, [run]).catch(toRefused)
          expect(await strict.reach(waiting, late)).toBe('waits')
          await strict.left.run('commit')
          return await late
        } finally {
          await bare.close()
          await product.close()
        }
      })

    test('ISO-4, ORD-3: every connection is READ COMMITTED, so what waited for a lock sees what its holder wrote', async () => {
      expect(seqsOf(await appendUnderStrictDefault(true), 'userSeq')).toEqual([4, 5])
    })

    test('ISO-4: at the stricter level the append that waited fails', async () => {
      expect(await appendUnderStrictDefault(false)).toEqual({ refused: '40001' })
    })

    test('ISO-5, ORD-2: two devices that write one stream continue one counter', async () => {
      const { first, second, met, counters } = await appendAtOnce(scene, way)
      expect([seqsOf(first, 'streamSeq'), seqsOf(second, 'streamSeq')]).toEqual([
        [1, 2, 3],
        [4, 5],
      ])
      expect({ met, stream: counters?.stream }).toEqual({ met: 'waits', stream: 5 })
    })

    test('ISO-6, ORD-3: an append that is rolled back leaves no hole, and a reader passes over nothing', async () => {
      const undone = await appendAtOnce(scene, way, { end: 'rollback', isOneStream: false })
      expect({ seqs: seqsOf(undone.second, 'userSeq'), seen: undone.seen }).toEqual({ seqs: [1], seen: [1] })
      const kept = await appendAtOnce(scene, way, { isOneStream: false })
      expect(kept.seen).toEqual([1, 2])
    })

    test('ISO-6: with a sequence object a rollback leaves a hole, and a reader passes over an event for ever', async () => {
      const run = (end: string) =>
        inScene([withSequenceObject], (mutated) => appendAtOnce(mutated, way, { end, isOneStream: false }))
      const undone = await run('rollback')
      expect(seqsOf(undone.second, 'userSeq')).toEqual([2])
      const kept = await run('commit')
      expect([seqsOf(kept.first, 'userSeq'), kept.met, kept.seen]).toEqual([[1], 'done', [2]])
    })

    /** Each of two devices opens a stream where there is room for one. */
    const openLastStream = async (where: Scene) => {
      const [one, other] = await twoDevices(where)
      const streamId = new Uint8Array(16).fill(9)
      const { first, second, met } = await interleave(where, {
        first: appending(way, continueRun(one, makeEvents(1)), 1),
        second: appending(way, continueRun(other, makeEvents(1, { streamId })), 1),
      })
      const streams = await where.run('select 1 from streams where user_id = $1', [one.userId])
      return { met, streams: streams.length, statuses: [seqsOf(first, 'userSeq'), seqsOf(second, 'userSeq')] }
    }

    test('ISO-7, P5: of two new streams at once where one fits, one is refused', async () => {
      const statuses = [[1], ['stream_limit']]
      expect(await openLastStream(scene)).toEqual({ met: 'waits', streams: 1, statuses })
    })

    test('ISO-7: without the lock on the user and the keys both fit', async () => {
      expect(await inScene([withoutUserLock, ...withoutKeys], openLastStream)).toMatchObject({ streams: 2 })
    })
  })

  // The short way moves the stream's counter in its own row, which is lock enough for this one.
  describe('event storage and sequences in a batch alone', () => {
    test('ISO-5: without the lock on the user and the keys stream_seq repeats and its counter goes back', async () => {
      const outcome = await inScene([withoutUserLock, ...withoutKeys], (mutated) =>
        appendAtOnce(mutated, APPEND_WAYS[0]!),
      )
      expect(seqsOf(outcome.second, 'streamSeq')).toEqual([1, 2])
      expect(outcome.counters?.stream).toBe(2)
    })
  })
}
