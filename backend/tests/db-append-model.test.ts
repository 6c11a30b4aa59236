// Both ways into the log against a model of DESIGN 4 that stores events one by one in plain code: seeded random batches
// with repeats, forks, gaps, torn chains, stale epochs, revocations and a stream limit must be answered alike.

import { toHex } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Queryable } from '../src/db/postgres.ts'
import { appendDeviceLogEntry, type DeviceLogChange } from '../src/db/queries/device-log.ts'
import { type AppendEvent, type AppendRun, appendRuns, readEventsAfter } from '../src/db/queries/events.ts'
import {
  addUser,
  DATABASE_KINDS,
  hash,
  makeEntry,
  makeEvents,
  type OpenedDatabase,
  openDatabase,
  type TestDevice,
} from './support/open-database.ts'

const MAX_STREAMS = 3
const BATCHES = 120
const EVERY_STATUS = [
  'chain_mismatch',
  'conflict',
  'duplicate',
  'epoch_invalid',
  'gap',
  'log_seq_falls',
  'revoked',
  'stale_epoch',
  'stored',
  'stream_limit',
  'suspended',
]

interface ModelDevice {
  readonly device: TestDevice
  isRevoked: boolean
  isSuspended: boolean
  lastLogSeq: number
  events: AppendEvent[]
  readonly firstChain: Uint8Array
}

interface ModelUser {
  readonly devices: ModelDevice[]
  newest: DeviceLogChange
  epochLogSeq: number
  keyEpoch: number
  userSeq: number
  readonly streams: Map<string, number>
  readonly log: { wire: string; userSeq: number; streamSeq: number }[]
}

type Expected = { status: string; userSeq?: number; streamSeq?: number; expected?: number }

/** xorshift32: the seed of a failure is in its title. */
function createRandom(seed: number) {
  let state = seed
  const next = (): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
  return { chance: (p: number) => next() < p, below: (n: number) => Math.floor(next() * n) }
}
type Random = ReturnType<typeof createRandom>

function expectRun(user: ModelUser, owner: ModelDevice, run: AppendRun): Expected[] {
  if (owner.isRevoked) return run.events.map(() => ({ status: 'revoked' }))
  const stored = owner.events.length
  const chainAt = (seq: number): Uint8Array => owner.events[seq - 1]?.chain ?? owner.firstChain
  let refusal: Expected | undefined
  return run.events.map((event, i) => {
    const seq = run.firstSeq + i
    if (seq <= stored) {
      const first = owner.events[seq - 1]!
      if (toHex(first.chain) !== toHex(event.chain)) return { status: 'conflict' }
      const entry = user.log.find(({ wire }) => wire === toHex(first.wire))!
      return { status: 'duplicate', userSeq: entry.userSeq, streamSeq: entry.streamSeq }
    }
    if (owner.isSuspended) return { status: 'suspended' }
    if (refusal !== undefined) return refusal
    if (seq > owner.events.length + 1) {
      refusal = { status: 'gap', expected: owner.events.length + 1 }
      return refusal
    }
    const chainPrev = i === 0 ? run.chainPrev : run.events[i - 1]!.chain
    if (toHex(chainPrev) !== toHex(chainAt(seq - 1))) {
      refusal = { status: 'chain_mismatch' }
      return refusal
    }
    refusal = { status: 'gap', expected: seq }
    if (event.logSeq < user.epochLogSeq) return { status: 'stale_epoch' }
    if (event.epoch !== user.keyEpoch) return { status: 'epoch_invalid' }
    if (event.logSeq < owner.lastLogSeq) return { status: 'log_seq_falls' }
    const key = toHex(event.streamId)
    if (!user.streams.has(key) && user.streams.size === MAX_STREAMS) return { status: 'stream_limit' }
    refusal = undefined
    const streamSeq = (user.streams.get(key) ?? 0) + 1
    user.streams.set(key, streamSeq)
    user.userSeq++
    owner.events.push(event)
    owner.lastLogSeq = event.logSeq
    user.log.push({ wire: toHex(event.wire), userSeq: user.userSeq, streamSeq })
    return { status: 'stored', userSeq: user.userSeq, streamSeq }
  })
}

