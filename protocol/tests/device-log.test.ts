// The life of a device log: what each operation does, and that no bytes make the verifier throw.

import {
  activeDevices,
  applyEntries,
  applyEntry,
  boxesOfNewestEntry,
  buildAdd,
  buildCancel,
  buildClose,
  buildGenesis,
  buildRecovery,
  buildRevoke,
  buildRole,
  buildRotate,
  buildSettle,
  buildSuspend,
  chainStart,
  type DeviceLogState,
  deviceIdOf,
  devicesOf,
  encodeDeviceRecord,
  entryHash,
  findDevice,
  findEpoch,
  isBeyondCut,
  keyHolders,
  linksOfNewestEntry,
  parseDeviceRecord,
  signClose,
  signDevicePop,
  signRecoveryHeir,
  toHex,
  userIdOf,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { KEM_X_WING } from '../src/device-log/device-record.ts'
import { encodeEntry, encodeEntryBody, parseSignedEntry } from '../src/device-log/entry.ts'
import { encodeOperation, parseOperation } from '../src/device-log/operation.ts'
import {
  craftAdd,
  craftGenesis,
  craftRevoke,
  createTestDevice,
  createTestEpoch,
  createTestLog,
  cutOf,
  genesisOf,
  mustApply,
  nextEpochWithout,
  sha256,
  type TestDevice,
  type TestLog,
} from './support/test-log.ts'

const timeMs = 1_700_000_000_000
const authorOf = ({ signer, deviceId }: TestDevice) => ({ signer, deviceId, timeMs })
const idsOf = (devices: readonly { readonly deviceId: Uint8Array }[]): string[] =>
  devices.map(({ deviceId }) => toHex(deviceId))
const sortedIdsOf = (...devices: readonly TestDevice[]): string[] => idsOf(devices).sort()

describe('the device log', () => {
  let log: TestLog
  let state: DeviceLogState
  beforeAll(async () => {
    log = await createTestLog()
    state = log.state
  })

  test('DEV-1: the ids are made of the keys and of genesis', () => {
    expect(deviceIdOf(crypto, log.member.record)).toEqual(log.member.deviceId)
    expect(log.member.deviceId[6]! >> 4).toBe(8)
    expect(deviceIdOf(crypto, { ...log.member.record, role: 'manager' })).toEqual(log.member.deviceId)
    expect(userIdOf(crypto, log.entries[0]!)).toEqual(state.userId)
    expect(entryHash(crypto, log.entries[2]!)).toEqual(state.head)
  })

  test('DEV-1: devices are told in the order in which they came, of genesis the manager first', async () => {
    expect(state.devices.size).toBe(4)
    expect(idsOf(devicesOf(state))).toEqual(idsOf([log.manager, log.recovery, log.second, log.member]))
    for (let index = 0; index < 8; index++) {
      const manager = createTestDevice(`manager ${index}`, 'manager')
      const genesis = mustApply(undefined, await craftGenesis(manager, log.recovery))
      expect(idsOf(devicesOf(genesis))).toEqual(idsOf([manager, log.recovery]))
    }
  })

  test('DEV-1: an entry has at most 16 KiB in all', () => {
    const header = { userId: state.userId, seq: 4, prev: state.head, timeMs, signer: log.manager.deviceId, opCode: 4 }
    const entryOf = (length: number): Uint8Array => {
      const rest = encodeEntry(encodeEntryBody(header, new Uint8Array(0)), new Uint8Array(64), new Uint8Array(0)).length
      return encodeEntry(encodeEntryBody(header, new Uint8Array(length - rest)), new Uint8Array(64), new Uint8Array(0))
    }
    expect(parseSignedEntry(entryOf(16_384))?.header).toEqual(header)
    expect(parseSignedEntry(entryOf(16_385))).toBeUndefined()
  })

  test('DEV-1: a record is read as it was written, with either KEM', () => {
    const xWing = { ...log.member.record, kemId: KEM_X_WING, kemPub: new Uint8Array(1216).fill(7) } as const
    for (const record of [xWing, log.member.record]) {
      expect(parseDeviceRecord(encodeDeviceRecord(record))).toEqual(record)
    }
  })

  test('DEV-1: the builders make what the verifier accepts, through a whole life', async () => {
    const { manager, recovery, second, member, newcomer } = log
    const genesis = await buildGenesis(crypto, {
      signer: manager.signer,
      timeMs,
      nonce: sha256('nonce'),
      manager: manager.record,
      recovery: { record: recovery.record, signer: recovery.signer },
      epoch: createTestEpoch(1, [manager, recovery]),
    })
    let now = mustApply(undefined, genesis)
    const entries = [genesis]
    const append = (entry: Uint8Array): void => {
      entries.push(entry)
      now = mustApply(now, entry)
    }
    for (const device of [second, member]) {
      const proof = await signDevicePop(device.signer, now.userId, device.record)
      append(await buildAdd(now, authorOf(manager), { record: device.record, boxHash: sha256('box'), proof }))
    }
    append(await buildRole(now, authorOf(second), { deviceId: member.deviceId, role: 'manager' }))
    append(await buildRotate(now, authorOf(member), nextEpochWithout(now)))
    const cut = { deviceId: second.deviceId, lastSeq: 12, chain: sha256('cut') }
    append(
      await buildRevoke(now, authorOf(recovery), { devices: [cut], reason: 1, epoch: nextEpochWithout(now, second) }),
    )
    const phrase = createTestDevice('phrase', 'recovery')
    append(
      await buildRecovery(now, authorOf(recovery), {
        record: phrase.record,
        epoch: createTestEpoch(4, [...nextEpochWithout(now, recovery).members, phrase]),
        proof: await signDevicePop(phrase.signer, now.userId, phrase.record),
      }),
    )
    const proof = await signDevicePop(newcomer.signer, now.userId, newcomer.record)
    append(await buildAdd(now, authorOf(phrase), { record: newcomer.record, boxHash: sha256('box'), proof }))
    expect(idsOf(activeDevices(now))).toEqual(sortedIdsOf(manager, member, phrase, newcomer))
    append(await buildSuspend(now, authorOf(phrase), cutOf(member)))
    append(await buildClose(now, authorOf(manager)))
    append(await buildCancel(now, authorOf(manager), now.head))
    const heir = createTestDevice('heir', 'recovery')
    append(
      await buildRecovery(now, authorOf(manager), {
        record: heir.record,
        epoch: undefined,
        proof: await signDevicePop(heir.signer, now.userId, heir.record),
      }),
    )
    const members = [...nextEpochWithout(now, phrase).members, heir]
    append(await buildSettle(now, authorOf(manager), { hash: now.head, epoch: createTestEpoch(5, members) }))
    expect(idsOf(activeDevices(now))).toEqual(sortedIdsOf(manager, heir, newcomer))
    expect(idsOf(keyHolders(now))).toEqual(sortedIdsOf(manager, heir, newcomer, member))
    append(await buildClose(now, authorOf(manager), await signClose(heir.signer, now)))
    expect(now).toMatchObject({ seq: 13, isClosed: true, epoch: { n: 5, logSeq: 12 } })
    expect(applyEntries(crypto, undefined, entries)).toEqual({ ok: true, state: now })
  })

  test('DEV-1: a log without a recovery device is a log', async () => {
    const { manager } = log
    const operation = genesisOf(manager, undefined)
    if (operation.type !== 'genesis') throw new Error('not genesis')
    const { nonce, epoch } = operation
    const parts = { signer: manager.signer, timeMs, nonce, manager: manager.record, recovery: undefined, epoch }
    const alone = mustApply(undefined, await buildGenesis(crypto, parts))
    expect(idsOf(activeDevices(alone))).toEqual(idsOf([manager]))
  })

  test('DEV-2: a revocation keeps the cut, takes the device out and starts an epoch', async () => {
    const after = mustApply(state, await craftRevoke(state, log.manager, log.member))
    expect(findDevice(after, log.member.deviceId)?.status).toEqual({
      type: 'revoked',
      atSeq: 3,
      lastSeq: 7,
      chain: sha256('cut'),
    })
    expect(idsOf(after.epoch.boxes)).toEqual(sortedIdsOf(log.manager, log.recovery, log.second))
    expect(after.epoch).toMatchObject({ n: 2, logSeq: 3 })
    expect(findEpoch(after, 1)).toEqual(state.epoch)
    expect(findEpoch(after, 2)).toBe(after.epoch)
    expect(findEpoch(after, 3)).toBeUndefined()
  })

  test('DEV-2: the boxes that come with an entry are those it commits to, bound to the head before it', async () => {
    const genesis = mustApply(undefined, log.entries[0]!)
    expect(idsOf(boxesOfNewestEntry(genesis))).toEqual(sortedIdsOf(log.manager, log.recovery))
    expect(boxesOfNewestEntry(genesis).map(({ logHead }) => logHead)).toEqual([new Uint8Array(32), new Uint8Array(32)])
    expect(linksOfNewestEntry(genesis)).toEqual([])

    const added = mustApply(state, await craftAdd(state, log.manager, log.newcomer))
    expect(boxesOfNewestEntry(added)).toMatchObject([
      { deviceId: log.newcomer.deviceId, logSeq: 3, logHead: state.head },
    ])
    expect(linksOfNewestEntry(added)).toEqual([])

    const role = { deviceId: log.member.deviceId, role: 'manager' } as const
    const promoted = mustApply(state, await buildRole(state, authorOf(log.manager), role))
    expect(boxesOfNewestEntry(promoted)).toEqual([])
    const rotated = mustApply(state, await buildRotate(state, authorOf(log.manager), nextEpochWithout(state)))
    const followed = mustApply(rotated, await buildRole(rotated, authorOf(log.manager), role))
    expect(linksOfNewestEntry(followed)).toEqual([])

    expect(boxesOfNewestEntry(rotated)).toHaveLength(4)
    expect(boxesOfNewestEntry(rotated)[0]).toMatchObject({ logSeq: 3, logHead: state.head })
    expect(linksOfNewestEntry(rotated)).toEqual([{ n: 1, boxHash: sha256('link 2 1') }])
  })

  test('DEV-5: a new recovery device takes the place of the old one, which then signs nothing', async () => {
    const phrase = createTestDevice('phrase', 'recovery')
    const members = [...nextEpochWithout(state, log.recovery).members, phrase]
    const parts = {
      record: phrase.record,
      epoch: createTestEpoch(2, members),
      proof: await signDevicePop(phrase.signer, state.userId, phrase.record),
      heirProof: await signRecoveryHeir(log.recovery.signer, state.userId, phrase.record),
    }
    const after = mustApply(state, await buildRecovery(state, authorOf(log.manager), parts))
    const chain = chainStart(crypto, state.userId, log.recovery.deviceId)
    expect(findDevice(after, log.recovery.deviceId)?.status).toEqual({ type: 'revoked', atSeq: 3, lastSeq: 0, chain })
    const byOld = await buildRotate(after, authorOf(log.recovery), nextEpochWithout(after))
    expect(applyEntry(crypto, after, byOld)).toEqual({ ok: false, rule: 'signer_inactive' })
    const byNew = await buildRotate(after, authorOf(phrase), nextEpochWithout(after))
    expect(applyEntry(crypto, after, byNew)).toMatchObject({ ok: true })
  })

  test('DEV-13: a suspended device keeps its cut and its place in the epochs, until it is revoked', async () => {
    const { manager, second, member, recovery } = log
    const suspended = mustApply(state, await buildSuspend(state, authorOf(manager), cutOf(member)))
    const device = findDevice(suspended, member.deviceId)!
    expect(device.status).toEqual({ type: 'suspended', atSeq: 3, lastSeq: 7, chain: sha256('cut') })
    expect([7, 8].map((seq) => isBeyondCut(device, seq))).toEqual([false, true])
    expect(suspended.epoch).toEqual(state.epoch)
    expect(linksOfNewestEntry(suspended)).toEqual([])
    expect(idsOf(activeDevices(suspended))).toEqual(sortedIdsOf(manager, second, recovery))
    const rotated = mustApply(suspended, await buildRotate(suspended, authorOf(manager), nextEpochWithout(suspended)))
    expect(idsOf(rotated.epoch.boxes)).toEqual(sortedIdsOf(manager, second, recovery, member))
    const revoked = mustApply(rotated, await craftRevoke(rotated, manager, member))
    const gone = findDevice(revoked, member.deviceId)!
    expect(gone.status).toEqual({ type: 'revoked', atSeq: 5, lastSeq: 7, chain: sha256('cut') })
    expect([7, 8].map((seq) => isBeyondCut(gone, seq))).toEqual([false, true])
  })

  test('DEV-14: a pending recovery device is no device, and its keys are counted', async () => {
    const phrase = createTestDevice('phrase', 'recovery')
    const proof = await signDevicePop(phrase.signer, state.userId, phrase.record)
    const parts = { record: phrase.record, epoch: undefined, proof }
    const asked = mustApply(state, await buildRecovery(state, authorOf(log.manager), parts))
    expect(asked.pendingRecovery).toEqual({
      hash: asked.head,
      atSeq: 3,
      record: phrase.record,
      signer: log.manager.deviceId,
    })
    expect(findDevice(asked, phrase.deviceId)).toBeUndefined()
    expect(devicesOf(asked)).toEqual(devicesOf(state))
    expect(asked.epoch).toEqual(state.epoch)
    expect([state.devices.keyCount, asked.devices.keyCount, asked.devices.size]).toEqual([4, 5, 4])
    const members = [...nextEpochWithout(asked, log.recovery).members, phrase]
    const epoch = createTestEpoch(2, members)
    const settled = mustApply(asked, await buildSettle(asked, authorOf(log.recovery), { hash: asked.head, epoch }))
    expect(findDevice(settled, phrase.deviceId)).toMatchObject({ addedSeq: 4, status: { type: 'active' } })
    expect([settled.devices.keyCount, settled.devices.size]).toEqual([5, 5])
  })

  test('DEV-5: the recovery device alone can bring the account back', async () => {
    const { manager, second, member, recovery, newcomer } = log
    const lost = mustApply(state, await craftRevoke(state, recovery, manager, second, member))
    const found = { ...newcomer, record: { ...newcomer.record, role: 'manager' } as const }
    const back = mustApply(lost, await craftAdd(lost, recovery, found))
    expect(idsOf(activeDevices(back))).toEqual(sortedIdsOf(recovery, newcomer))
  })

  test('DEV-1: a refused log names the place of the entry', () => {
    const [genesis, first, second] = log.entries
    expect(applyEntries(crypto, undefined, [genesis!, second!, first!])).toEqual({ ok: false, rule: 'seq', seq: 1 })
    expect(applyEntries(crypto, undefined, [])).toEqual({ ok: true, state: undefined })
  })

  test('DEV-1: a state holds no view of the bytes it was made of', () => {
    const bytes = log.entries[0]!.slice()
    const before = mustApply(undefined, bytes)
    bytes.fill(0)
    expect(before).toEqual(mustApply(undefined, log.entries[0]!))
  })

  test('DEV-1: a flip of any byte of an entry is refused', async () => {
    const entries = [await craftAdd(state, log.manager, log.newcomer), await craftRevoke(state, log.second, log.member)]
    for (const entry of entries) {
      expect(applyEntry(crypto, state, entry).ok).toBe(true)
      for (let at = 0; at < entry.length; at++) {
        const flipped = entry.slice()
        flipped[at]! ^= 1 << (at % 8)
        expect(applyEntry(crypto, state, flipped).ok, `byte ${at}`).toBe(false)
      }
    }
    const genesis = log.entries[0]!
    for (let at = 0; at < genesis.length; at++) {
      const flipped = genesis.slice()
      flipped[at]! ^= 1 << (at % 8)
      expect(applyEntry(crypto, undefined, flipped).ok, `byte ${at} of genesis`).toBe(false)
    }
  })

  test('DEV-1: no bytes make a parser of the device log throw', () => {
    const [genesis, add] = log.entries
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 600 }),
      // Near misses: a valid entry with a piece replaced.
      fc
        .tuple(fc.constantFrom(genesis!, add!), fc.nat(), fc.uint8Array({ maxLength: 40 }))
        .map(([entry, at, piece]) => {
          const start = at % entry.length
          return Uint8Array.of(...entry.subarray(0, start), ...piece, ...entry.subarray(start + piece.length))
        }),
    )
    fc.assert(
      fc.property(bytes, (entry) => {
        const isGenuine = toHex(entry) === toHex(genesis!)
        expect(applyEntry(crypto, undefined, entry).ok).toBe(isGenuine)
        expect(applyEntry(crypto, state, entry).ok).toBe(false)
        const record = parseDeviceRecord(entry)
        if (record !== undefined) expect(encodeDeviceRecord(record)).toEqual(entry)
      }),
      { numRuns: 500 },
    )
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 12 }), fc.uint8Array({ maxLength: 400 }), (code, payload) => {
        const parsed = parseOperation(code, payload)
        if (parsed.ok) expect(encodeOperation(parsed.operation)).toEqual(payload)
      }),
      { numRuns: 500 },
    )
  })
})
