// The device log has an end (P5): when it is full nothing enters but what cuts a device off or ends the account. And what
// a node has verified of a log it does not verify again, whoever moves the log on meanwhile.

import { applyEntry, buildRotate, type DeviceLogState, type UserId } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { sealNextEpoch } from '../../client/src/sealing/epoch-boxes.ts'
import { createVerifiedLogs } from '../src/devices/verified-logs.ts'
import {
  appendEntry,
  authorOf,
  createKeys,
  offerEntry,
  sealAdd,
  sealClose,
  sealGenesis,
  sealRecovery,
  sealRevoke,
  sealRotate,
} from './bad-input/entries.ts'
import { createAccount } from './support/account.ts'
import { startTestServer, type TestServer } from './support/server.ts'

describe('a log that is full', () => {
  let server: TestServer
  beforeEach(async () => {
    server = await startTestServer({ database: 'postgres', flags: { VALISE_MAX_DEVICE_LOG_ENTRIES: '3' } })
  })
  afterEach(() => server?.close())

  test('P5, P6, REC-2: takes no device and no epoch more, but still a revocation, a recovery and the end of the account', async () => {
    const account = await createAccount(server, { devices: 2 })
    const [manager, lost] = account.devices
    const author = authorOf(manager!)
    const session = await manager!.connect(server)
    expect(session.established.limits.max_device_log_entries).toBe(3)
    await appendEntry(account, session, await sealRotate(account, author))
    const full = { type: 'error', code: 'device_log_refused', rule: 'too_many_entries' }
    expect(await offerEntry(session, await sealRotate(account, author))).toMatchObject(full)
    const one = await sealAdd(account, author, await createKeys('member'))
    expect(await offerEntry(session, one)).toMatchObject(full)
    await appendEntry(account, session, await sealRevoke(account, author, [lost!]))
    const recovery = await createKeys('recovery')
    await appendEntry(account, session, await sealRecovery(account, author, recovery))
    const recovered = await sealAdd(account, authorOf({ keys: recovery }), await createKeys('manager'))
    await appendEntry(account, session, recovered)
    expect(await offerEntry(session, await sealAdd(account, author, await createKeys('member')))).toMatchObject(full)
    expect(await offerEntry(session, await sealRotate(account, author))).toMatchObject(full)
    expect((await offerEntry(session, await sealClose(account.log, author))).type).toBe('device_log_appended')
  })
})

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
    const epoch = await sealNextEpoch(nodeCrypto, state, [manager.record], new Uint8Array(32))
    return buildRotate(state, { signer: manager.signer, deviceId: manager.deviceId, timeMs: 0 }, epoch.start)
  }

  /** Logs as a database has them; what is read of them is kept. */
  function openLogs(maxWeight = 100) {
    const entriesByUser = new Map<string, Uint8Array[]>()
    const reads: number[] = []
    const keyOf = (userId: UserId): string => Buffer.from(userId).toString('hex')
    const stateOf = (userId: UserId): DeviceLogState | undefined =>
      entriesByUser.get(keyOf(userId))?.reduce<DeviceLogState | undefined>(advance, undefined)
    const logs = createVerifiedLogs({
      crypto: nodeCrypto,
      maxWeight,
      readHead: async (userId) => stateOf(userId),
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
})