/** A run that is right, or wrong in one of the ways a client or an attacker can be. */
function makeRun(random: Random, user: ModelUser, owner: ModelDevice): AppendRun {
  const stored = owner.events.length
  const back = random.chance(0.3) ? random.below(stored + 1) : 0
  const known = owner.events.slice(stored - back)
  const fresh = Array.from({ length: random.below(4) + (back === 0 ? 1 : 0) }, () => ({
    ...makeEvents(1)[0]!,
    streamId: new Uint8Array(16).fill(random.below(5)),
    epoch: user.keyEpoch + (random.chance(0.05) ? 1 : 0),
    logSeq: random.chance(0.1) ? user.epochLogSeq - 1 : user.epochLogSeq + random.below(2),
  }))
  let events = [...known, ...fresh]
  if (known.length > 0 && random.chance(0.2))
    events = [...events.slice(0, known.length - 1), ...makeEvents(1), ...fresh]
  const chainPrev = owner.events[stored - back - 1]?.chain ?? owner.firstChain
  return {
    userId: owner.device.userId,
    deviceId: owner.device.deviceId,
    firstSeq: stored - back + 1 + (random.chance(0.1) ? 1 + random.below(3) : 0),
    chainPrev: random.chance(0.05) ? hash() : chainPrev,
    events,
  }
}

describe.each(DATABASE_KINDS)('append against its model on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(() => opened.close())

  const addModelUser = async (): Promise<ModelUser> => {
    const { devices, genesis } = await addUser(opened.db, 3)
    return {
      devices: devices.map((device) => ({
        device,
        isRevoked: false,
        isSuspended: false,
        lastLogSeq: 0,
        events: [],
        firstChain: device.chain,
      })),
      newest: genesis,
      epochLogSeq: 0,
      keyEpoch: 1,
      userSeq: 0,
      streams: new Map(),
      log: [],
    }
  }

  const revokeOrRotate = async (random: Random, user: ModelUser): Promise<void> => {
    const victim = user.devices[1 + random.below(2)]!
    const isRevocation = random.chance(0.3) && !victim.isRevoked
    const entry = makeEntry(user.newest, {
      epoch: { n: user.newest.seq + 2, links: [] },
      revoked: isRevocation ? [victim.device.deviceId] : [],
    })
    await opened.db.transaction({ name: 'test' }, (tx) => appendDeviceLogEntry(tx, entry))
    user.newest = entry
    user.epochLogSeq = entry.seq
    user.keyEpoch = entry.seq + 1
    if (isRevocation) victim.isRevoked = true
    if (!victim.isRevoked && random.chance(0.4)) await suspend(victim)
  }

  const suspend = async (victim: ModelDevice): Promise<void> => {
    const { userId, deviceId } = victim.device
    const text = 'update devices set suspended_at = now() where user_id = $1 and device_id = $2'
    await opened.db.query({ name: '', text }, [userId, deviceId])
    victim.isSuspended = true
  }

  /** The database, and the functions of the log that were asked. */
  const watchCalls = (): { db: Queryable; calls: Set<string> } => {
    const calls = new Set<string>()
    const query: Queryable['query'] = (statement, values) => {
      calls.add(statement.name)
      return opened.db.query(statement, values)
    }
    return { db: { query }, calls }
  }

  /** What waits goes as one batch, or run by run, so that each may take the short way. */
  const WAYS = [
    { way: 'in batches', split: (runs: AppendRun[]) => [runs] },
    { way: 'run by run', split: (runs: AppendRun[]) => runs.map((run) => [run]) },
  ]

  test.each(WAYS.flatMap(({ way, split }) => [20_260_101, 77, 4_242_424].map((seed) => ({ way, split, seed }))))(
    'ORD-1, ORD-2, ORD-3, DEV-2: seed $seed is answered as the model says, $way',
    async ({ seed, split }) => {
      const random = createRandom(seed)
      const { db, calls } = watchCalls()
      const users = [await addModelUser(), await addModelUser(), await addModelUser()]
      const seen = new Set<string>()
      for (let batch = 0; batch < BATCHES; batch++) {
        for (const user of users) if (random.chance(0.02)) await revokeOrRotate(random, user)
        const owners = users
          .flatMap((user) => user.devices.map((owner) => ({ user, owner })))
          .filter(() => random.chance(0.4))
        const runs = owners.map(({ user, owner }) => makeRun(random, user, owner))
        const expected = runs.flatMap((run, i) => expectRun(owners[i]!.user, owners[i]!.owner, run))
        const verdicts = []
        for (const part of split(runs)) verdicts.push(...(await appendRuns(db, part, { maxStreams: MAX_STREAMS })))
        expect(verdicts).toMatchObject(expected)
        for (const { status } of expected) seen.add(status)
      }
      expect([...seen].sort()).toEqual(EVERY_STATUS)
      expect([...calls].sort()).toEqual(['append_events', 'append_run'])
      for (const user of users) {
        const page = await readEventsAfter(opened.db, user.devices[0]!.device.userId, 0, {
          maxEvents: 10_000,
          maxBytes: 1e8,
        })
        expect(
          page.items.map(({ wire, userSeq, streamSeq }) => ({ wire: wire && toHex(wire), userSeq, streamSeq })),
        ).toEqual(user.log)
      }
    },
  )
})
