// What a node has verified of a device log it does not verify again, whoever moves the log on meanwhile; and while it
// verifies a long one it does its other work, and does it once for all that wait.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { applyEntry, buildRotate, type Crypto, type DeviceLogState, entryHash, type UserId } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { createVerifiedLogs } from '../src/devices/verified-logs.ts'
import { askForRecovery, createKeys, makeEpoch, sealGenesis } from './bad-input/entries.ts'

describe('verified logs', () => {
  const genesisOf = async () => {
    const manager = await createKeys('manager')
    const { entry } = await sealGenesis(manager)
    return { manager, entry, state: advance(undefined, entry) }
  }
  const advance = (state: DeviceLogState | undefined, entry: Uint8Array): DeviceLogState => {
    const applied = applyEntry(nodeCrypto, state, entry)
    if (!applied.ok) throw new Error(applied.rule)
    return applied.state
  }
  type Genesis = Awaited<ReturnType<typeof genesisOf>>
  const rotate = async ({ manager }: Genesis, state: DeviceLogState): Promise<Uint8Array> => {
    const epoch = makeEpoch(state, [manager.record])
    return buildRotate(state, { signer: manager.signer, deviceId: manager.deviceId, timeMs: 0 }, epoch.start)
  }

  /** A log of so many entries, each but the first a rotation. */
  const writeLong = async (count: number) => {
    const genesis = await genesisOf()
    const entries = [genesis.entry]
    let { state } = genesis
    while (entries.length < count) {
      const entry = await rotate(genesis, state)
      entries.push(entry)
      state = advance(state, entry)
    }
    return { entries, state, userId: state.userId, continueWith: (from: DeviceLogState) => rotate(genesis, from) }
  }

  /** Logs as a database has them; what is read of them is kept. */
  function openLogs(maxWeight = 100, crypto: Crypto = nodeCrypto) {
    const entriesByUser = new Map<string, Uint8Array[]>()
    const reads: number[] = []
    const keyOf = (userId: UserId): string => Buffer.from(userId).toString('hex')
    const logs = createVerifiedLogs({
      crypto,
      maxWeight,
      readHead: async (userId) => {
        const entries = entriesByUser.get(keyOf(userId))
        const newest = entries?.at(-1)
        if (entries === undefined || newest === undefined) return undefined
        return { seq: entries.length - 1, head: entryHash(nodeCrypto, newest) }
      },
      readEntries: async (userId, afterSeq, limit) => {
        reads.push(afterSeq)
        return (entriesByUser.get(keyOf(userId)) ?? []).slice(afterSeq + 1, afterSeq + 1 + limit)
      },
    })
    const store = (userId: UserId, ...entries: Uint8Array[]) => entriesByUser.set(keyOf(userId), entries)
    return { logs, reads, store, remove: (userId: UserId) => entriesByUser.delete(keyOf(userId)) }
  }

  test('DEV-1: a log is verified once, and then only what came since, from whichever node', async () => {
    const genesis = await genesisOf()
    const { userId } = genesis.state
    const { logs, reads, store } = openLogs()
    store(userId, genesis.entry)
    expect((await logs.load(userId))?.seq).toBe(0)
    expect((await logs.load(userId))?.seq).toBe(0)
    expect(reads).toEqual([-1])
    const second = await rotate(genesis, genesis.state)
    store(userId, genesis.entry, second)
    expect((await logs.load(userId))?.seq).toBe(1)
    expect((await logs.load(userId))?.epoch.n).toBe(2)
    expect(reads).toEqual([-1, 0])
  })

  test('DEV-1: another history of the same log, longer or shorter, is verified from its first entry', async () => {
    const genesis = await genesisOf()
    const { userId } = genesis.state
    const { logs, store } = openLogs()
    const [one, other] = [await rotate(genesis, genesis.state), await rotate(genesis, genesis.state)]
    store(userId, genesis.entry, one)
    expect((await logs.load(userId))?.head).toEqual(advance(genesis.state, one).head)
    store(userId, genesis.entry, other)
    expect((await logs.load(userId))?.head).toEqual(advance(genesis.state, other).head)
    const third = await rotate(genesis, advance(genesis.state, one))
    store(userId, genesis.entry, one, third)
    expect((await logs.load(userId))?.seq).toBe(2)
    store(userId, genesis.entry)
    expect((await logs.load(userId))?.seq).toBe(0)
  })

  test('DEV-14, P5: recovery devices that were only asked for weigh what devices weigh', async () => {
    const manager = await createKeys('manager')
    const { entry } = await sealGenesis(manager, await createKeys('recovery'))
    let state = advance(undefined, entry)
    const { logs } = openLogs()
    logs.keep(state)
    const before = logs.weight
    const author = { signer: manager.signer, deviceId: manager.deviceId, timeMs: 0 }
    for (let i = 0; i < 5; i++) {
      state = advance(
        state,
        (await askForRecovery({ log: state, userId: state.userId }, author, await createKeys('recovery'))).entry,
      )
    }
    logs.keep(state)
    expect(logs.weight).toBe(before + 5)
  })

  test('DEV-1: an entry that breaks a rule is never built upon', async () => {
    const genesis = await genesisOf()
    const { userId } = genesis.state
    const { logs, store } = openLogs()
    store(userId, genesis.entry)
    await logs.load(userId)
    const spoilt = await rotate(genesis, genesis.state)
    spoilt[spoilt.length - 10]! ^= 1
    const broken = createVerifiedLogs({
      crypto: nodeCrypto,
      maxWeight: 10,
      readHead: async () => ({ seq: 1, head: new Uint8Array(32) }),
      readEntries: async (_userId, afterSeq) => [genesis.entry, spoilt].slice(afterSeq + 1),
    })
    await expect(broken.load(userId)).rejects.toThrow('signature')
    expect(broken.weight).toBe(0)
  })

  test('P5: what is kept is bounded, the log that was used last stays, and a closed or deleted one goes', async () => {
    const { logs, reads, store, remove } = openLogs(5)
    const all: Genesis[] = []
    while (all.length < 4) all.push(await genesisOf())
    for (const { state, entry } of all) store(state.userId, entry)
    const ids = all.map(({ state }) => state.userId)
    // A device and an epoch each: two of them have a place.
    for (const id of [0, 1, 0, 2, 0, 1]) await logs.load(ids[id]!)
    expect(reads).toEqual([-1, -1, -1, -1])
    expect(logs.weight).toBe(4)
    remove(ids[1]!)
    expect(await logs.load(ids[1]!)).toBeUndefined()
    expect(logs.weight).toBe(2)
    logs.keep({ ...all[0]!.state, isClosed: true })
    expect(logs.weight).toBe(0)
  })

  test('P5: each device and epoch of a log weighs 1, and eight boxes do', async () => {
    const { entries, userId } = await writeLong(24)
    const { logs, store } = openLogs()
    store(userId, ...entries)
    await logs.load(userId)
    expect(logs.weight).toBe(1 + 24 + 3)
  })

  test('DEV-1: long logs are verified a page a turn of the event loop, and everything else has its turns', async () => {
    const signaturesByTurn = [0]
    const counting: Crypto = {
      ...nodeCrypto,
      verifySignature: (...parts) => {
        signaturesByTurn.push((signaturesByTurn.pop() ?? 0) + 1)
        return nodeCrypto.verifySignature(...parts)
      },
    }
    const { logs, store } = openLogs(10_000, counting)
    const all = [await writeLong(260), await writeLong(260), await writeLong(260)]
    for (const { userId, entries } of all) store(userId, ...entries)
    let isLoaded = false
    const loading = Promise.all(all.map(({ userId }) => logs.load(userId))).finally(() => {
      isLoaded = true
    })
    while (!isLoaded) {
      await nextTurn()
      signaturesByTurn.push(0)
    }
    expect((await loading).map((state) => state?.seq)).toEqual([259, 259, 259])
    // A log that has no more than one page waits for nobody.
    expect(signaturesByTurn[0]).toBe(150)
    expect(Math.max(...signaturesByTurn.slice(1))).toBe(50)
    expect(signaturesByTurn.reduce((sum, count) => sum + count)).toBe(780)
  })

  // The second state is too heavy to be kept: it is handed on.
  test.each([10_000, 5])(
    'DEV-1: sessions that need a log at once verify it once, of a weight of %i',
    async (maxWeight) => {
      const { entries, state, userId } = await writeLong(120)
      const { logs, reads, store } = openLogs(maxWeight)
      store(userId, ...entries)
      const loaded = await Promise.all([logs.load(userId), logs.load(userId), logs.load(userId)])
      for (const one of loaded) expect(one).toEqual(state)
      expect(reads).toEqual([-1, 49, 99])
    },
  )

  test.each(['here', 'on another node'])(
    'DEV-1: an entry appended %s after a load has read the end is there for who asks then',
    async (where) => {
      const { entries, state, userId, continueWith } = await writeLong(70)
      const newest = await continueWith(state)
      const after = advance(state, newest)
      let late: Promise<DeviceLogState | undefined> | undefined
      const logs = createVerifiedLogs({
        crypto: nodeCrypto,
        maxWeight: 1000,
        readHead: async () => (entries.length > 70 ? after : state),
        readEntries: async (_userId, afterSeq, limit) => {
          const page = entries.slice(afterSeq + 1, afterSeq + 1 + limit)
          if (page.length < limit && late === undefined) {
            entries.push(newest)
            if (where === 'here') logs.keep(after)
            late = logs.load(userId)
          }
          return page
        },
      })
      expect(await logs.load(userId)).toEqual(state)
      expect(await late).toEqual(after)
      expect(await logs.load(userId)).toEqual(after)
    },
  )

  test('DEV-1: a load that failed leaves those behind it to try for themselves', async () => {
    const { entries, state, userId } = await writeLong(60)
    let failures = 1
    const logs = createVerifiedLogs({
      crypto: nodeCrypto,
      maxWeight: 1000,
      readHead: async () => state,
      readEntries: async (_userId, afterSeq, limit) => {
        if (afterSeq >= 0 && failures-- > 0) throw new Error('the database went away')
        return entries.slice(afterSeq + 1, afterSeq + 1 + limit)
      },
    })
    const [first, second] = await Promise.allSettled([logs.load(userId), logs.load(userId)])
    expect(first).toMatchObject({ status: 'rejected' })
    expect(second).toEqual({ status: 'fulfilled', value: state })
  })
})
